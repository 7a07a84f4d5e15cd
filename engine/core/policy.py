"""Applies policy rules to the candidates: who is removed and why, and which levers pull.

A condition that touches a missing input is neither true nor false: an allow does not allow, a deny
denies, a lever does not pull, and the reason names the input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from engine.core import reasons
from engine.core.account import Account
from engine.core.inputs import PROPENSITY_SCORE, Inputs, describe
from engine.core.rulebook import (
    FALSE,
    TRUE,
    UNKNOWN,
    InputType,
    Mask,
    PolicyProgram,
    PolicyRule,
    Rulebook,
    Truths,
)
from engine.core.words import placeholders
from engine.domain import Effect, Lever, MissingCause, PolicyClass, Reason, ReasonSource, Stage

_STAGES: Mapping[PolicyClass, Stage] = {
    PolicyClass.ELIGIBILITY: Stage.ELIGIBILITY,
    PolicyClass.APPLICABILITY: Stage.APPLICABILITY,
    PolicyClass.SUITABILITY: Stage.SUITABILITY,
}
_ORDER = list(PolicyClass)
_MISSING_CODES = {True: reasons.INPUT_WITHHELD, False: reasons.INPUT_MISSING}


@dataclass(frozen=True, slots=True, eq=False)
class PolicyStage:
    """A compiled program with what does not change between decisions. Arrays are (rules,) or (rules, 1)."""

    program: PolicyProgram
    rules: tuple[PolicyRule, ...]
    input_index: Mapping[str, int]
    input_types: Sequence[InputType]
    placeholders: tuple[tuple[tuple[str, int], ...], ...]  # per rule: inputs its texts name
    passing: Truths  # (rules, 1): the truth with which an allow or a deny lets an action through
    gates: Mask  # (rules, actions): in scope of an allow or a deny
    pulls: Mask  # (rules, actions): in scope of a lever, weight or value that is not in shadow
    speaks: Mask  # (rules, actions): the same, or of an allow
    enforced: Mask  # not shadow
    has_shadow: bool
    always: bool  # whether every rule is in force at all times
    class_order: tuple[int, ...]  # place of each rule's class among the classes
    valid_from_ms: npt.NDArray[np.int64]
    valid_to_ms: npt.NDArray[np.int64]


@dataclass(slots=True)
class Pulls:
    """What rules did to the priority of each action still in: levers, a factor, and the value they set."""

    levers: dict[int, list[Lever]]
    factors: dict[int, float]
    reasons: dict[int, list[Reason]]
    values: dict[int, float] = field(default_factory=dict)


def prepare(program: PolicyProgram, rulebook: Rulebook) -> PolicyStage:
    """Lays a program out for many decisions."""
    rules = program.rules
    inputs = rulebook.vocabulary.inputs
    index = {item.name: i for i, item in enumerate(inputs)}
    limits = np.iinfo(np.int64)
    starts = [limits.min if r.valid_from_ms is None else r.valid_from_ms for r in rules]
    ends = [limits.max if r.valid_to_ms is None else r.valid_to_ms for r in rules]
    class_order = tuple(_ORDER.index(r.policy_class) if r.policy_class else 0 for r in rules)
    allows = _column([r.effect is Effect.ALLOW for r in rules])
    denies = _column([r.effect is Effect.DENY for r in rules])
    enforced = _column([not r.shadow for r in rules])
    return PolicyStage(
        program=program,
        rules=rules,
        input_index=index,
        input_types=[item.type for item in inputs],
        placeholders=tuple(_named_inputs(rule, rulebook, index) for rule in rules),
        passing=np.where(allows, np.int8(TRUE), np.int8(FALSE)),
        gates=program.scope & (allows | denies),
        pulls=program.scope & ~allows & ~denies & enforced,
        speaks=program.scope & ~denies & enforced,
        enforced=enforced,
        has_shadow=not enforced.all(),
        always=all(r.valid_from_ms is None and r.valid_to_ms is None for r in rules),
        class_order=class_order,
        valid_from_ms=np.array(starts, dtype=np.int64),
        valid_to_ms=np.array(ends, dtype=np.int64),
    )


def _column(flags: Sequence[bool]) -> Mask:
    return np.array(flags, dtype=np.bool_).reshape(len(flags), 1)


def _named_inputs(
    rule: PolicyRule, rulebook: Rulebook, index: Mapping[str, int]
) -> tuple[tuple[str, int], ...]:
    texts = [rulebook.reasons[code] for code in (rule.reason, rule.otherwise) if code]
    names = {name for text in texts for name in placeholders(text)}
    return tuple((name, index[name]) for name in sorted(names) if name in index)


@dataclass(slots=True)
class Verdict:
    """What one program said of every action: int8 truths and the rules in force, (rules, actions)."""

    stage: PolicyStage
    truths: Truths
    applies: Mask
    inputs: Inputs

    def removals(self, alive: Mask) -> Mask:
        """Which rule removes which action that is still in."""
        return self._in_force((self.truths != self.stage.passing) & self.stage.gates & alive)

    def held(self, alive: Mask, *, told: bool) -> Mask:
        """Which rule pulls which action that is still in, or with `told` also allows it."""
        said = self.stage.speaks if told else self.stage.pulls
        return self._in_force((self.truths == TRUE) & said & alive)

    def _in_force(self, found: Mask) -> Mask:
        return found if self.stage.always else found & self.applies


def evaluate(stage: PolicyStage, inputs: Inputs) -> Verdict:
    """Runs a program once."""
    applies = stage.program.scope
    if not stage.always:
        now_ms = inputs.frame.now_ms
        in_force = (stage.valid_from_ms <= now_ms) & (now_ms < stage.valid_to_ms)
        applies = applies & in_force.reshape(-1, 1)
    return Verdict(stage, stage.program.evaluate(inputs.frame), applies, inputs)


def remove(verdict: Verdict, account: Account) -> list[str]:
    """Removes what enforced rules forbid; returns the shadow rules that would have removed something."""
    stage = verdict.stage
    fails = verdict.removals(account.alive)
    enforced = fails & stage.enforced if stage.has_shadow else fails
    failing: dict[int, list[int]] = {}
    for row, action in zip(*map(np.ndarray.tolist, enforced.nonzero()), strict=True):
        failing.setdefault(action, []).append(row)
    told: dict[tuple[int, int], Reason] = {}
    for action, rows in failing.items():
        if len(rows) > 1:
            rows.sort(key=stage.class_order.__getitem__)
        policy_class = stage.rules[rows[0]].policy_class or PolicyClass.ELIGIBILITY
        reasons_told = tuple(_told(told, verdict, row, action) for row in rows)
        account.remove(action, _STAGES[policy_class], reasons_told)
    if not stage.has_shadow:
        return []
    shadowed = (fails & ~stage.enforced).any(axis=1)
    return [stage.rules[row].id for row in np.flatnonzero(shadowed).tolist()]


def remove_untold(verdict: Verdict, account: Account) -> None:
    """Removes what `remove` would, at the same stages, without saying why."""
    stage = verdict.stage
    fails = verdict.removals(account.alive)
    enforced = fails & stage.enforced if stage.has_shadow else fails
    first: dict[int, int] = {}
    for row, action in zip(*map(np.ndarray.tolist, enforced.nonzero()), strict=True):
        first[action] = min(first.get(action, len(_ORDER)), stage.class_order[row])
    for action, order in first.items():
        account.remove(action, _STAGES[_ORDER[order]], ())


def _told(told: dict[tuple[int, int], Reason], verdict: Verdict, row: int, action: int) -> Reason:
    """The reason of removal, made once for a rule and truth within a decision."""
    truth = int(verdict.truths[row, action])
    key = (row, truth)
    if key not in told:
        told[key] = _removal_reason(verdict, row, truth)
    return told[key]


def _removal_reason(verdict: Verdict, row: int, truth: int) -> Reason:
    rule = verdict.stage.rules[row]
    if truth == UNKNOWN:
        return _unknown_reason(verdict, rule)
    code = rule.otherwise if rule.effect is Effect.ALLOW else rule.reason
    return _rule_reason(verdict, row, code)


def _unknown_reason(verdict: Verdict, rule: PolicyRule) -> Reason:
    missing = missing_reads(verdict, rule)
    if not missing:
        return Reason(reasons.CONDITION_FAILED, ReasonSource.RULE, rule.id, values={"rule": rule.id})
    withheld = any(cause is MissingCause.WITHHELD for _, cause in missing)
    named = ", ".join(name for name, cause in missing if (cause is MissingCause.WITHHELD) == withheld)
    values = {"inputs": named, "rule": rule.id}
    return Reason(_MISSING_CODES[withheld], ReasonSource.RULE, rule.id, values=values)


def missing_reads(verdict: Verdict, rule: PolicyRule) -> list[tuple[str, MissingCause]]:
    """The inputs a rule reads that are missing, by name, with the cause."""
    found: list[tuple[str, MissingCause]] = []
    frame = verdict.inputs.frame
    for name in rule.reads:
        place = verdict.stage.input_index.get(name)
        if place is not None and frame.missing >> place & 1:
            found.append((name, verdict.inputs.cause(place)))
        elif name == PROPENSITY_SCORE and (frame.propensity is None or np.isnan(frame.propensity).any()):
            inputs = verdict.inputs
            found.append((name, MissingCause.ABSENT if inputs.profiled else inputs.unprofiled))
    return found


def _rule_reason(verdict: Verdict, row: int, code: str) -> Reason:
    stage = verdict.stage
    values = {
        name: describe(verdict.inputs.frame.values[place], stage.input_types[place])
        for name, place in stage.placeholders[row]
    }
    return Reason(code, ReasonSource.RULE, stage.rules[row].id, values=values)


def grounds(verdict: Verdict, candidates: Sequence[int], into: Pulls, *, told: bool = True) -> None:
    """Adds what speaks for the candidates still in: allows that held, levers and weights that pulled.

    With `told` False only what changes priorities, without reasons.
    """
    stage = verdict.stage
    if not candidates:
        return
    alive = np.zeros(verdict.applies.shape[1], dtype=np.bool_)
    alive[candidates] = True
    held = verdict.held(alive, told=told)
    made: dict[int, Reason] = {}
    for row, action in zip(*map(np.ndarray.tolist, held.nonzero()), strict=True):
        rule = stage.rules[row]
        if rule.effect is Effect.LEVER:
            into.levers.setdefault(action, []).append(Lever(rule.id, rule.amount))
        elif rule.effect is Effect.WEIGHT:
            into.factors[action] = into.factors.get(action, 1.0) * rule.amount
        elif rule.effect is Effect.VALUE:
            into.values[action] = into.values.get(action, 0.0) + rule.amount
        if told and rule.reason:
            reason = made.get(row) or made.setdefault(row, _rule_reason(verdict, row, rule.reason))
            into.reasons.setdefault(action, []).append(reason)


def unusable(verdict: Verdict, alive: Mask) -> dict[str, MissingCause]:
    """Inputs that left an enforced rule undecided for an action of `alive`."""
    stage = verdict.stage
    undecided = ((verdict.truths == UNKNOWN) & verdict.applies & stage.enforced & alive).any(axis=1)
    scored = verdict.inputs.frame.propensity is not None
    return {
        name: cause
        for row in undecided.nonzero()[0].tolist()
        for name, cause in missing_reads(verdict, stage.rules[row])
        if not (scored and name == PROPENSITY_SCORE)  # that an action has no model is not the customer's
    }
