"""From the texts of a rule set to the signals it defines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from engine.ruleset.diagnostics import RuleSetInvalid
from engine.ruleset.event_documents import EventPackDocument
from engine.ruleset.filekinds import KINDS
from engine.ruleset.reading import read_documents
from engine.ruleset.signal_checks import Attributes, event_types
from engine.ruleset.signal_documents import (
    AbsenceEntry,
    AttributeCondition,
    AttributeType,
    CountEntry,
    PatternEntry,
    SignalPackDocument,
    SignalPatternEntry,
)
from engine.ruleset.sources import RuleSources
from engine.signals.patterns import (
    Absence,
    AllPattern,
    AnyPattern,
    Comparison,
    CountPattern,
    EventPattern,
    Pattern,
    SequencePattern,
    SignalPattern,
    SignalPatterns,
    Value,
)

_KINDS = ("SignalPack", "EventPack")


def signal_patterns(sources: RuleSources) -> SignalPatterns:
    """The signals of a rule set that `engine.ruleset.build.check` finds right; none where there is no pack.

    Reads only files that speak of signal or event packs. Raises RuleSetInvalid where one has mistakes of
    structure.
    """
    files = {path: text for path, text in sources.items() if any(kind in text for kind in _KINDS)}
    reading = read_documents(files, kinds=KINDS)
    packs = reading.of_kind(SignalPackDocument)
    events = reading.of_kind(EventPackDocument)
    own = {pack.yaml.file for pack in (*packs, *events)}
    wrong = [d for d in reading.diagnostics if any(y.file == d.file for y in reading.untyped)]
    if wrong:
        raise RuleSetInvalid(wrong)
    types = event_types(packs, events)
    signals = tuple(_signal(entry, types) for pack in packs for entry in pack.document.signals)
    return SignalPatterns(sources.digest_of(own), frozenset(types), signals)


def _signal(entry: SignalPatternEntry, types: Mapping[str, Attributes]) -> SignalPattern:
    return SignalPattern(
        id=entry.id,
        description=entry.description,
        valid_for_ms=entry.valid_for,
        pattern=_pattern(entry.pattern, types),
        absent=tuple(_absence(absent, types) for absent in entry.absent),
    )


def _pattern(entry: PatternEntry, types: Mapping[str, Attributes]) -> Pattern:
    if entry.count is not None:
        return _count(entry.count, types)
    if entry.sequence is not None:
        return SequencePattern(
            tuple(_pattern(step, types) for step in entry.sequence.steps), entry.sequence.within
        )
    if entry.all_of is not None:
        return AllPattern(tuple(_pattern(part, types) for part in entry.all_of.of), entry.all_of.within)
    if entry.any_of is not None:
        return AnyPattern(tuple(_pattern(part, types) for part in entry.any_of))
    assert entry.event is not None  # else diagnosed
    return _event(entry.event, entry.where, types)


def _count(entry: CountEntry, types: Mapping[str, Attributes]) -> CountPattern:
    event = _event(entry.event, entry.where, types)
    if entry.distinct is None:
        return CountPattern(event, entry.at_least, entry.within)
    kind = types[entry.event][entry.distinct]
    return CountPattern(event, entry.at_least, entry.within, entry.distinct, kind)


def _absence(entry: AbsenceEntry, types: Mapping[str, Attributes]) -> Absence:
    return Absence(_event(entry.event, entry.where, types), entry.within)


def _event(
    event: str, where: Mapping[str, AttributeCondition], types: Mapping[str, Attributes]
) -> EventPattern:
    attributes = types[event]
    comparisons = (c for name, asked in where.items() for c in _comparisons(name, asked, attributes[name]))
    return EventPattern(event, tuple(comparisons))


def _comparisons(name: str, asked: AttributeCondition, kind: AttributeType) -> Iterator[Comparison]:
    for operation in sorted(asked.model_fields_set):
        operand = getattr(asked, operation)
        values = (
            tuple(_operand(value, kind) for value in operand)
            if isinstance(operand, tuple)
            else _operand(operand, kind)
        )
        yield Comparison(name, kind, operation, values)


def _operand(value: Value, kind: AttributeType) -> Value:
    return float(value) if kind is AttributeType.DOUBLE else value
