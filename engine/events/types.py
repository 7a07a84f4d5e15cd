"""What may happen to a customer, as rule files declare it: attributes, lateness, effects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from engine.ruleset.signal_documents import AttributeType
from engine.signals.patterns import Value


class Reason(StrEnum):
    """Why an event was not applied; stable, for clients and for whoever mends it."""

    MALFORMED = "EVENT_MALFORMED"
    TYPE_UNKNOWN = "EVENT_TYPE_UNKNOWN"
    ATTRIBUTE_INVALID = "EVENT_ATTRIBUTE_INVALID"
    TOO_LATE = "EVENT_TOO_LATE"
    AHEAD = "EVENT_AHEAD"
    EFFECT_INVALID = "EVENT_EFFECT_INVALID"
    CUSTOMER_UNKNOWN = "CUSTOMER_UNKNOWN"
    IDENTITY_AMBIGUOUS = "IDENTITY_AMBIGUOUS"
    CUSTOMER_ERASED = "CUSTOMER_ERASED"  # of whom nothing may be kept, so it makes no dead letter either
    NOT_APPLIED = "EVENT_NOT_APPLIED"


class EventRefused(Exception):
    """An event that cannot be applied as it is. The words hold no personal data but what names it."""

    def __init__(self, reason: Reason, words: str) -> None:
        super().__init__(words)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of a type."""

    type: AttributeType
    required: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """Where an effect gets a value: from an attribute, or it is always the same."""

    attribute: str = ""
    always: Value = ""

    def of(self, attributes: Mapping[str, Value]) -> Value | None:
        """The value for one event; None where the event does not bring it."""
        return attributes.get(self.attribute) if self.attribute else self.always


@dataclass(frozen=True, slots=True)
class ContactTaken:
    """What makes the contact of an event."""

    action: Taken
    channel: Taken
    outcome: Taken
    decision: Taken | None = None


@dataclass(frozen=True, slots=True)
class ConsentTaken:
    """What makes the consent of an event."""

    purpose: Taken
    channel: Taken
    state: Taken


@dataclass(frozen=True, slots=True)
class EventType:
    """One declared type."""

    name: str
    description: str
    attributes: Mapping[str, Attribute]
    max_lateness_ms: int
    contact: ContactTaken | None = None
    consent: ConsentTaken | None = None
    features: Mapping[str, Taken] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EventTypes:
    """All types of a rule set."""

    by_name: Mapping[str, EventType]

    @property
    def horizon_ms(self) -> int:
        """How late the latest event may be: for so long ids are remembered."""
        return max((kind.max_lateness_ms for kind in self.by_name.values()), default=0)
