"""Applies policy rules to the candidates: who is removed and why, and which levers pull.

A condition that touches a missing input is neither true nor false: an allow does not allow, a deny
denies, a lever does not pull, and the reason names the input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

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
from engine.domain import (
    Effect,
    Lever,
    MissingCause,
    PolicyClass,
    Reason,
    ReasonSource,
    Stage,
    SuppressedAction,
)

_STAGES: Mapping[PolicyClass, Stage] = {
    PolicyClass.ELIGIBILITY: Stage.ELIGIBILITY,
    PolicyClass.APPLICABILITY: Stage.APPLICABILITY,
    PolicyClass.SUITABILITY: Stage.SUITABILITY,
}
_ORDER = list(PolicyClass)
_REMEMBERED: Final = 4096
"""Fates and reasons that decisions share, by what they say; a rule set has hundreds that come up."""
_UNKNOWN_BYTE: Final = np.int8(UNKNOWN).tobytes()
_MISSING_CODES = {True: reasons.INPUT_WITHHELD, False: reasons.INPUT_MISSING}


@dataclass(frozen=True, slots=True)
class Removal:
    """What removes an action: the failing rules as they are told, and the step of the first."""

    rows: tuple[int, ...]
    stage: Stage


@dataclass(frozen=True, slots=True)
class Ground:
    """What a set of rules that hold does for an action, in the order of the rules.

    `reasons` are those of the rules of `telling`; None where one names inputs, and so says something else in
    each decision.
    """

    levers: tuple[Lever, ...]
    factors: tuple[float, ...]
    values: tuple[float, ...]
    telling: tuple[int, ...]
    reasons: tuple[Reason, ...] | None


@dataclass(frozen=True, slots=True, eq=False)
class PolicyStage:
    """A compiled program with what does not change between decisions. Arrays are (rules,) or (rules, 1).

    Sets of rules are bytes, a bit for each, the first rule being the highest bit of the first byte. What
    they come to is worked out when it first comes up and then shared: `removal`, `fate` of an action (by its
    place) whose failing rules were all decided and name no inputs, else None, and `ground`. `reason` is of a
    rule, a code, and the inputs it names as text.
    """

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
    removal: Callable[[bytes], Removal]
    fate: Callable[[int, bytes], SuppressedAction | None]
    ground: Callable[[bytes], Ground]
    reason: Callable[..., Reason]


@dataclass(slots=True)
class Pulls:
    """What rules did to the priority of each action still in: levers, a factor, and the value they set."""

    levers: dict[int, tuple[Lever, ...]]
    factors: dict[int, float]
    reasons: dict[int, tuple[Reason, ...]]
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
    named = tuple(_named_inputs(rule, rulebook, index) for rule in rules)
    shared = _Shared(rules, class_order, named, tuple(action.id for action in rulebook.actions))
    return PolicyStage(
        program=program,
        rules=rules,
        input_index=index,
        input_types=[item.type for item in inputs],
        placeholders=named,
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
        removal=lru_cache(_REMEMBERED)(shared.removal),
        fate=lru_cache(_REMEMBERED)(shared.fate),
        ground=lru_cache(_REMEMBERED)(shared.ground),
        reason=lru_cache(_REMEMBERED)(shared.reason),
    )


@dataclass(frozen=True, slots=True)
class _Shared:
    """Works out what sets of a program's rules come to, the same in every decision."""

    rules: tuple[PolicyRule, ...]
    class_order: tuple[int, ...]
    named: tuple[tuple[tuple[str, int], ...], ...]
    actions: tuple[str, ...]

    def removal(self, rules: bytes) -> Removal:
        """What these rules, which fail for an action, remove it with."""
        rows = sorted(_members(rules, len(self.rules)), key=self.class_order.__getitem__)
        policy_class = self.rules[rows[0]].policy_class or PolicyClass.ELIGIBILITY
        return Removal(tuple(rows), _STAGES[policy_class])

    def fate(self, action: int, rules: bytes) -> SuppressedAction | None:
        """What becomes of an action for which these rules fail; None where a reason names inputs."""
        removal = self.removal(rules)
        if any(self.named[row] for row in removal.rows):
            return None
        reasons = tuple(self.reason(row, _removal_code(self.rules[row])) for row in removal.rows)
        return SuppressedAction(self.actions[action], removal.stage, reasons)

    def ground(self, rules: bytes) -> Ground:
        """What these rules do for an action they hold for."""
        rows = _members(rules, len(self.rules))
        telling = tuple(row for row in rows if self.rules[row].reason)
        named = any(self.named[row] for row in telling)
        return Ground(
            levers=tuple(
                Lever(self.rules[row].id, self.rules[row].amount)
                for row in rows
                if self.rules[row].effect is Effect.LEVER
            ),
            factors=self._amounts(rows, Effect.WEIGHT),
            values=self._amounts(rows, Effect.VALUE),
            telling=telling,
            reasons=None if named else tuple(self.reason(row, self.rules[row].reason) for row in telling),
        )

    def _amounts(self, rows: Sequence[int], effect: Effect) -> tuple[float, ...]:
        return tuple(self.rules[row].amount for row in rows if self.rules[row].effect is effect)

    def reason(self, row: int, code: str, *texts: str) -> Reason:
        """The reason of a rule."""
        values = {name: text for (name, _), text in zip(self.named[row], texts, strict=True)}
        return Reason(code, ReasonSource.RULE, self.rules[row].id, values=values)


