"""Which events signals are made of, how long they are kept for that, and when time alone changes a signal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from engine.events.memory import KeptEvent
from engine.signals.conditions import OPERATIONS, typed
from engine.signals.history import MAX_EVENTS
from engine.signals.patterns import (
    AllPattern,
    AnyPattern,
    Comparison,
    CountPattern,
    Event,
    EventPattern,
    Pattern,
    SequencePattern,
    SignalPattern,
    SignalPatterns,
    Value,
)

_WITHIN_NEXT: Final = "within_next"


@dataclass(frozen=True, slots=True)
class _Interest:
    """One place of a pattern that asks for events of a type."""

    where: tuple[Comparison, ...]
    attributes: frozenset[str]
    keep_ms: int
    absent_ms: int | None = None

    def may_fit(self, attributes: Mapping[str, Value]) -> bool:
        """Whether the event fits now or can by the passing of time."""
        return all(_may_hold(wanted, attributes) for wanted in self.where)


class Relevance:
    """What the signals of one rule set ask of events. Immutable; safe to share."""

    def __init__(self, patterns: SignalPatterns) -> None:
        self._interests: dict[str, list[_Interest]] = {}
        for signal in patterns.signals:
            for event_type, interest in _interests(signal):
                self._interests.setdefault(event_type, []).append(interest)
        self.names = frozenset(signal.id for signal in patterns.signals)

    def kept(
        self, event_type: str, at_ms: int, digest: bytes, attributes: Mapping[str, Value]
    ) -> KeptEvent | None:
        """What is kept of an event; None where no signal can be made of it."""
        fitting = [i for i in self._interests.get(event_type, ()) if i.may_fit(attributes)]
        if not fitting:
            return None
        asked = frozenset().union(*(interest.attributes for interest in self._interests[event_type]))
        told = {name: value for name, value in attributes.items() if name in asked}
        return KeptEvent(event_type, at_ms, digest, told)

    def pruned(self, events: Iterable[KeptEvent], *, now_ms: int) -> list[KeptEvent]:
        """The events that may still matter, oldest first, the newest 512."""
        kept = [e for e in events if any(now_ms - e.at_ms < i.keep_ms for i in self._of(e))]
        return sorted(kept, key=lambda e: (e.at_ms, e.digest))[-MAX_EVENTS:]

    def next_change_ms(self, events: Iterable[KeptEvent], *, now_ms: int) -> int | None:
        """The first instant after now at which a signal may differ though nothing happens; None for never.

        That a signal ends when its validity ends is in the signal itself.
        """
        instants = (at for event in events for i in self._of(event) for at in _instants(event, i))
        return min((at for at in instants if at > now_ms), default=None)

    def _of(self, event: KeptEvent) -> list[_Interest]:
        return [i for i in self._interests.get(event.type, ()) if i.may_fit(event.attributes)]


def told(events: Iterable[KeptEvent]) -> tuple[Event, ...]:
    """The events as signals are evaluated on them."""
    return tuple(Event(e.digest.hex(), e.type, e.at_ms, e.attributes) for e in events)


def _interests(signal: SignalPattern) -> Iterator[tuple[str, _Interest]]:
    keep_ms = signal.valid_for_ms + _span_ms(signal.pattern)
    for event, distinct in _leaves(signal.pattern):
        yield event.type, _interest(event, keep_ms, distinct)
    for absence in signal.absent:
        keep = signal.valid_for_ms if absence.within_ms is None else absence.within_ms
        yield absence.event.type, _interest(absence.event, keep, None, absence.within_ms)


def _interest(
    event: EventPattern, keep_ms: int, distinct: str | None, absent_ms: int | None = None
) -> _Interest:
    named = {wanted.attribute for wanted in event.where} | ({distinct} if distinct else set())
    return _Interest(event.where, frozenset(named), keep_ms, absent_ms)


def _leaves(pattern: Pattern) -> Iterator[tuple[EventPattern, str | None]]:
    match pattern:
        case EventPattern():
            yield pattern, None
        case CountPattern():
            yield pattern.event, pattern.distinct
        case SequencePattern():
            for step in pattern.steps:
                yield from _leaves(step)
        case AllPattern() | AnyPattern():
            for part in pattern.parts:
                yield from _leaves(part)


def _span_ms(pattern: Pattern) -> int:
    """How long before its end a match may have begun."""
    match pattern:
        case EventPattern():
            return 0
        case AnyPattern():
            return max(_span_ms(part) for part in pattern.parts)
        case CountPattern() | SequencePattern() | AllPattern():
            return pattern.within_ms


def _may_hold(wanted: Comparison, attributes: Mapping[str, Value]) -> bool:
    value = typed(attributes.get(wanted.attribute), wanted.type)
    if value is None:
        return False
    return wanted.operation == _WITHIN_NEXT or OPERATIONS[wanted.operation](value, wanted.operand, 0)


def _instants(event: KeptEvent, interest: _Interest) -> Iterator[int]:
    """Instants from which on an event counts for one place of a pattern, or no longer does."""
    for wanted in interest.where:
        if wanted.operation == _WITHIN_NEXT:
            ends, ahead = int(event.attributes[wanted.attribute]), int(wanted.operand)  # type: ignore[arg-type]  # a duration
            yield from (ends - ahead + 1, ends + 1)
    if interest.absent_ms is not None:
        yield event.at_ms + interest.absent_ms
