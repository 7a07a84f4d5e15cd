"""Whether an event may be applied: form, type, attributes, time, and what its effects name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from engine.core.rulebook import Rulebook
from engine.domain import Action
from engine.events.raw import RawEvent, instant_ms
from engine.events.types import Attribute, ContactTaken, EventRefused, EventType, EventTypes, Reason
from engine.ruleset.event_checks import REPORTED_OUTCOMES
from engine.ruleset.signal_documents import AttributeType
from engine.signals.conditions import typed
from engine.signals.patterns import Value
from feature_store.schema import FeatureSchema, FeatureValue
from feature_store.state import ContactEvent, OutcomeType
from feature_store.streaming import MAX_MAGNITUDE

MAX_ID: Final = 128
MAX_TEXT: Final = 1_024
MAX_AHEAD_MS: Final = 5 * 60_000
"""How far the clock of a sender may be ahead of ours."""
DIGEST_BYTES: Final = 8
"""Of an event id: among a thousand ids of one customer two share it with a chance of 1 in 10^13."""
_MIN_AT_MS: Final = 0


@dataclass(frozen=True, slots=True)
class ContactMade:
    """The contact that an event is, and the decision that caused it."""

    event: ContactEvent
    decision_id: str | None = None


@dataclass(frozen=True, slots=True)
class ConsentGiven:
    """The will that an event brings, unchecked: the ledger's use case judges it."""

    purpose: str
    channel: str
    state: str


@dataclass(frozen=True, slots=True)
class CheckedEvent:
    """An event that may be applied. `features` are stored values by place in the vector, NaN to take away.

    `at_ms` is never after `received_ms`: a fast clock at the sender moves nothing into the future.
    """

    id: str
    digest: bytes
    customer_id: str
    type: EventType
    at_ms: int
    received_ms: int
    attributes: Mapping[str, Value]
    late: bool = False
    contact: ContactMade | None = None
    consent: ConsentGiven | None = None
    features: tuple[tuple[int, float], ...] = ()


class EventCheck:
    """Judges events by one rule set and schema. Immutable; safe to share."""

    def __init__(self, types: EventTypes, rulebook: Rulebook, schema: FeatureSchema) -> None:
        self._types = types.by_name
        self._schema = schema
        self._actions: Mapping[str, Action] = {action.id: action for action in rulebook.actions}
        self._channels = rulebook.vocabulary.channels
        self._summed = frozenset(_summed(schema))

    def check(self, raw: RawEvent, customer_id: str) -> CheckedEvent:
        """The event of a resolved customer. Raises EventRefused with the first thing that is wrong."""
        kind = self._types.get(raw.type)
        if kind is None:
            raise EventRefused(Reason.TYPE_UNKNOWN, f"no event type `{_shown(raw.type)}` is declared")
        at_ms = _when(raw, kind)
        attributes = self._attributes(kind, raw.attributes)
        return CheckedEvent(
            id=raw.id,
            digest=blake2b(raw.id.encode(), digest_size=DIGEST_BYTES).digest(),
            customer_id=customer_id,
            type=kind,
            at_ms=at_ms,
            received_ms=raw.received_ms,
            attributes=attributes,
            late=raw.late,
            contact=None if kind.contact is None else self._contact(kind.contact, attributes, at_ms),
            consent=None if kind.consent is None else _consent(kind, attributes),
            features=tuple(self._features(kind, attributes)) if kind.features else (),
        )

    def _attributes(self, kind: EventType, given: Mapping[str, Value]) -> dict[str, Value]:
        read: dict[str, Value] = {}
        for name, value in given.items():
            declared = kind.attributes.get(name)
            if declared is None:
                known = ", ".join(kind.attributes) or "none"
                words = f"`{kind.name}` has no attribute `{_shown(name)}`; declared are {known}"
                raise EventRefused(Reason.ATTRIBUTE_INVALID, words)
            read[name] = _value(name, declared, value)
            if (kind.name, name) in self._summed and abs(float(read[name])) > MAX_MAGNITUDE:
                words = f"`{name}` is beyond {MAX_MAGNITUDE:g}, so it cannot be summed"
                raise EventRefused(Reason.ATTRIBUTE_INVALID, words)
        for name, declared in kind.attributes.items():
            if declared.required and name not in read:
                raise EventRefused(Reason.ATTRIBUTE_INVALID, f"`{name}` is missing")
        return read

    def _contact(self, taken: ContactTaken, attributes: Mapping[str, Value], at_ms: int) -> ContactMade:
        action_id, channel, outcome = (
            str(source.of(attributes)) for source in (taken.action, taken.channel, taken.outcome)
        )
        action = self._actions.get(action_id)
        if action is None:
            words = f"the action `{_shown(action_id)}` is not in the catalogue"
            raise EventRefused(Reason.EFFECT_INVALID, words)
        if channel not in self._channels:
            words = f"the channel `{_shown(channel)}` is none of {', '.join(self._channels)}"
            raise EventRefused(Reason.EFFECT_INVALID, words)
        if outcome not in REPORTED_OUTCOMES:
            words = f"the outcome `{_shown(outcome)}` is none of {', '.join(REPORTED_OUTCOMES)}"
            raise EventRefused(Reason.EFFECT_INVALID, words)
        event = ContactEvent(at_ms, action_id, action.group, channel, action.purpose, OutcomeType(outcome))
        decision = None if taken.decision is None else taken.decision.of(attributes)
        return ContactMade(event, None if decision is None else str(decision))

    def _features(self, kind: EventType, attributes: Mapping[str, Value]) -> Iterator[tuple[int, float]]:
        for name, taken in kind.features.items():
            place = self._schema.index.get(name)
            value = taken.of(attributes)
            if place is None or value is None:
                continue
            feature = self._schema.feature[place]
            whole = feature.type == "int" and isinstance(value, float) and value.is_integer()
            fitting: FeatureValue = int(value) if whole else value
            try:
                yield place, feature.encode(fitting)
            except ValueError as error:
                raise EventRefused(Reason.EFFECT_INVALID, str(error)) from error


