"""Reading a stream goes on whatever fails: nothing is settled too early, one bad event holds up no other."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from engine.errors import StateUnavailable
from engine.events.applying import Fate, Verdict
from engine.events.raw import RawEvent
from engine.events.stream import ALONE_FROM, MOST_DELIVERIES, Pace, StreamIntake
from engine.events.types import Reason
from feature_store.errors import StoreUnavailable
from feature_store.sealing import TextCipher

APPLIED = Fate(Verdict.APPLIED)


@dataclass
class Entry:
    """An entry as a stream hands it out."""

    id: str
    fields: Mapping[bytes, bytes]
    deliveries: int = 1
    added_ms: int = 1_000


@dataclass
class ListedStream:
    """A stream in a list. The first `failures` calls find no server."""

    new: list[Entry] = field(default_factory=list)
    left: list[Entry] = field(default_factory=list)
    failures: int = 0
    settled: list[str] = field(default_factory=list)
    letters: dict[str, Mapping[bytes, bytes]] = field(default_factory=dict)
    trimmed: list[int] = field(default_factory=list)
    emptied: Callable[[], None] = lambda: None

    def prepare(self) -> None:
        self._fail()

    def read(self, *, count: int, block_ms: int) -> Sequence[Entry]:
        self._fail()
        handed, self.new = self.new[:count], self.new[count:]
        if not handed:
            self.emptied()
        return handed

    def claim(self, *, idle_ms: int, count: int) -> Sequence[Entry]:
        handed, self.left = self.left[:count], self.left[count:]
        return handed

    def settle(self, ids: Sequence[str], refused: Mapping[str, Mapping[bytes, bytes]]) -> None:
        self._fail()
        self.settled += ids
        self.letters |= refused

    def trim(self, *, older_than_ms: int) -> None:
        self.trimmed.append(older_than_ms)

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("no connection")


def entry(name: str, deliveries: int = 1) -> Entry:
    """An entry with an event of the same id."""
    text = f'{{"event_id": "{name}", "type": "login", "customer_id": "C1"}}'
    return Entry(name, {b"event": text.encode()}, deliveries)


def run(
    stream: ListedStream, ingest: Callable[[Sequence[RawEvent]], list[Fate]], *, clock_ms: int = 0
) -> None:
    """Reads until the stream is empty."""
    stop = threading.Event()
    stream.emptied = stop.set
    StreamIntake(stream, ingest, clock=lambda: clock_ms, pace=Pace(batch=3), stop=stop).run()


def all_applied(events: Sequence[RawEvent]) -> list[Fate]:
    """Applies everything."""
    return [APPLIED for _ in events]


def test_entries_are_settled_after_they_are_applied() -> None:
    """Those left behind by others too; what is no event becomes a dead letter."""
    broken = Entry("3", {b"event": b"nonsense", b"trace": b"kept"})
    stream = ListedStream(new=[entry("1"), entry("2"), broken, Entry("4", {})], left=[entry("0")])

    run(stream, all_applied)

    assert sorted(stream.settled) == ["0", "1", "2", "3", "4"]
    assert {name: letter[b"reason"] for name, letter in stream.letters.items()} == {
        "3": b"EVENT_MALFORMED",
        "4": b"EVENT_MALFORMED",
    }
    assert stream.letters["3"][b"trace"] == b"kept"
    assert stream.letters["3"][b"entry"] == b"3"


def test_under_a_key_letters_hold_nothing_that_was_sent() -> None:
    """Neither event nor words nor fields of others; the reason and the place of the entry stay readable."""
    cipher = TextCipher("dead letter", [b"a long random text"])
    broken = Entry("3", {b"event": b"zoe", b"trace": b"zoe", b"late": b"1"})
    stream, stop = ListedStream(new=[broken]), threading.Event()
    stream.emptied = stop.set

    StreamIntake(stream, all_applied, clock=lambda: 0, pace=Pace(), stop=stop, cipher=cipher).run()

    letter = stream.letters["3"]
    assert set(letter) == {b"late", b"reason", b"entry", b"refused_ms", b"sealed"}
    assert b"zoe" not in b"".join(letter.values())
    assert json.loads(cipher.opened(letter[b"sealed"].decode()))[0] == "zoe"


def test_nothing_is_settled_while_the_store_is_away() -> None:
    """The same entries are tried again until they are applied, and the stream's server may be away too."""
    stream, attempts = ListedStream(new=[entry("1"), entry("2")], failures=2), 0

    def ingest(events: Sequence[RawEvent]) -> list[Fate]:
        nonlocal attempts
        attempts += 1
        assert stream.settled == []
        if attempts < 3:
            raise StateUnavailable("not now")
        return all_applied(events)

    run(stream, ingest)

    assert attempts == 3
    assert stream.settled == ["1", "2"]


def test_a_fault_of_ours_costs_one_event() -> None:
    """The others of the batch are applied."""
    stream = ListedStream(new=[entry("1"), entry("poison"), entry("2")])

    def ingest(events: Sequence[RawEvent]) -> list[Fate]:
        if any(event.id == "poison" for event in events):
            raise ZeroDivisionError
        return all_applied(events)

    run(stream, ingest)

    assert stream.settled == ["1", "poison", "2"]
    assert [letter[b"reason"] for letter in stream.letters.values()] == [Reason.NOT_APPLIED.encode()]


def test_what_ends_every_process_is_handled_alone_and_then_no_more() -> None:
    """After some deliveries in a batch of its own, after many not at all."""
    stream = ListedStream(left=[entry("1"), entry("odd", ALONE_FROM), entry("deadly", MOST_DELIVERIES)])
    batches: list[list[str]] = []

    def ingest(events: Sequence[RawEvent]) -> list[Fate]:
        batches.append([event.id for event in events])
        return all_applied(events)

    run(stream, ingest)

    assert batches == [["1"], ["odd"]]
    assert list(stream.letters) == ["deadly"]
    assert b"25 times" in stream.letters["deadly"][b"words"]


def test_a_stop_does_not_wait_for_a_store_that_is_away() -> None:
    """What is in hand stays pending, for another process."""
    stream, stop = ListedStream(new=[entry("1")]), threading.Event()

    def ingest(events: Sequence[RawEvent]) -> list[Fate]:
        stop.set()
        raise StateUnavailable("not now")

    StreamIntake(stream, ingest, clock=lambda: 0, pace=Pace(), stop=stop).run()

    assert stream.settled == []


def test_settled_entries_are_trimmed_now_and_then() -> None:
    """Older than they are to be kept."""
    now, stop = [0], threading.Event()
    stream = ListedStream(new=[entry("1")])
    intake = StreamIntake(stream, all_applied, clock=lambda: now[0], pace=Pace(keep_ms=1_000), stop=stop)

    intake.turn()
    now[0] = 61_000
    intake.turn()

    assert stream.trimmed == [60_000]
