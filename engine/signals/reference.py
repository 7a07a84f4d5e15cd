"""The meaning of signals, written to be obvious: every span of every pattern, then the latest.

The oracle of the property tests. It follows the definitions in `engine.signals.patterns` and takes time that
grows with a power of the events, so serving uses `engine.signals.evaluator`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise, product

from engine.signals.conditions import fits, typed
from engine.signals.history import recent
from engine.signals.patterns import (
    Absence,
    AllPattern,
    AnyPattern,
    CountPattern,
    Event,
    EventPattern,
    Pattern,
    SequencePattern,
    SignalPattern,
    SignalPatterns,
)
from feature_store.state import Signal

Span = tuple[int, int]


def evaluate(patterns: SignalPatterns, events: Iterable[Event], now_ms: int) -> tuple[Signal, ...]:
    """Every signal of the set, standing or not, in order."""
    history = recent(events, types=patterns.event_types, now_ms=now_ms)
    return tuple(_signal(signal, history, now_ms) for signal in patterns.signals)


def _signal(signal: SignalPattern, history: Sequence[Event], now_ms: int) -> Signal:
    ends = {last for _, last in spans(signal.pattern, history, now_ms)}
    standing = [
        end
        for end in ends
        if now_ms < end + signal.valid_for_ms
        and all(is_absent(absence, end, history, now_ms) for absence in signal.absent)
    ]
    if not standing:
        return Signal(signal.id, False, now_ms, now_ms)
    since = max(standing)
    return Signal(signal.id, True, since, since + signal.valid_for_ms)


def is_absent(absence: Absence, since_ms: int, history: Sequence[Event], now_ms: int) -> bool:
    """Whether no event that fits came strictly after the beginning of the time in question."""
    begin = since_ms if absence.within_ms is None else now_ms - absence.within_ms
    return not any(begin < event.at_ms and fits(event, absence.event, now_ms) for event in history)


def spans(pattern: Pattern, history: Sequence[Event], now_ms: int) -> set[Span]:
    """Every span of the history that matches."""
    match pattern:
        case EventPattern():
            return {(e.at_ms, e.at_ms) for e in history if fits(e, pattern, now_ms)}
        case CountPattern():
            return _counted(pattern, history, now_ms)
        case AnyPattern(parts):
            return set().union(*(spans(part, history, now_ms) for part in parts))
        case SequencePattern(steps, within_ms):
            chosen = product(*(spans(step, history, now_ms) for step in steps))
            return {_around(c) for c in chosen if _in_order(c) and _length(c) < within_ms}
        case AllPattern(parts, within_ms):
            chosen = product(*(spans(part, history, now_ms) for part in parts))
            return {_around(c) for c in chosen if _length(c) < within_ms}


def _counted(pattern: CountPattern, history: Sequence[Event], now_ms: int) -> set[Span]:
    fitting = [e for e in history if fits(e, pattern.event, now_ms)]
    found: set[Span] = set()
    for first, last in product(fitting, fitting):
        between = [e for e in fitting if first.at_ms <= e.at_ms <= last.at_ms]
        enough = _size(pattern, between) >= pattern.at_least
        if enough and 0 <= last.at_ms - first.at_ms < pattern.within_ms:
            found.add((first.at_ms, last.at_ms))
    return found


def _size(pattern: CountPattern, events: Sequence[Event]) -> int:
    if pattern.distinct is None:
        return len(events)
    values = {typed(e.attributes.get(pattern.distinct), pattern.distinct_type) for e in events}
    return len(values - {None})


def _in_order(chosen: Sequence[Span]) -> bool:
    return all(before[1] < after[0] for before, after in pairwise(chosen))


def _around(chosen: Sequence[Span]) -> Span:
    return min(first for first, _ in chosen), max(last for _, last in chosen)


def _length(chosen: Sequence[Span]) -> int:
    first, last = _around(chosen)
    return last - first
