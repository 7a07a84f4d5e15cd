"""Our side of the rule benchmarks: conditions compiled to programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import compress
from operator import itemgetter

import numpy as np

from engine.bench.cases import COLUMNS, INPUTS, Customer, Row, many_actions
from engine.core.rulebook import TRUE, Frame, Mask, PolicyRule, SourcePosition
from engine.domain import Action, Effect, PolicyClass
from engine.ruleset.cel import ConditionLanguage
from engine.ruleset.compile import CompiledRule, Program, compile_program

_HOLDS = bytes(int(truth == TRUE) for truth in range(256))
_PLACES = [[declared.name for declared in INPUTS].index(f"features.{name}") for name in COLUMNS]


def program_of(conditions: Sequence[str], actions: Sequence[Action]) -> Program:
    """Conditions checked and compiled, each as a rule for every action."""
    language = ConditionLanguage(INPUTS, {})
    scope = np.ones(len(actions), dtype=np.bool_)
    return compile_program(
        [_rule(language, str(i), text, scope) for i, text in enumerate(conditions)], actions
    )


def _rule(language: ConditionLanguage, name: str, text: str, scope: Mask) -> CompiledRule:
    node, problems = language.check(text)
    if node is None:
        raise ValueError(f"{text}: {problems}")
    place = SourcePosition("bench.yaml", 1, 1)
    rule = PolicyRule(name, PolicyClass.SUITABILITY, Effect.DENY, 0.0, "R", "", text, (), place)
    return CompiledRule(rule, node, scope)


def frame_of(customer: Customer, *, trouble: bool | None = None, churn: float | None = None) -> Frame:
    """A frame with the customer's features; the signal and the score may be missing."""
    values: list[object] = [None] * len(INPUTS)
    for place, name in zip(_PLACES, COLUMNS, strict=True):
        values[place] = customer[name]
    values[-2:] = [trouble, churn]
    missing = 0
    for place, value in enumerate(values):
        if value is None:
            missing |= 1 << place
    return Frame(values, missing, 0)


def table_reader(rows: Sequence[Row]) -> Callable[[Customer], list[int]]:
    """A function from a customer to the rows that hold, as the other engines offer it."""
    truths = program_of([row.condition for row in rows], many_actions(1)).customer.truths
    unscored: list[object] = [None] * (len(INPUTS) - len(COLUMNS))
    missing = sum(1 << place for place in range(len(COLUMNS), len(INPUTS)))
    values = itemgetter(*COLUMNS)  # the first inputs are the columns, in their order
    places = tuple(range(len(rows)))

    def holding(customer: Customer) -> list[int]:
        known = truths(Frame([*values(customer), *unscored], missing, 0))
        return [*compress(places, known.translate(_HOLDS))]

    return holding