def check_form(raw: RawEvent) -> None:
    """That the event has an id and names a customer, in one way. Raises EventRefused."""
    for name, text in (("event_id", raw.id), ("type", raw.type)):
        _check_id(name, text)
    if raw.identity is not None:
        if raw.customer_id:
            raise EventRefused(Reason.MALFORMED, "names a customer_id and an identity; give one of them")
        _check_id("identity.type", raw.identity.type)
        _check_id("identity.value", raw.identity.value)
    else:
        _check_id("customer_id", raw.customer_id)


def _check_id(name: str, text: str) -> None:
    if not text:
        raise EventRefused(Reason.MALFORMED, f"`{name}` is missing")
    if len(text) > MAX_ID or not text.isprintable():
        raise EventRefused(Reason.MALFORMED, f"`{name}` needs 1 to {MAX_ID} printable characters")


def _when(raw: RawEvent, kind: EventType) -> int:
    """When it happened, at the latest when it was received. Raises EventRefused for a time that cannot be."""
    if raw.at_ms is None:
        return raw.received_ms
    if raw.at_ms > raw.received_ms + MAX_AHEAD_MS:
        words = f"occur_time is {(raw.at_ms - raw.received_ms) // 1000} s ahead; at most 300 s are allowed"
        raise EventRefused(Reason.AHEAD, words)
    if raw.at_ms <= _MIN_AT_MS:
        raise EventRefused(Reason.MALFORMED, "occur_time is before 1970")
    late_ms = raw.received_ms - raw.at_ms
    if late_ms > kind.max_lateness_ms and not raw.late:
        words = f"is {late_ms // 1000} s late; `{kind.name}` may be {kind.max_lateness_ms // 1000} s late"
        raise EventRefused(Reason.TOO_LATE, words)
    return min(raw.at_ms, raw.received_ms)


def _value(name: str, declared: Attribute, given: Value) -> Value:
    if declared.type is AttributeType.TIMESTAMP and isinstance(given, str):
        try:
            given = instant_ms(given, name) or 0
        except EventRefused as error:
            raise EventRefused(Reason.ATTRIBUTE_INVALID, str(error)) from error
    value = typed(given, declared.type)
    if value is None:
        raise EventRefused(Reason.ATTRIBUTE_INVALID, f"`{name}` is not of type {declared.type.value}")
    if isinstance(value, str) and len(value) > MAX_TEXT:
        words = f"`{name}` has {len(value)} characters; at most {MAX_TEXT} are allowed"
        raise EventRefused(Reason.ATTRIBUTE_INVALID, words)
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise EventRefused(Reason.ATTRIBUTE_INVALID, f"`{name}` does not fit 64 bits")
    return value


def _consent(kind: EventType, attributes: Mapping[str, Value]) -> ConsentGiven:
    taken = kind.consent
    assert taken is not None  # the caller looked
    purpose, channel, state = (str(t.of(attributes)) for t in (taken.purpose, taken.channel, taken.state))
    return ConsentGiven(purpose, channel, state)


def _summed(schema: FeatureSchema) -> Iterator[tuple[str, str]]:
    """Attributes whose values features add up, by type of event."""
    for feature in schema.feature:
        aggregate = feature.aggregate
        if aggregate is not None and aggregate.attribute and aggregate.function != "distinct":
            yield from ((event, aggregate.attribute) for event in aggregate.events)


def _shown(text: str) -> str:
    return text if len(text) <= 64 and text.isprintable() else "(unprintable)"
