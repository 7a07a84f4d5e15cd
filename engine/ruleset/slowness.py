"""Which conditions cannot be computed for all candidates at once, and so cost a little per action."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from engine.domain import Action
from engine.ruleset import diagnostics as codes
from engine.ruleset.diagnostics import Diagnostic
from engine.ruleset.expression import Node, is_action_level
from engine.ruleset.vector import VectorWriter
from engine.ruleset.yamltree import Path, YamlDocument

_ADVICE = (
    "right, but slower; compare a field of the action with one value or with `in`, each in a term of its own"
)


def slow_conditions(
    conditions: Iterable[tuple[YamlDocument, Path, Node]], actions: Sequence[Action]
) -> Iterator[Diagnostic]:
    """A note for each condition that runs action by action; paths are those of `when`."""
    for yaml, path, node in conditions:
        if is_action_level(node) and not VectorWriter(actions=actions).is_vectorised(node):
            message = "this is computed action by action, not for all actions at once"
            yield yaml.problem(path, codes.NOT_VECTORISED, message, _ADVICE)
