"""The kind `SignalPack`: facts derived from a customer's recent events, as authors write them."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import Field, PlainValidator, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from engine.ruleset.documents import Document, Milliseconds, Name, Strict, Text

MAX_STEPS: Final = 16
"""Parts of one `all`, `any` or `sequence`."""
MAX_AT_LEAST: Final = 500
"""The largest count; a customer's recent events are cut at 512."""
_MAX_TEXT: Final = 2_000
_PATTERNS: Final = ("event", "count", "sequence", "all", "any")


class AttributeType(StrEnum):
    """Type of an attribute. Values of another type never satisfy a condition; nothing is converted."""

    BOOL = "bool"
    INT = "int"
    DOUBLE = "double"
    STRING = "string"
    TIMESTAMP = "timestamp"  # milliseconds since the epoch, UTC


class AttributeEntry(Strict):
    """One attribute that events of a type may carry."""

    name: Name
    type: AttributeType


class EventTypeEntry(Strict):
    """A type of event that patterns may name."""

    type: Name
    description: Text
    attributes: Annotated[tuple[AttributeEntry, ...], Field(max_length=50)] = ()


def _plain(written: object) -> object:
    """A simple value, as it is written."""
    if isinstance(written, (bool, str)) and len(str(written)) <= _MAX_TEXT:
        return written
    if isinstance(written, int) and -(2**63) <= written < 2**63:
        return written
    if isinstance(written, float) and math.isfinite(written):
        return written
    raise PydanticCustomError("plain", "must be text, a number, or true or false")


Plain = Annotated[
    bool | int | float | str,
    PlainValidator(_plain),
    WithJsonSchema({"type": ["string", "number", "boolean"]}),
]


class AttributeCondition(Strict):
    """What an attribute must be; all that are given must hold."""

    equals: Plain | None = None
    differs: Annotated[Plain | None, Field(alias="not")] = None
    one_of: Annotated[tuple[Plain, ...] | None, Field(alias="in", min_length=1, max_length=200)] = None
    below: Plain | None = None
    at_most: Plain | None = None
    above: Plain | None = None
    at_least: Plain | None = None
    within_next: Milliseconds | None = None  # of an instant: from now on, for so long

    @model_validator(mode="after")
    def _says_something(self) -> AttributeCondition:
        if not self.model_fields_set:
            raise PydanticCustomError("empty", "says nothing; write e.g. {equals: /cancel}")
        return self


Where = Annotated[dict[Name, AttributeCondition], Field(max_length=20)]


class CountEntry(Strict):
    """At least so many events of a kind, the last less than `within` after the first."""

    event: Name
    where: Where = Field(default={})
    at_least: Annotated[int, Field(strict=True, ge=1, le=MAX_AT_LEAST)]
    within: Milliseconds
    distinct: Name | None = None  # count values of this attribute, not events


class SequenceEntry(Strict):
    """Parts that follow one another, each strictly after the one before, all less than `within` apart."""

    within: Milliseconds
    steps: Annotated[tuple[PatternEntry, ...], Field(min_length=2, max_length=MAX_STEPS)]


class AllEntry(Strict):
    """Parts in any order, all less than `within` apart."""

    within: Milliseconds
    of: Annotated[tuple[PatternEntry, ...], Field(min_length=2, max_length=MAX_STEPS)]


class PatternEntry(Strict):
    """One of: an event, a count, a sequence, all or any of several."""

    event: Name | None = None
    where: Where = Field(default={})
    count: CountEntry | None = None
    sequence: SequenceEntry | None = None
    all_of: Annotated[AllEntry | None, Field(alias="all")] = None
    any_of: Annotated[
        tuple[PatternEntry, ...] | None, Field(alias="any", min_length=2, max_length=MAX_STEPS)
    ] = None

    @model_validator(mode="after")
    def _exactly_one(self) -> PatternEntry:
        given = [self.event, self.count, self.sequence, self.all_of, self.any_of]
        if sum(part is not None for part in given) != 1:
            raise PydanticCustomError(
                "pattern", "must hold exactly one of {names}", {"names": ", ".join(_PATTERNS)}
            )
        if self.where and self.event is None:
            raise PydanticCustomError("pattern", "`where` stands beside `event`; move it there")
        return self


class AbsenceEntry(Strict):
    """An event that must not have come: since the pattern was complete, or within the time before now."""

    event: Name
    where: Where = Field(default={})
    within: Milliseconds | None = None


class SignalPatternEntry(Strict):
    """One signal: it stands from the instant its pattern is complete, for `valid_for`."""

    id: Name
    description: Text
    valid_for: Milliseconds
    pattern: PatternEntry
    absent: Annotated[tuple[AbsenceEntry, ...], Field(max_length=MAX_STEPS)] = ()


class SignalPackDocument(Document):
    """Signals that belong together, and the events they are made of."""

    kind: Literal["SignalPack"]
    events: Annotated[tuple[EventTypeEntry, ...], Field(max_length=500)] = ()
    signals: Annotated[tuple[SignalPatternEntry, ...], Field(max_length=500)] = ()
