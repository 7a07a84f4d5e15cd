"""The contact history: each contact once, in order, no older than the window."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_examples import DAY_MS, contact, reservation

from feature_store.contacts import ENDED_KEPT_MS, extended, key_digest, reserved
from feature_store.state import ContactHistory

NOW_MS = 1_000
KEEP_MS = 100

recorded = st.lists(st.tuples(st.integers(0, 1_200), st.integers(0, 15).map(str)), max_size=30)


def _history(rows: list[tuple[int, str]], *, keep_ms: int = KEEP_MS) -> ContactHistory:
    history = ContactHistory()
    for at_ms, key in rows:
        history = extended(history, contact(at_ms), key=key, now_ms=NOW_MS, keep_ms=keep_ms) or history
    return history


@given(recorded)
def test_events_are_ordered_and_paired_with_keys(rows: list[tuple[int, str]]) -> None:
    """After any writes events ascend in time and each has one key, none twice."""
    history = _history(rows)

    times = [event.at_ms for event in history.events]
    assert times == sorted(times)
    assert len(history.keys) == len(times) == len(set(history.keys))


@given(st.lists(st.integers(0, 1_200), max_size=30))
def test_no_contact_within_the_window_is_lost(times: list[int]) -> None:
    """In whatever order contacts arrive, all that a window ending now can reach are kept, each once."""
    kept = [event.at_ms for event in _history([(at_ms, str(at_ms)) for at_ms in times]).events]

    reachable = sorted({at_ms for at_ms in times if at_ms > NOW_MS - KEEP_MS})
    assert [at_ms for at_ms in kept if at_ms > NOW_MS - KEEP_MS] == reachable


def test_known_key_changes_nothing() -> None:
    """A contact under a key that is in the history is not counted: the answer is None."""
    history = _history([(950, "a")])

    again = extended(history, contact(999), key="a", now_ms=NOW_MS, keep_ms=KEEP_MS)

    assert again is None


def test_age_is_measured_from_the_newest_contact() -> None:
    """A contact exactly as old as the window is out; one a millisecond younger stays."""
    history = _history([(800, "out"), (801, "in"), (900, "newest")])

    assert [event.at_ms for event in history.events] == [801, 900]


def test_a_contact_ahead_of_now_ages_nothing() -> None:
    """A contact with a wrong clock is kept and does not push out true ones."""
    history = _history([(950, "true"), (9_999, "ahead")])

    assert [event.at_ms for event in history.events] == [950, 9_999]


def test_a_contact_too_old_is_accepted_and_forgotten() -> None:
    """A late contact that no window reaches leaves the history as it is."""
    history = _history([(950, "a"), (100, "late")])

    assert [event.at_ms for event in history.events] == [950]


def test_reservation_is_replaced_by_its_contact() -> None:
    """A contact that settles a reservation stands in its place; its key may be counted once only."""
    history = reserved(ContactHistory(), [reservation(900, key="r")], now_ms=NOW_MS, keep_ms=KEEP_MS)

    settled = extended(history, contact(950), key="a", now_ms=NOW_MS, keep_ms=KEEP_MS, settles="r")

    assert settled is not None
    assert settled == ContactHistory((contact(950),), (key_digest("a"),))
    assert extended(settled, contact(999), key="a", now_ms=NOW_MS, keep_ms=KEEP_MS, settles="r") is None


@given(recorded, st.sets(st.integers(0, 15).map(str)))
def test_reservations_take_no_contact_away(rows: list[tuple[int, str]], keys: set[str]) -> None:
    """Whatever is reserved under whatever keys, contacts stay, and no key stands twice."""
    history = _history(rows)

    longer = reserved(history, [reservation(0, key=key) for key in keys], now_ms=NOW_MS, keep_ms=10_000)

    rows_kept = list(zip(longer.events, longer.keys, strict=True))
    assert [r for r in rows_kept if r[0].until_ms is None] == list(
        zip(history.events, history.keys, strict=True)
    )
    assert len(longer.keys) == len(set(longer.keys)) == len({*history.keys, *map(key_digest, keys)})


@pytest.mark.parametrize(("after_end_ms", "kept"), [(ENDED_KEPT_MS - 1, True), (ENDED_KEPT_MS, False)])
def test_reservation_ended_long_ago_is_dropped(after_end_ms: int, kept: bool) -> None:
    """An ended reservation stays while a slow clock may take it for living, and goes then."""
    end_ms, ended = 5_000, reservation(1_000, key="ended", until_ms=5_000)
    history = reserved(ContactHistory(), [ended], now_ms=1_000, keep_ms=DAY_MS)
    now_ms = end_ms + after_end_ms

    longer = extended(history, contact(now_ms), key="new", now_ms=now_ms, keep_ms=DAY_MS)

    assert longer is not None
    assert (ended.event in longer.events) is kept


def test_reservation_survives_a_contact_from_a_wrong_clock() -> None:
    """A contact dated far ahead ends no reservation."""
    living = reservation(1_000, until_ms=2_000)
    history = reserved(ContactHistory(), [living], now_ms=1_000, keep_ms=DAY_MS)

    longer = extended(history, contact(1 << 50), key="wrong", now_ms=1_500, keep_ms=DAY_MS)

    assert longer is not None
    assert living.event in longer.events
