"""Pairs of rules that together leave an action to nobody."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, islice
from typing import Final

from engine.domain import Effect
from engine.ruleset import diagnostics as codes
from engine.ruleset.asof import share_an_instant
from engine.ruleset.diagnostics import Diagnostic
from engine.ruleset.documents import ActionEntry
from engine.ruleset.facts import Fact, Facts, Scoped, window
from engine.ruleset.regions import Region, anything_left

MAX_PAIRS: Final = 50_000
"""Pairs of rules that are compared; of a set with more the check says so."""
MAX_STEPS: Final = 1_024
"""Boxes of two conditions that are held against each other."""
_SHOWN: Final = 3


def contradictions(facts: Facts) -> Iterator[Diagnostic]:
    """Pairs of gates that no case passes both of, with all actions they leave to nobody."""
    actions: dict[tuple[int, int], list[str]] = {}
    pairs: dict[tuple[int, int], tuple[Fact, Fact]] = {}
    apart: dict[tuple[int, int], bool | None] = {}
    for scoped, one, other in islice(_pairs(facts), MAX_PAIRS):
        key = id(one), id(other)
        if key not in apart or one.by_action or other.by_action:
            apart[key] = _exclude(one, other, scoped.action)
        if apart[key] and share_an_instant(one.window, other.window, window(scoped.action.valid)):
            pairs[key] = one, other
            actions.setdefault(key, []).append(scoped.action.id)
    for key, (one, other) in pairs.items():
        whom = names(actions[key])
        message = (
            f"with `{one.entry.id}` in {one.yaml.file}:{one.position[0]} this rule leaves {whom} to nobody"
        )
        yield other.problem(codes.CONTRADICTION, message, _advice(one, other), "when")
    yield from _in_part(facts, sum(found is None for found in apart.values()))


def _pairs(facts: Facts) -> Iterator[tuple[Scoped, Fact, Fact]]:
    for scoped in facts.scoped:
        for one, other in combinations(facts.gates(scoped), 2):
            yield scoped, one, other


def _in_part(facts: Facts, skipped: int) -> Iterator[Diagnostic]:
    """Says that not all pairs were compared, where there are too many, or some have too many cases."""
    located, numbers = facts.rules.catalogue, [len(tuple(facts.gates(s))) for s in facts.scoped]
    found = sum(number * (number - 1) // 2 for number in numbers)
    left_out = max(0, found - MAX_PAIRS) + skipped
    if left_out and located is not None:
        message = (
            f"of {found:,} pairs of rules for one action, {left_out:,} were not compared; "
            "a contradiction among them goes unnoticed"
        )
        advice = "narrow the scopes of rules that are for many actions, or simplify their conditions"
        yield located.problem(("actions",), codes.ANALYSED_IN_PART, message, advice)


def _exclude(one: Fact, other: Fact, action: ActionEntry) -> bool | None:
    """Whether each gate has a case that passes it, and none passes both; None where that is not known."""
    first, second = one.passes(action), other.passes(action)
    if not first or not second or _variables(first).isdisjoint(_variables(second)):
        return False
    left = anything_left((first, second), limit=MAX_STEPS)
    return None if left is None else not left


def _variables(region: Region) -> set[object]:
    return {variable for box in region for variable in box}


def _advice(one: Fact, other: Fact) -> str:
    if one.entry.effect is other.entry.effect is Effect.ALLOW:
        return "an action needs every allow to hold; join the two conditions with ||"
    return "whoever one of the two lets pass, the other removes; correct one condition or scope"


def names(of: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(f"`{name}`" for name in of[:_SHOWN])
    return shown + (f" and {len(of) - _SHOWN} more" if len(of) > _SHOWN else "")
