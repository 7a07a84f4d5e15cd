"""What the engine is told of a customer's history: whole numbers only, relative to now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from engine.signals.conditions import fits, typed
from engine.signals.patterns import Absence, CountPattern, Event, EventPattern, Value
from engine.signals.program import SignalProgram
from engine.signals.questions import LATEST

Fact = dict[str, int]
LONG_AGO: Final = -(10**15)
"""An instant before every event that is told, in ms from now."""


def leaf_facts(program: SignalProgram, history: Sequence[Event], now_ms: int) -> dict[int, list[Fact]]:
    """Facts by leaf; a leaf that nothing fits is left out."""
    facts = {node: _of_leaf(pattern, history, now_ms) for node, pattern in program.leaves.items()}
    return {node: [{"n": node, **fact} for fact in found] for node, found in facts.items() if found}


def latest_fact(program: SignalProgram, history: Sequence[Event], now_ms: int) -> Fact:
    """How old the root span may be (`r`), and when each absent event came last (`x0`, ...)."""
    signal = program.signal
    came = {f"x{k}": _came(absence, history, now_ms) for k, absence in enumerate(signal.absent)}
    return {"n": LATEST, "r": -signal.valid_for_ms, **came}


def _of_leaf(
    pattern: EventPattern | CountPattern, history: Sequence[Event], now_ms: int
) -> list[Mapping[str, int]]:
    event = pattern.event if isinstance(pattern, CountPattern) else pattern
    fitting = [e for e in history if fits(e, event, now_ms)]
    if isinstance(pattern, CountPattern) and pattern.distinct is not None:
        return [
            {"f": f - now_ms, "l": last - now_ms} for f, last in _tallied(pattern, pattern.distinct, fitting)
        ]
    instants = [e.at_ms - now_ms for e in fitting]
    return [{"f": at, "l": at, "i": i} for i, at in enumerate(instants)]


def _tallied(pattern: CountPattern, attribute: str, fitting: Sequence[Event]) -> list[tuple[int, int]]:
    """For each event the shortest span that ends with it and holds enough values, if within the window."""
    values = [typed(e.attributes.get(attribute), pattern.distinct_type) for e in fitting]
    inside: Counter[Value] = Counter()
    spans: list[tuple[int, int]] = []
    start = 0
    for last, value in zip(fitting, values, strict=True):
        if value is not None:
            inside[value] += 1
        while _enough_without(values[start], inside, pattern.at_least):
            _take_out(values[start], inside)
            start += 1
        if len(inside) >= pattern.at_least and last.at_ms - fitting[start].at_ms < pattern.within_ms:
            spans.append((fitting[start].at_ms, last.at_ms))
    return spans


def _enough_without(value: Value | None, inside: Counter[Value], wanted: int) -> bool:
    lost = value is not None and inside[value] == 1
    return len(inside) - lost >= wanted


def _take_out(value: Value | None, inside: Counter[Value]) -> None:
    if value is None:
        return
    inside[value] -= 1
    if not inside[value]:
        del inside[value]


def _came(absence: Absence, history: Sequence[Event], now_ms: int) -> int:
    """The latest instant of an absent event, so that a pattern complete before it does not stand.

    Absence for a time before now is the same for every span: an event within it comes after all of them.
    """
    latest = max((e.at_ms for e in history if fits(e, absence.event, now_ms)), default=None)
    if latest is None:
        return LONG_AGO
    if absence.within_ms is None:
        return latest - now_ms
    return 1 if latest > now_ms - absence.within_ms else LONG_AGO
