"""What only the whole set can tell of event types: what their effects name, and who counts them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from engine.ruleset import diagnostics as codes
from engine.ruleset.diagnostics import Diagnostic, did_you_mean
from engine.ruleset.event_documents import (
    ConsentEffect,
    ContactEffect,
    DeclaredEvent,
    EventPackDocument,
    FromAttribute,
)
from engine.ruleset.reading import Located
from engine.ruleset.ruleset import RuleSet, duplicates
from engine.ruleset.signal_documents import AttributeType, SignalPackDocument
from engine.ruleset.yamltree import Path
from feature_store.aggregates import Aggregate
from feature_store.schema import Feature
from feature_store.state import ANY_CHANNEL, ConsentState, OutcomeType

RECORDED_STATES: Final = tuple(
    state.value
    for state in (ConsentState.GRANTED, ConsentState.DENIED, ConsentState.WITHDRAWN, ConsentState.OBJECTED)
)
REPORTED_OUTCOMES: Final = tuple(o.value for o in OutcomeType if o is not OutcomeType.RESERVED)
NUMBERS: Final = (AttributeType.INT, AttributeType.DOUBLE)
_OF_FEATURE: Final[Mapping[str, tuple[AttributeType, ...]]] = {
    "bool": (AttributeType.BOOL,),
    "int": (AttributeType.INT,),
    "double": NUMBERS,
    "category": (AttributeType.STRING,),
}
_SCHEMA: Final = "(feature schema)"


@dataclass(frozen=True, slots=True)
class _Event:
    """A declared event, where it stands, and its attributes by name."""

    pack: Located[EventPackDocument]
    path: Path
    entry: DeclaredEvent

    @property
    def types(self) -> dict[str, AttributeType]:
        """Types by attribute."""
        return {attribute.name: attribute.type for attribute in self.entry.attributes}

    @property
    def required(self) -> frozenset[str]:
        """Attributes that every event of the type has."""
        return frozenset(attribute.name for attribute in self.entry.attributes if attribute.required)


def declared_events(rules: RuleSet) -> tuple[Located[EventPackDocument], ...]:
    """The packs of a set, in order of their files."""
    return rules.reading.of_kind(EventPackDocument)


def check_events(rules: RuleSet) -> Iterator[Diagnostic]:
    """Every mistake in event packs; nothing where there is none."""
    packs = declared_events(rules)
    if not packs:
        return
    found = [_Event(p, ("events", i), e) for p in packs for i, e in enumerate(p.document.events)]
    yield from _twice(rules, found)
    for event in found:
        names = [attribute.name for attribute in event.entry.attributes]
        yield from duplicates(event.pack, (*event.path, "attributes"), names, "the attribute", "name")
        yield from _effects(rules, event)
    if not (rules.reading.has_unread("EventPack") or rules.reading.has_unread("SignalPack")):
        yield from _aggregates(rules, {event.entry.type: event.types for event in found})


def _twice(rules: RuleSet, found: list[_Event]) -> Iterator[Diagnostic]:
    """A type is declared once, in an event pack or in a signal pack."""
    seen = {
        entry.type for pack in rules.reading.of_kind(SignalPackDocument) for entry in pack.document.events
    }
    for event in found:
        if event.entry.type in seen:
            message = f"the event type `{event.entry.type}` is declared twice"
            advice = "rename or remove one of them"
            yield event.pack.problem((*event.path, "type"), codes.DECLARED_TWICE, message, advice)
        seen.add(event.entry.type)


def _effects(rules: RuleSet, event: _Event) -> Iterator[Diagnostic]:
    effects = event.entry.effects
    if effects is None:
        return
    if effects.contact is not None:
        yield from _contact(rules, event, effects.contact)
    if effects.consent is not None:
        yield from _consent(rules, event, effects.consent)
    for name, source in effects.features.items():
        yield from _feature(rules, event, name, source)


def _contact(rules: RuleSet, event: _Event, effect: ContactEffect) -> Iterator[Diagnostic]:
    path: Path = (*event.path, "effects", "contact")
    actions = [action.id for action in rules.actions] if rules.catalogue is not None else None
    yield from _text(event, (*path, "action"), effect.action, "action", actions)
    yield from _text(event, (*path, "channel"), effect.channel, "channel", _channels(rules))
    yield from _text(event, (*path, "outcome"), effect.outcome, "outcome", REPORTED_OUTCOMES)
    if effect.decision is not None:
        yield from _attribute(event, (*path, "decision"), effect.decision, (AttributeType.STRING,))


def _consent(rules: RuleSet, event: _Event, effect: ConsentEffect) -> Iterator[Diagnostic]:
    path: Path = (*event.path, "effects", "consent")
    purposes = [p.id for p in rules.consent.document.purposes] if rules.consent is not None else None
    channels = _channels(rules)
    known = None if channels is None else [ANY_CHANNEL, *channels]
    yield from _text(event, (*path, "purpose"), effect.purpose, "purpose", purposes)
    yield from _text(event, (*path, "channel"), effect.channel, "channel", known)
    yield from _text(event, (*path, "state"), effect.state, "state", RECORDED_STATES)


def _channels(rules: RuleSet) -> list[str] | None:
    return None if rules.vocabulary is None else [c.id for c in rules.vocabulary.document.channels]


def _text(
    event: _Event, path: Path, source: FromAttribute | str, what: str, known: Collection[str] | None
) -> Iterator[Diagnostic]:
    """A source of text: an attribute that is always there, or one of the names known (None: any)."""
    if isinstance(source, FromAttribute):
        yield from _attribute(event, path, source, (AttributeType.STRING,))
    elif known is not None and source not in known:
        advice = did_you_mean(source, known)
        yield event.pack.problem(path, codes.UNKNOWN_NAME, f"unknown {what} `{source}`", advice)


def _attribute(
    event: _Event, path: Path, source: FromAttribute, types: tuple[AttributeType, ...], *, always: bool = True
) -> Iterator[Diagnostic]:
    place: Path = (*path, "attribute")
    kind = event.types.get(source.attribute)
    if kind is None:
        message = f"the event `{event.entry.type}` has no attribute `{source.attribute}`"
        advice = did_you_mean(source.attribute, event.types)
        yield event.pack.problem(place, codes.UNKNOWN_NAME, message, advice)
    elif kind not in types:
        wanted = " or ".join(t.value for t in types)
        message = f"`{source.attribute}` is of type {kind.value}; {wanted} is needed here"
        yield event.pack.problem(place, codes.UNFIT_SOURCE, message, "change the attribute's type")
    elif always and source.attribute not in event.required:
        message = f"an event need not have `{source.attribute}`, and without it nothing can be done"
        yield event.pack.problem(place, codes.UNFIT_SOURCE, message, "add `required: true` to the attribute")


def _feature(rules: RuleSet, event: _Event, name: str, source: object) -> Iterator[Diagnostic]:
    path: Path = (*event.path, "effects", "features", name)
    features = {feature.name: feature for feature in rules.schema.feature}
    feature = features.get(name)
    if feature is None:
        advice = did_you_mean(name, features)
        message = f"unknown feature `{name}`"
        yield event.pack.yaml.problem(path, codes.UNKNOWN_NAME, message, advice, key=True)
    elif feature.aggregate is not None:
        message = f"the feature `{name}` is computed from events, so an event cannot set it"
        advice = "the schema's `aggregate` says which events count"
        yield event.pack.yaml.problem(path, codes.UNFIT_SOURCE, message, advice, key=True)
    elif isinstance(source, FromAttribute):
        yield from _attribute(event, path, source, _OF_FEATURE[feature.type], always=False)
    else:
        yield from _literal(event, path, feature, source)


def _literal(event: _Event, path: Path, feature: Feature, value: object) -> Iterator[Diagnostic]:
    try:
        feature.encode(value)  # type: ignore[arg-type]  # a plain value; what does not fit is refused
    except ValueError as error:
        yield event.pack.problem(path, codes.UNFIT_SOURCE, str(error), "write a value of the feature's type")


def _aggregates(rules: RuleSet, types: dict[str, dict[str, AttributeType]]) -> Iterator[Diagnostic]:
    """Streaming features of the schema whose events or attributes nobody declares."""
    for pack in rules.reading.of_kind(SignalPackDocument):
        types |= {e.type: {a.name: a.type for a in e.attributes} for e in pack.document.events}
    for feature in rules.schema.feature:
        if feature.aggregate is None:
            continue
        for event in feature.aggregate.events:
            if event not in types:
                yield _uncounted(feature, f"events `{event}`", did_you_mean(event, types))
            else:
                for wrong in _unfit(feature.aggregate, types[event]):
                    advice = did_you_mean(wrong, types[event])
                    yield _uncounted(feature, f"the attribute `{wrong}` of events `{event}`", advice)


def _unfit(aggregate: Aggregate, attributes: Mapping[str, AttributeType]) -> Iterator[str]:
    """Attributes that an aggregate reads and events of a type do not have, or not as numbers."""
    yield from (name for name in aggregate.where if name not in attributes)
    name = aggregate.attribute
    if name is not None:
        numeric = aggregate.function != "distinct"
        if name not in attributes or (numeric and attributes[name] not in NUMBERS):
            yield name


def _uncounted(feature: Feature, what: str, advice: str) -> Diagnostic:
    message = f"the feature `{feature.name}` counts {what}, which no pack declares so"
    return Diagnostic(_SCHEMA, 1, 1, codes.UNFIT_AGGREGATE, message, advice)
