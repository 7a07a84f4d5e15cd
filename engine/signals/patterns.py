"""What signals are made of: typed event types, conditions and patterns, as they are evaluated.

A pattern is matched by *spans* of a customer's history: pairs (first, last) of instants.

- an event: (t, t) for each that fits;
- a count: from any event that fits to any later one, if at least n (values) lie between;
- a sequence: one span of each step, each beginning strictly after the one before has ended;
- all: one span of each part, in any order; any: the spans of every part.

Counts, sequences and `all` match only spans shorter than their window: last - first < within.
The signal stands from the end of its latest span, `valid_for` long, unless an event came that must be absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.ruleset.signal_documents import AttributeType

Value = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a customer. Ids are unique; a second event of the same id is ignored."""

    id: str
    type: str
    at_ms: int
    attributes: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What one attribute must be. `operation` is a name in `engine.signals.conditions`."""

    attribute: str
    type: AttributeType
    operation: str
    operand: Value | tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class EventPattern:
    """An event of a type that satisfies every comparison."""

    type: str
    where: tuple[Comparison, ...] = ()


@dataclass(frozen=True, slots=True)
class CountPattern:
    """At least so many events, or so many values of the attribute `distinct`."""

    event: EventPattern
    at_least: int
    within_ms: int
    distinct: str | None = None
    distinct_type: AttributeType = AttributeType.STRING


@dataclass(frozen=True, slots=True)
class SequencePattern:
    """Steps one after another."""

    steps: tuple[Pattern, ...]
    within_ms: int


@dataclass(frozen=True, slots=True)
class AllPattern:
    """Parts in any order."""

    parts: tuple[Pattern, ...]
    within_ms: int


@dataclass(frozen=True, slots=True)
class AnyPattern:
    """One of several parts."""

    parts: tuple[Pattern, ...]


Pattern = EventPattern | CountPattern | SequencePattern | AllPattern | AnyPattern


@dataclass(frozen=True, slots=True)
class Absence:
    """No such event since the pattern was complete, or (with `within_ms`) in the time before now."""

    event: EventPattern
    within_ms: int | None = None


@dataclass(frozen=True, slots=True)
class SignalPattern:
    """One signal."""

    id: str
    description: str
    valid_for_ms: int
    pattern: Pattern
    absent: tuple[Absence, ...] = ()


@dataclass(frozen=True, slots=True)
class SignalPatterns:
    """All signals of a rule set. `version` is the content address of the files they are written in."""

    version: str
    event_types: frozenset[str]
    signals: tuple[SignalPattern, ...]
