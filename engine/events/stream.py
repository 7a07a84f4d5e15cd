"""Events from a stream that several processes share: read, handed on, settled.

An entry is settled only after its event was applied or its dead letter is kept, so a process may die at any
moment: what it held is claimed by another one and, being applied by id, counts once.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from engine.errors import ArbiterError
from engine.events.applying import Fate, Verdict
from engine.events.raw import RawEvent, read_event
from engine.events.types import EventRefused, Reason
from feature_store.errors import StoreError
from feature_store.sealing import TextCipher

EVENT, LATE = b"event", b"late"
"""Fields of an entry: the event as JSON, and whether it may be applied however late it is."""
SEALED_LETTER: Final = b"sealed"
"""Field of a dead letter that holds event and words where there is a key, and neither is there as it was."""
_NAMELESS: Final = frozenset({LATE, b"reason", b"entry", b"refused_ms"})
"""Fields of a dead letter that name nobody."""
ALONE_FROM: Final = 5
"""Deliveries from which an entry is handled alone: something ended the processes that held it."""
MOST_DELIVERIES: Final = 25
"""Then it is a dead letter: handled alone so often, it is what ends them."""
_TRIM_S: Final = 60.0
_PAUSES_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Between attempts while the store, the ledger or the stream cannot be reached."""

_log = structlog.get_logger("engine.events.stream")


class StreamEntry(Protocol):
    """One entry of a stream."""

    @property
    def id(self) -> str:
        """Names the entry."""
        ...

    @property
    def fields(self) -> Mapping[bytes, bytes]:
        """What was added."""
        ...

    @property
    def deliveries(self) -> int:
        """How often it was handed out."""
        ...

    @property
    def added_ms(self) -> int:
        """When it was added."""
        ...


class Stream(Protocol):
    """A stream read in a group. Raises StoreError."""

    def prepare(self) -> None:
        """Makes stream and group where they are missing."""
        ...

    def read(self, *, count: int, block_ms: int) -> Sequence[StreamEntry]:
        """New entries, waiting for the first."""
        ...

    def claim(self, *, idle_ms: int, count: int) -> Sequence[StreamEntry]:
        """Entries that another consumer holds and does not settle."""
        ...

    def settle(self, ids: Sequence[str], refused: Mapping[str, Mapping[bytes, bytes]]) -> None:
        """Acknowledges entries and keeps the dead letters of those refused, together."""
        ...

    def trim(self, *, older_than_ms: int) -> None:
        """Removes old entries that every group has settled."""
        ...


@dataclass(frozen=True, slots=True)
class Pace:
    """How a stream is read.

    `batch` entries at once; entries that nobody settles for `idle_ms` are claimed; settled ones are kept
    for `keep_ms`. `block_ms` bounds how long a stop waits.
    """

    batch: int = 500
    block_ms: int = 500
    idle_ms: int = 30_000
    keep_ms: int = 7 * 86_400_000


def seal_letter(letter: Mapping[bytes, bytes], cipher: TextCipher) -> dict[bytes, bytes]:
    """A dead letter of which only the key reads the event and the words; as it is where there is no key.

    What else its sender added to the entry is left out, as nobody knows what it is.
    """
    if cipher.current is None:
        return dict(letter)
    event, words = (letter.get(name, b"").decode(errors="replace") for name in (EVENT, b"words"))
    kept = {name: value for name, value in letter.items() if name in _NAMELESS}
    return kept | {SEALED_LETTER: cipher.sealed(json.dumps([event, words])).encode()}