def _removal_code(rule: PolicyRule) -> str:
    return rule.otherwise if rule.effect is Effect.ALLOW else rule.reason


def _sets(marks: Mask) -> tuple[bytes, int]:
    """For each action the set of the rules marked for it, one after the other, and the size of each.

    `marks` has shape (rules, actions).
    """
    packed = np.packbits(marks, axis=0)
    return packed.T.tobytes(), len(packed)


def _members(rules: bytes, count: int) -> list[int]:
    bits = np.unpackbits(np.frombuffer(rules, dtype=np.uint8), count=count)
    return bits.nonzero()[0].tolist()


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
    """What one program said of every action: int8 truths and the rules in force, (rules, actions).

    `doubtful` says whether any truth is UNKNOWN.
    """

    stage: PolicyStage
    truths: Truths
    applies: Mask
    inputs: Inputs
    doubtful: bool

    def removals(self, alive: Mask) -> Mask:
        """Which rule removes which action that is still in."""
        return self._in_force((self.truths != self.stage.passing) & self.stage.gates & alive)

    def held(self, *, told: bool) -> Mask:
        """Which rule pulls which action, or with `told` also allows it."""
        said = self.stage.speaks if told else self.stage.pulls
        return self._in_force((self.truths == TRUE) & said)

    def _in_force(self, found: Mask) -> Mask:
        return found if self.stage.always else found & self.applies


def evaluate(stage: PolicyStage, inputs: Inputs) -> Verdict:
    """Runs a program once."""
    applies = stage.program.scope
    if not stage.always:
        now_ms = inputs.frame.now_ms
        in_force = (stage.valid_from_ms <= now_ms) & (now_ms < stage.valid_to_ms)
        applies = applies & in_force.reshape(-1, 1)
    truths = stage.program.evaluate(inputs.frame)
    return Verdict(stage, truths, applies, inputs, _UNKNOWN_BYTE in truths.tobytes())


def remove(verdict: Verdict, account: Account) -> list[str]:
    """Removes what enforced rules forbid; returns the shadow rules that would have removed something."""
    stage = verdict.stage
    if not stage.rules:
        return []
    fails = verdict.removals(account.alive)
    enforced = fails & stage.enforced if stage.has_shadow else fails
    sets, size = _sets(enforced)
    doubts = _sets(enforced & (verdict.truths == UNKNOWN))[0] if verdict.doubtful else b""
    nothing, end, fate_of = bytes(size), account.end, stage.fate
    told = _Told(verdict)
    undecided = nothing
    for action, start in enumerate(range(0, len(sets), size)):
        failing = sets[start : start + size]
        if failing == nothing:
            continue
        if doubts:
            undecided = doubts[start : start + size]
        fate = fate_of(action, failing) if undecided == nothing else None
        if fate is None:
            account.remove(action, *told[failing, undecided])
        else:
            end(action, fate)
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


