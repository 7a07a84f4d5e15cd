"""Many rules as one program: what `engine.core` runs for every decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

import numpy as np

from engine.core.rulebook import Frame, Mask, PolicyRule, Truths
from engine.domain import Action
from engine.ruleset.authored import NOTHING_AUTHORED, Authored
from engine.ruleset.candidate import CandidateConditions, compile_candidates, order_key
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
    authored: Authored = NOTHING_AUTHORED  # for tracing
    conditions: tuple[Node, ...] = ()  # of the rules, for running some of them alone
    actions: tuple[Action, ...] = ()

    def evaluate(self, frame: Frame) -> Truths:
        """Truth of every rule for every action, int8 of shape (rules, actions). Never raises."""
        truths = np.empty(self.scope.shape, dtype=np.int8)
        count = self.customer.count
        if count:
            truths[:count] = np.frombuffer(self.customer.truths(frame), dtype=np.int8)[:, None]
        if self.candidates.count:
            self.candidates.fill(frame, truths[count:])
        return truths

    def means_the_same(self, row: int, other: Program, other_row: int) -> bool:
        """Whether two rules have the same condition, whatever names and spelling it is written with."""
        one, two = self.conditions[row], other.conditions[other_row]
        return one == two and repr(one) == repr(two)  # 0.0 and -0.0 are equal, and not the same

    def only(self, rows: Sequence[int]) -> Program:
        """The program of some of the rules, in their order."""
        parts = [CompiledRule(self.rules[i], self.conditions[i], self.scope[i]) for i in rows]
        return compile_program(parts, self.actions)


def compile_program(
    rules: Sequence[CompiledRule],
    actions: Sequence[Action],
    authored: Authored = NOTHING_AUTHORED,
) -> Program:
    """Compiles rules for a fixed order of actions."""
    keyed = sorted(
        ((order_key(r.condition), r) for r in rules), key=itemgetter(0)
    )  # keeps the order of files
    ordered = [r for _, r in keyed]
    customer = [r.condition for key, r in keyed if key == 0]
    candidates = [r.condition for key, r in keyed if key > 0]
    scope = np.array([r.scope for r in ordered], dtype=np.bool_).reshape(len(ordered), len(actions))
    scope.flags.writeable = False
    return Program(
        rules=tuple(r.rule for r in ordered),
        scope=scope,
        customer=compile_customer(customer),
        candidates=compile_candidates(candidates, actions),
        authored=authored,
        conditions=tuple(r.condition for r in ordered),
        actions=tuple(actions),
    )