class StreamIntake:
    """Hands events of a stream on until told to stop."""

    def __init__(
        self,
        stream: Stream,
        ingest: Callable[[Sequence[RawEvent]], list[Fate]],
        *,
        clock: Callable[[], int],
        pace: Pace,
        stop: threading.Event,
        cipher: TextCipher | None = None,
    ) -> None:
        """`cipher` seals dead letters; without one they are kept as sent."""
        self._cipher = cipher or TextCipher("dead letter")
        self._stream = stream
        self._ingest = ingest
        self._clock = clock
        self._pace = pace
        self._stop = stop
        self._claim_at_ms = 0
        self._trim_at_ms = clock() + round(_TRIM_S * 1000)
        self.handled = 0

    def run(self) -> None:
        """Until `stop` is set; the entries in hand are settled first where that can be done."""
        self._patiently(self._stream.prepare)
        while not self._stop.is_set():
            self._patiently(self.turn)

    def turn(self) -> None:
        """One batch of new entries, and one of those left behind. Raises StoreError and ArbiterError."""
        now_ms = self._clock()
        if now_ms >= self._claim_at_ms:
            left = self._stream.claim(idle_ms=self._pace.idle_ms, count=self._pace.batch)
            if left:
                _log.info("events.claimed", entries=len(left))
                self._handle(left)
            else:
                self._claim_at_ms = now_ms + self._pace.idle_ms // 2
        if now_ms >= self._trim_at_ms:
            self._stream.trim(older_than_ms=now_ms - self._pace.keep_ms)
            self._trim_at_ms = now_ms + round(_TRIM_S * 1000)
        self._handle(self._stream.read(count=self._pace.batch, block_ms=self._pace.block_ms))

    def _patiently(self, work: Callable[[], None]) -> None:
        """Does the work, again and again while what it needs cannot be reached."""
        attempt = 0
        while True:
            try:
                work()
                if attempt:
                    _log.info("events.stream.back", attempts=attempt)
                return
            except (StoreError, ArbiterError) as error:
                if attempt == 0:
                    _log.error("events.stream.waiting", cause=str(error.__cause__ or error))
                self._claim_at_ms = 0  # what was in hand is ours and pending
            if self._stop.wait(_PAUSES_S[min(attempt, len(_PAUSES_S) - 1)]):
                return
            attempt += 1

    def _handle(self, entries: Sequence[StreamEntry]) -> None:
        """Applies entries and settles them; again until it is done, as nobody else has them now."""
        if not entries:
            return
        suspects = [entry for entry in entries if entry.deliveries >= ALONE_FROM]
        others = [entry for entry in entries if entry.deliveries < ALONE_FROM]
        if others:
            self._patiently(lambda: self._settled(others))
        for suspect in suspects:
            self._patiently(lambda one=suspect: self._settled([one]))  # type: ignore[misc]  # bound now

    def _settled(self, entries: Sequence[StreamEntry]) -> None:
        refused: dict[str, EventRefused] = {}
        events: dict[str, RawEvent] = {}
        for entry in entries:
            try:
                events[entry.id] = _read(entry)
            except EventRefused as error:
                refused[entry.id] = error
        for name, fate in zip(events, self._fates(list(events.values())), strict=True):
            if fate.verdict is Verdict.REFUSED:
                refused[name] = EventRefused(fate.reason or Reason.NOT_APPLIED, fate.words)
        kept = {name for name, error in refused.items() if error.reason is not Reason.CUSTOMER_ERASED}
        letters = {e.id: self._letter(e, refused[e.id]) for e in entries if e.id in kept}
        self._stream.settle([entry.id for entry in entries], letters)
        self.handled += len(entries)

    def _fates(self, events: Sequence[RawEvent]) -> list[Fate]:
        """What became of events; what nobody foresaw is the fault of one of them, which is found."""
        if not events:
            return []
        try:
            return self._ingest(events)
        except (StoreError, ArbiterError):
            raise
        except Exception:
            if len(events) > 1:
                return [fate for event in events for fate in self._fates([event])]
            _log.exception("events.not_applied", event_type=events[0].type)
            words = "an internal error; its cause is in the log of the ingest process"
            return [Fate(Verdict.REFUSED, Reason.NOT_APPLIED, words)]

    def _letter(self, entry: StreamEntry, refused: EventRefused) -> dict[bytes, bytes]:
        letter = {
            **entry.fields,
            b"reason": refused.reason.encode(),
            b"words": str(refused).encode(errors="replace"),
            b"entry": entry.id.encode(),
            b"refused_ms": str(self._clock()).encode(),
        }
        return seal_letter(letter, self._cipher)


def _read(entry: StreamEntry) -> RawEvent:
    """The event of an entry. Raises EventRefused."""
    if entry.deliveries >= MOST_DELIVERIES:
        words = f"was delivered {entry.deliveries} times, and no process lived to settle it"
        raise EventRefused(Reason.NOT_APPLIED, words)
    text = entry.fields.get(EVENT)
    if text is None:
        raise EventRefused(Reason.MALFORMED, "the entry has no field `event`")
    return read_event(text, received_ms=entry.added_ms, late=LATE in entry.fields)
