"""Many rules as one program: what `engine.core` runs for every decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from engine.core.rulebook import Frame, Mask, PolicyRule, Truths
from engine.domain import Action
from engine.ruleset.candidate import CandidateConditions, compile_candidates, order_key
from engine.ruleset.cel import ConditionLanguage
from engine.ruleset.customer import CustomerConditions, compile_customer
from engine.ruleset.expression import Node


@dataclass(frozen=True, slots=True, eq=False)
class CompiledRule:
    """A rule, the meaning of its condition, and the actions it is for (bool, shape (actions,))."""

    rule: PolicyRule
    condition: Node
    scope: Mask


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """Rules compiled together; implements `engine.core.rulebook.PolicyProgram`.

    Customer-level rules come first, then action-level ones; within each, in the order of their files.
    """

    rules: tuple[PolicyRule, ...]
    scope: Mask  # (rules, actions)
    customer: CustomerConditions
    candidates: CandidateConditions
    languages: Mapping[str, ConditionLanguage] = field(default_factory=dict)  # by rule file, for tracing

    def evaluate(self, frame: Frame) -> Truths:
        """Truth of every rule for every action, int8 of shape (rules, actions). Never raises."""
        truths = np.empty(self.scope.shape, dtype=np.int8)
        count = self.customer.count
        if count:
            truths[:count] = np.frombuffer(self.customer.truths(frame), dtype=np.int8)[:, None]
        if self.candidates.count:
            self.candidates.fill(frame, truths[count:])
        return truths


def compile_program(
    rules: Sequence[CompiledRule],
    actions: Sequence[Action],
    languages: Mapping[str, ConditionLanguage] | None = None,
) -> Program:
    """Compiles rules for a fixed order of actions."""
    ordered = sorted(rules, key=lambda r: order_key(r.condition))  # stable: keeps the order of files
    customer = [r.condition for r in ordered if order_key(r.condition) == 0]
    candidates = [r.condition for r in ordered if order_key(r.condition) > 0]
    scope = np.array([r.scope for r in ordered], dtype=np.bool_).reshape(len(ordered), len(actions))
    scope.flags.writeable = False
    return Program(
        rules=tuple(r.rule for r in ordered),
        scope=scope,
        customer=compile_customer(customer),
        candidates=compile_candidates(candidates, actions),
        languages=languages or {},
    )
