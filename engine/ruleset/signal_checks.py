"""What only the whole set can tell of signals: names of events, attributes and signals, and types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from engine.ruleset import diagnostics as codes
from engine.ruleset.diagnostics import Diagnostic, did_you_mean
from engine.ruleset.event_documents import DeclaredEvent, EventPackDocument
from engine.ruleset.reading import Located
from engine.ruleset.ruleset import RuleSet, duplicates
from engine.ruleset.signal_documents import (
    AbsenceEntry,
    AttributeCondition,
    AttributeType,
    CountEntry,
    EventTypeEntry,
    PatternEntry,
    SignalPackDocument,
)
from engine.ruleset.yamltree import Path

Attributes = Mapping[str, AttributeType]
MAX_PARTS: Final = 64
"""Events that one pattern names; so many need at most 192 rules of durable-rules, see `engine.signals`."""
SAME: Final = ("equals", "differs", "one_of")
ORDERED: Final = ("below", "at_most", "above", "at_least")
_OPERATIONS: Final[Mapping[AttributeType, tuple[str, ...]]] = {
    AttributeType.BOOL: SAME,
    AttributeType.STRING: SAME,
    AttributeType.INT: SAME + ORDERED,
    AttributeType.DOUBLE: SAME + ORDERED,
    AttributeType.TIMESTAMP: ("within_next",),
}
_WRITTEN: Final = {"differs": "not", "one_of": "in"}
_PYTHON: Final[Mapping[AttributeType, tuple[type, ...]]] = {
    AttributeType.BOOL: (bool,),
    AttributeType.STRING: (str,),
    AttributeType.INT: (int,),
    AttributeType.DOUBLE: (int, float),
    AttributeType.TIMESTAMP: (int,),
}


@dataclass(frozen=True, slots=True)
class _Atom:
    """One place that names an event, with what it asks of it."""

    path: Path
    event: str
    where: Mapping[str, AttributeCondition]
    distinct: str | None = None


def signal_packs(rules: RuleSet) -> tuple[Located[SignalPackDocument], ...]:
    """The packs of a set, in order of their files."""
    return rules.reading.of_kind(SignalPackDocument)


def event_types(
    packs: tuple[Located[SignalPackDocument], ...], events: tuple[Located[EventPackDocument], ...]
) -> dict[str, Attributes]:
    """Event type to its attributes, of all signal and event packs together."""
    entries: list[EventTypeEntry | DeclaredEvent] = [
        *(entry for pack in packs for entry in pack.document.events),
        *(entry for pack in events for entry in pack.document.events),
    ]
    return {entry.type: {a.name: a.type for a in entry.attributes} for entry in entries}


def check_signals(rules: RuleSet) -> Iterator[Diagnostic]:
    """Every mistake in signal packs; nothing where there is none."""
    packs = signal_packs(rules)
    if not packs:
        return
    types = event_types(packs, rules.reading.of_kind(EventPackDocument))
    complete = not (rules.reading.has_unread("SignalPack") or rules.reading.has_unread("EventPack"))
    yield from _twice(packs)
    for pack in packs:
        for i, entry in enumerate(pack.document.events):
            names = [attribute.name for attribute in entry.attributes]
            yield from duplicates(pack, ("events", i, "attributes"), names, "the attribute", "name")
        for i, signal in enumerate(pack.document.signals):
            path: Path = ("signals", i)
            atoms = list(_atoms(signal.pattern, (*path, "pattern")))
            if len(atoms) > MAX_PARTS:
                message = f"the pattern of `{signal.id}` names {len(atoms)} events; {MAX_PARTS} are allowed"
                advice = "make several signals of it, and join them in a condition"
                yield pack.problem((*path, "pattern"), codes.PATTERN_TOO_LARGE, message, advice)
            for atom in [*atoms, *_absences(signal.absent, path)]:
                yield from _atom(pack, atom, types, complete)
    yield from _vocabulary(rules, packs, complete)


def _twice(packs: tuple[Located[SignalPackDocument], ...]) -> Iterator[Diagnostic]:
    """Event types and signals are named once in all packs together."""
    seen: set[tuple[str, str]] = set()
    for pack in packs:
        entries: list[tuple[str, Path, str]] = [
            *(("event type", ("events", i, "type"), e.type) for i, e in enumerate(pack.document.events)),
            *(("signal", ("signals", i, "id"), s.id) for i, s in enumerate(pack.document.signals)),
        ]
        for what, path, name in entries:
            if (what, name) in seen:
                message = f"the {what} `{name}` is declared twice"
                yield pack.problem(path, codes.DECLARED_TWICE, message, "rename or remove one of them")
            seen.add((what, name))


def _vocabulary(
    rules: RuleSet, packs: tuple[Located[SignalPackDocument], ...], complete: bool
) -> Iterator[Diagnostic]:
    """Signals that no rule could name, and signals that no pattern ever raises."""
    if rules.vocabulary is None:
        return
    declared = [s.name for s in rules.vocabulary.document.signals]
    for pack in packs:
        for i, signal in enumerate(pack.document.signals):
            if signal.id not in declared:
                message = f"the signal `{signal.id}` is not in the vocabulary, so no rule can read it"
                advice = did_you_mean(signal.id, declared)
                yield pack.problem(("signals", i, "id"), codes.UNKNOWN_NAME, message, advice)
    raised = {signal.id for pack in packs for signal in pack.document.signals}
    for i, name in enumerate(declared):
        if complete and name not in raised:
            message = f"the signal `{name}` has no pattern, so it never stands"
            yield rules.vocabulary.problem(
                ("signals", i, "name"),
                codes.SIGNAL_WITHOUT_PATTERN,
                message,
                "add one in signals/, or remove it",
            )


def _atoms(pattern: PatternEntry, path: Path) -> Iterator[_Atom]:
    if pattern.event is not None:
        yield _Atom(path, pattern.event, pattern.where)
    if pattern.count is not None:
        yield _counted(pattern.count, (*path, "count"))
    parts: list[tuple[Path, tuple[PatternEntry, ...]]] = []
    if pattern.sequence is not None:
        parts.append(((*path, "sequence", "steps"), pattern.sequence.steps))
    if pattern.all_of is not None:
        parts.append(((*path, "all", "of"), pattern.all_of.of))
    if pattern.any_of is not None:
        parts.append(((*path, "any"), pattern.any_of))
    for place, entries in parts:
        for i, entry in enumerate(entries):
            yield from _atoms(entry, (*place, i))


def _counted(count: CountEntry, path: Path) -> _Atom:
    return _Atom(path, count.event, count.where, count.distinct)


def _absences(absent: tuple[AbsenceEntry, ...], path: Path) -> Iterator[_Atom]:
    for i, entry in enumerate(absent):
        yield _Atom((*path, "absent", i), entry.event, entry.where)


def _atom(
    pack: Located[SignalPackDocument], atom: _Atom, types: Mapping[str, Attributes], complete: bool
) -> Iterator[Diagnostic]:
    attributes = types.get(atom.event)
    if attributes is None:
        if complete:
            message = f"unknown event type `{atom.event}`"
            advice = did_you_mean(atom.event, types)
            yield pack.problem((*atom.path, "event"), codes.UNKNOWN_NAME, message, advice)
        return
    if atom.distinct is not None and atom.distinct not in attributes:
        yield _unknown(pack, (*atom.path, "distinct"), atom.distinct, atom.event, attributes)
    for name, condition in atom.where.items():
        path: Path = (*atom.path, "where", name)
        if name not in attributes:
            yield _unknown(pack, path, name, atom.event, attributes)
        else:
            yield from _condition(pack, path, condition, attributes[name])


def _unknown(
    pack: Located[SignalPackDocument], path: Path, name: str, event: str, attributes: Attributes
) -> Diagnostic:
    message = f"the event `{event}` has no attribute `{name}`"
    return pack.yaml.problem(path, codes.UNKNOWN_NAME, message, did_you_mean(name, attributes), key=True)


def _condition(
    pack: Located[SignalPackDocument], path: Path, condition: AttributeCondition, kind: AttributeType
) -> Iterator[Diagnostic]:
    for operation in sorted(condition.model_fields_set):
        written = _WRITTEN.get(operation, operation)
        place: Path = (*path, written)
        if operation not in _OPERATIONS[kind]:
            allowed = ", ".join(_WRITTEN.get(o, o) for o in _OPERATIONS[kind])
            message = f"`{written}` is not for attributes of type {kind.value}"
            yield pack.yaml.problem(place, codes.UNFIT_CONDITION, message, f"use {allowed}", key=True)
        elif not all(_has_type(value, kind) for value in _operands(condition, operation)):
            message = f"`{written}` must be of type {kind.value}, like the attribute"
            yield pack.problem(place, codes.UNFIT_CONDITION, message, "values are never converted")


def _operands(condition: AttributeCondition, operation: str) -> tuple[object, ...]:
    operand = getattr(condition, operation)
    return operand if isinstance(operand, tuple) else (operand,)


def _has_type(value: object, kind: AttributeType) -> bool:
    if isinstance(value, bool):
        return kind is AttributeType.BOOL
    return isinstance(value, _PYTHON[kind])