class _Told(dict[tuple[bytes, bytes], tuple[Stage, tuple[Reason, ...]]]):
    """The step and the reasons of a removal by the rules that fail, and those of them that are undecided.

    Made once for such sets, and each reason once for a rule, within a decision.
    """

    def __init__(self, verdict: Verdict) -> None:
        super().__init__()
        self._removal_of = verdict.stage.removal
        self._reason_of = _RemovalReasons(verdict)

    def __missing__(self, sets: tuple[bytes, bytes]) -> tuple[Stage, tuple[Reason, ...]]:
        failing, doubts = sets
        removal, reason_of = self._removal_of(failing), self._reason_of
        rows: Sequence[int] = removal.rows
        if any(doubts):
            rows = [~row if _holds(doubts, row) else row for row in rows]
        self[sets] = told = (removal.stage, tuple([reason_of[row] for row in rows]))
        return told


class _RemovalReasons(dict[int, Reason]):
    """The reason with which a rule removes, by the rule; by the complement of it where it is undecided."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__()
        self._verdict = verdict

    def __missing__(self, row: int) -> Reason:
        verdict, rules = self._verdict, self._verdict.stage.rules
        if row < 0:
            reason = _unknown_reason(verdict, rules[~row])
        else:
            reason = _rule_reason(verdict, row, _removal_code(rules[row]))
        self[row] = reason
        return reason


def _holds(rules: bytes, row: int) -> bool:
    """Whether a rule is in a set of them."""
    return bool(rules[row >> 3] & 128 >> (row & 7))


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
    stage, values = verdict.stage, verdict.inputs.frame.values
    texts = [describe(values[place], stage.input_types[place]) for _, place in stage.placeholders[row]]
    return stage.reason(row, code, *texts)


def grounds(verdict: Verdict, candidates: Sequence[int], into: Pulls, *, told: bool = True) -> None:
    """Adds what speaks for the candidates still in: allows that held, levers and weights that pulled.

    With `told` False only what changes priorities, without reasons.
    """
    stage = verdict.stage
    if not candidates or not stage.rules:
        return
    sets, size = _sets(verdict.held(told=told))
    nothing = bytes(size)
    ground_of, levers, said = stage.ground, into.levers, into.reasons
    reason_of = _SpokenReasons(verdict)
    for action in candidates:
        start = action * size
        holding = sets[start : start + size]
        if holding == nothing:
            continue
        ground = ground_of(holding)
        if ground.levers:
            levers[action] = levers[action] + ground.levers if action in levers else ground.levers
        if ground.factors or ground.values:
            _weigh(ground, action, into)
        if told and ground.telling:
            spoken = ground.reasons or tuple([reason_of[row] for row in ground.telling])
            said[action] = said[action] + spoken if action in said else spoken


def _weigh(ground: Ground, action: int, into: Pulls) -> None:
    for factor in ground.factors:
        into.factors[action] = into.factors.get(action, 1.0) * factor
    for value in ground.values:
        into.values[action] = into.values.get(action, 0.0) + value


class _SpokenReasons(dict[int, Reason]):
    """The reason of a rule that holds, by the rule."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__()
        self._verdict = verdict

    def __missing__(self, row: int) -> Reason:
        self[row] = reason = _rule_reason(self._verdict, row, self._verdict.stage.rules[row].reason)
        return reason


def unusable(verdict: Verdict, alive: Mask) -> dict[str, MissingCause]:
    """Inputs that left an enforced rule undecided for an action of `alive`."""
    if not verdict.doubtful:
        return {}
    stage = verdict.stage
    undecided = ((verdict.truths == UNKNOWN) & verdict.applies & stage.enforced & alive).any(axis=1)
    scored = verdict.inputs.frame.propensity is not None
    return {
        name: cause
        for row in undecided.nonzero()[0].tolist()
        for name, cause in missing_reads(verdict, stage.rules[row])
        if not (scored and name == PROPENSITY_SCORE)  # that an action has no model is not the customer's
    }
