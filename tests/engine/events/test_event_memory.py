"""What is remembered of events: ids for as long as they may come again, and no longer."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.events.memory import DAY_MS, FORMAT, MAX_IDS, Memory, read_memory, write_memory
from feature_store.errors import StoreCorrupt, StoreRefused
from feature_store.streaming import Tally

NOW_MS = 1_800_000_000_000
LATE_MS = 2 * DAY_MS


def digest(number: int) -> bytes:
    """The digest of an id."""
    return number.to_bytes(8, "big")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9 * DAY_MS), st.integers(0, LATE_MS)), max_size=60)
)
def test_no_event_is_applied_twice_nor_refused_in_time(
    arrivals: list[tuple[int, int, int]],
) -> None:
    """Whatever comes again whenever: counted once; what comes in order of receipt is never refused."""
    happened: dict[int, int] = {}
    applied: set[int] = set()
    memory = Memory()

    for number, received, late in sorted(arrivals, key=lambda row: row[1]):
        at_ms = happened.setdefault(number, NOW_MS + received - late)
        if NOW_MS + received - at_ms > LATE_MS:
            continue  # refused as too late before memory is asked
        memory = read_memory(write_memory(memory))
        known = memory.knows(digest(number))
        if not known:
            assert at_ms >= memory.floor_ms
            assert number not in applied
            memory.note(digest(number), received_ms=NOW_MS + received)
            applied.add(number)
        memory.forget_ids(horizon_ms=LATE_MS, now_ms=NOW_MS + 10 * DAY_MS)
        assert known == (number in applied) or not known


def test_ids_are_forgotten_when_no_copy_can_be_accepted() -> None:
    """Then the floor refuses what happened before them."""
    memory = Memory()
    memory.note(digest(1), received_ms=NOW_MS)
    memory.note(digest(2), received_ms=NOW_MS + 10 * DAY_MS)

    memory.forget_ids(horizon_ms=LATE_MS, now_ms=NOW_MS + 10 * DAY_MS)

    assert [memory.knows(digest(n)) for n in (1, 2)] == [False, True]
    assert NOW_MS < memory.floor_ms <= NOW_MS + 8 * DAY_MS


def test_a_flood_of_one_customer_is_bounded() -> None:
    """Older ids are dropped, and what happened before them is refused rather than counted twice."""
    memory = Memory()
    for number in range(MAX_IDS + 2):
        memory.note(digest(number), received_ms=NOW_MS + (number > MAX_IDS) * DAY_MS)
        if number >= MAX_IDS:
            memory.forget_ids(horizon_ms=LATE_MS, now_ms=NOW_MS + 10 * DAY_MS)

    assert [memory.knows(digest(n)) for n in (0, MAX_IDS + 1)] == [False, True]
    assert NOW_MS < memory.floor_ms <= NOW_MS + DAY_MS


def test_an_id_is_found_only_whole() -> None:
    """Bytes of two neighbours that look like a third are not it."""
    memory = Memory()
    memory.note(b"aaaaBBBB", received_ms=NOW_MS)
    memory.note(b"CCCCdddd", received_ms=NOW_MS)

    assert not memory.knows(b"BBBBCCCC")
    assert memory.knows(b"CCCCdddd")


@pytest.mark.parametrize("data", [b"x", b"\x91\x07", write_memory(Memory(format=FORMAT + 1))])
def test_what_was_not_written_by_us_is_refused(data: bytes) -> None:
    """Not read as something else."""
    with pytest.raises(StoreCorrupt):
        read_memory(data)


def test_a_sum_beyond_64_bits_is_refused() -> None:
    """Not cut."""
    with pytest.raises(StoreRefused, match="outgrown 64 bits"):
        write_memory(Memory(tallies={"f": Tally(b"", {}, {1: 1 << 70}, {})}))
