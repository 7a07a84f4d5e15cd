"""What a signal waits for, in a sentence: for people who review a change of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from engine.ruleset.signal_documents import AbsenceEntry, AttributeCondition, PatternEntry, SignalPatternEntry

_TESTS: Final = {
    "equals": "is",
    "differs": "is not",
    "below": "below",
    "at_most": "at most",
    "above": "above",
    "at_least": "at least",
}
_UNITS: Final = (("w", 604_800_000, 8), ("d", 86_400_000, 2), ("h", 3_600_000, 1), ("m", 60_000, 1))
"""Units with their milliseconds, and the number from which they are used."""


def signal_fields(signal: SignalPatternEntry) -> dict[str, str]:
    """What a signal says, by words for people; no `unless` where nothing takes it back."""
    fields = {
        "pattern": pattern_words(signal.pattern),
        "unless": " or ".join(map(_absence, signal.absent)),
        "valid for": span(signal.valid_for),
        "description": " ".join(signal.description.split()),
    }
    return {name: text for name, text in fields.items() if text}


def pattern_words(pattern: PatternEntry) -> str:
    """A pattern as a phrase, its parts in brackets where they hold parts themselves."""
    if pattern.event is not None:
        return _event(pattern.event, pattern.where)
    if (count := pattern.count) is not None:
        events = _event(count.event, count.where)
        different = f" of different {count.distinct}" if count.distinct else ""
        return f"at least {count.at_least} {events}{different} within {span(count.within)}"
    if (sequence := pattern.sequence) is not None:
        return f"{', then '.join(map(_part, sequence.steps))}, within {span(sequence.within)}"
    if pattern.all_of is not None:
        return f"{' and '.join(map(_part, pattern.all_of.of))}, within {span(pattern.all_of.within)}"
    return " or ".join(map(_part, pattern.any_of or ()))


def span(duration_ms: int) -> str:
    """A duration as authors write it: in days from two on, in weeks from eight on."""
    return next(
        f"{duration_ms // size}{unit}"
        for unit, size, least in _UNITS
        if duration_ms % size == 0 and duration_ms >= least * size
    )


def _part(pattern: PatternEntry) -> str:
    words = pattern_words(pattern)
    return words if pattern.event is not None else f"({words})"


def _event(event: str, where: Mapping[str, AttributeCondition]) -> str:
    tests = " and ".join(words for name, condition in where.items() for words in _tests(name, condition))
    return f"{event} ({tests})" if tests else event


def _tests(name: str, condition: AttributeCondition) -> list[str]:
    given = {field: getattr(condition, field) for field in _TESTS}
    words = [f"{name} {_TESTS[field]} {_plain(value)}" for field, value in given.items() if value is not None]
    if condition.one_of is not None:
        words.append(f"{name} is one of {', '.join(map(_plain, condition.one_of))}")
    if condition.within_next is not None:
        words.append(f"{name} within the next {span(condition.within_next)}")
    return words


def _plain(value: bool | int | float | str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _absence(absent: AbsenceEntry) -> str:
    when = "since then" if absent.within is None else f"in the last {span(absent.within)}"
    return f"{_event(absent.event, absent.where)} {when}"
