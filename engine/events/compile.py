"""From the texts of a rule set to the event types it declares, in event packs and in signal packs."""

from __future__ import annotations

from collections.abc import Mapping

from engine.events.types import Attribute, ConsentTaken, ContactTaken, EventType, EventTypes, Taken
from engine.ruleset.diagnostics import RuleSetInvalid
from engine.ruleset.event_documents import (
    DEFAULT_LATENESS_MS,
    ConsentEffect,
    ContactEffect,
    DeclaredEvent,
    EventPackDocument,
    FromAttribute,
)
from engine.ruleset.filekinds import KINDS
from engine.ruleset.reading import read_documents
from engine.ruleset.signal_documents import EventTypeEntry, SignalPackDocument
from engine.ruleset.sources import RuleSources
from engine.signals.patterns import Value

_KINDS = ("SignalPack", "EventPack")


def event_types(sources: RuleSources) -> EventTypes:
    """The types of a rule set that `engine.ruleset.build.check` finds right; none where there is no pack.

    Raises RuleSetInvalid where a pack has mistakes of structure.
    """
    files = {path: text for path, text in sources.items() if any(kind in text for kind in _KINDS)}
    reading = read_documents(files, kinds=KINDS)
    wrong = [d for d in reading.diagnostics if any(y.file == d.file for y in reading.untyped)]
    if wrong:
        raise RuleSetInvalid(wrong)
    of_signals = (e for pack in reading.of_kind(SignalPackDocument) for e in pack.document.events)
    declared = (e for pack in reading.of_kind(EventPackDocument) for e in pack.document.events)
    types = [*map(_of_signals, of_signals), *map(_declared, declared)]
    return EventTypes({kind.name: kind for kind in types})


def _of_signals(entry: EventTypeEntry) -> EventType:
    attributes = {a.name: Attribute(a.type) for a in entry.attributes}
    return EventType(entry.type, entry.description, attributes, DEFAULT_LATENESS_MS)


def _declared(entry: DeclaredEvent) -> EventType:
    effects = entry.effects
    return EventType(
        name=entry.type,
        description=entry.description,
        attributes={a.name: Attribute(a.type, a.required) for a in entry.attributes},
        max_lateness_ms=entry.max_lateness,
        contact=_contact(effects.contact) if effects is not None and effects.contact is not None else None,
        consent=_consent(effects.consent) if effects is not None and effects.consent is not None else None,
        features=_features(effects.features) if effects is not None else {},
    )


def _contact(effect: ContactEffect) -> ContactTaken:
    decision = None if effect.decision is None else _taken(effect.decision)
    return ContactTaken(_taken(effect.action), _taken(effect.channel), _taken(effect.outcome), decision)


def _consent(effect: ConsentEffect) -> ConsentTaken:
    return ConsentTaken(_taken(effect.purpose), _taken(effect.channel), _taken(effect.state))


def _features(sources: Mapping[str, FromAttribute | Value]) -> dict[str, Taken]:
    return {name: _taken(source) for name, source in sources.items()}


def _taken(source: FromAttribute | Value) -> Taken:
    return Taken(attribute=source.attribute) if isinstance(source, FromAttribute) else Taken(always=source)
