"""Events from senders who get a result for each: applied, and what is refused is kept for mending too."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from engine.decisionlog.errors import LogError
from engine.errors import RequestInvalid, Violation
from engine.events.applying import Fate, Verdict
from engine.events.deadletters import DeadLetter, DiskDeadLetters
from engine.events.raw import RawEvent, write_event
from engine.events.types import Reason
from engine.service.decisions import Clock
from engine.service.events import Events

MAX_EVENTS = 500
"""In one batch: one update and one fsync for all of them, in a few milliseconds."""

MAX_ATTRIBUTES = 64
"""Of one event. No type declares more, and what is refused is kept whole as a dead letter."""

_log = structlog.get_logger("engine.service.intake")


class Intake:
    """Takes batches of events as they come in. Safe for threads."""

    def __init__(self, *, events: Events, letters: DiskDeadLetters, clock: Clock) -> None:
        self._events = events
        self._letters = letters
        self._clock = clock

    def ingest(self, events: Sequence[RawEvent]) -> list[Fate]:
        """What became of each event. Raises RequestInvalid, StateUnavailable and ConsentNotRecorded."""
        if not 1 <= len(events) <= MAX_EVENTS:
            words = f"has {len(events)} events; give 1 to {MAX_EVENTS}"
            raise RequestInvalid([Violation("events", words)])
        _refuse_endless(events)
        now_ms = self._clock()
        received = [event.received(now_ms) for event in events]
        fates = self._events.ingest(received)
        letters = [
            dead_letter(event, fate, now_ms=now_ms)
            for event, fate in zip(received, fates, strict=True)
            if fate.verdict is Verdict.REFUSED and fate.reason is not Reason.CUSTOMER_ERASED
        ]
        if letters:
            try:
                self._letters.put(letters)
            except LogError as error:  # the sender is told all the same
                _log.error("events.letters_not_kept", letters=len(letters), cause=str(error))
        return fates


def _refuse_endless(events: Sequence[RawEvent]) -> None:
    wrong = [
        Violation(f"events[{place}].attributes", f"has {count} entries; at most {MAX_ATTRIBUTES} are allowed")
        for place, event in enumerate(events)
        if (count := len(event.attributes)) > MAX_ATTRIBUTES
    ]
    if wrong:
        raise RequestInvalid(wrong)


def dead_letter(event: RawEvent, fate: Fate, *, now_ms: int) -> DeadLetter:
    """The letter of a refused event."""
    text = write_event(event).decode()
    return DeadLetter(text, fate.reason or "", fate.words, event.received_ms, now_ms)
