"""The named segments of a rule set, compiled to be asked of many customers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.core.rulebook import Frame
from engine.ruleset.customer import CustomerConditions, compile_customer
from engine.ruleset.definitions import SEGMENTS, glossary_of
from engine.ruleset.reading import read_documents
from engine.ruleset.ruleset import RuleSet
from feature_store.schema import FeatureSchema


@dataclass(frozen=True, slots=True, eq=False)
class NamedSegments:
    """Segments by name, in the order of their files, over frames of the same rule set."""

    names: tuple[str, ...]
    conditions: CustomerConditions

    def truths(self, frame: Frame) -> Sequence[int]:
        """For each 1 where the customer is in it, 0 where not, 255 where an input it needs is missing."""
        return self.conditions.truths(frame)


def named_segments(sources: Mapping[str, str], schema: FeatureSchema) -> NamedSegments:
    """The segments of a rule set that is right; none where no file declares any."""
    rules = RuleSet.of(read_documents(sources), schema, ())
    names = [entry.id for pack in rules.segment_packs for entry in pack.document.segments]
    language = glossary_of(rules).shared if names else None
    nodes = [] if language is None else [language.meaning(SEGMENTS + name).node for name in names]
    right = [(name, node) for name, node in zip(names, nodes, strict=True) if node is not None]
    return NamedSegments(tuple(name for name, _ in right), compile_customer([node for _, node in right]))
