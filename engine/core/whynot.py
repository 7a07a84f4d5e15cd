"""Why not: for one action of a decision, what every stage that judged it found. Pure; words come later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

from msgspec import structs

from engine.core import consent, contact
from engine.core.change import Case
from engine.core.pipeline import Examination
from engine.core.policy import Verdict
from engine.core.rulebook import TRUE, ContactKind, ContactPolicy, Mask, PolicyRule
from engine.core.snapshot import Snapshot
from engine.domain import (
    Action,
    ConsentUsed,
    Decision,
    Effect,
    Priority,
    RankedAction,
    Stage,
    SuppressedAction,
)
from feature_store.state import ConsentRecord, ContactEvent, OutcomeType

_REACHED_CONTACT = frozenset({Stage.CONTACT, Stage.ARBITRATION})
_MAX_RIVALS = 3


@dataclass(frozen=True, slots=True)
class RuleFinding:
    """One rule that judged the action. `truth` is that of its condition; `removes` where it takes the action
    out; `pulls` where it holds and speaks for or weighs the action. A rule in shadow does neither.
    """

    rule: PolicyRule
    truth: int
    removes: bool
    pulls: bool


@dataclass(frozen=True, slots=True)
class ConsentFinding:
    """The consent a purpose rests on, with the record behind it; None where nothing is recorded."""

    used: ConsentUsed
    record: ConsentRecord | None


@dataclass(frozen=True, slots=True, eq=False)
class ContactFinding:
    """What a contact policy holds against the action; `frees_at_ms` is when it will no longer forbid it.

    `clock` and `zone` are the customer's, for quiet hours. `left` are units of a budget, None for plenty.
    """

    policy: ContactPolicy
    forbids: bool
    counted: tuple[ContactEvent, ...] = ()
    frees_at_ms: int | None = None
    clock: str = ""
    zone: str = ""
    left: int | None = None


@dataclass(frozen=True, slots=True)
class Rival:
    """A returned action that came before, and what made the difference.

    `factors` are those of priority ("propensity", "weight", "value", "levers") that would each, had they
    been as the rival's, have put the action level or ahead; `rules` the levers and weights without which
    the order would turn.
    """

    action_id: str
    rank: int
    priority: Priority
    factors: tuple[str, ...]
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ActionFindings:
    """Everything the stages found for one action. `stage` is None where it was returned."""

    action: Action
    stage: Stage | None
    rank: int
    priority: Priority | None
    rules: tuple[RuleFinding, ...]
    consents: tuple[ConsentFinding, ...]
    contacts: tuple[ContactFinding, ...]
    rivals: tuple[Rival, ...]


def findings(
    snapshot: Snapshot, case: Case, examined: Examination, *, action: Action, decision: Decision, now_ms: int
) -> ActionFindings:
    """What the stages found for one action of a decision made from `case` at `now_ms`."""
    fate = _fate(decision, action)
    stage = fate.stage if isinstance(fate, SuppressedAction) else None
    rank = fate.rank if isinstance(fate, RankedAction) else 0
    index = snapshot.rulebook.actions.index(action)
    reached = stage is None or stage in _REACHED_CONTACT
    return ActionFindings(
        action=action,
        stage=stage,
        rank=rank,
        priority=None if fate is None else fate.priority,
        rules=tuple(_rules(examined, index)),
        consents=tuple(_consents(snapshot, case, action, now_ms)),
        contacts=tuple(_contacts(snapshot, case, examined, action, now_ms)) if reached else (),
        rivals=tuple(_rivals(snapshot, examined, action, fate, decision)),
    )


def _fate(decision: Decision, action: Action) -> RankedAction | SuppressedAction | None:
    fates: Sequence[RankedAction | SuppressedAction] = (*decision.actions, *decision.suppressed)
    return next((f for f in fates if f.action_id == action.id), None)


def _rules(examined: Examination, index: int) -> list[RuleFinding]:
    """The rules applied while the action was still in; those that remove it first."""
    found = [
        _finding(verdict, row, index, judged=judged)
        for verdict, judged in zip(examined.verdicts, examined.judged, strict=True)
        for row in verdict.applies[:, index].nonzero()[0].tolist()
        if judged[index]
    ]
    return sorted(found, key=lambda f: (not f.removes, f.rule.shadow, not f.pulls))


def _finding(verdict: Verdict, row: int, index: int, *, judged: Mask) -> RuleFinding:
    rule, truth = verdict.stage.rules[row], int(verdict.truths[row, index])
    removes = bool(verdict.removals(judged)[row, index]) and not rule.shadow
    pulls = truth == TRUE and rule.effect is not Effect.DENY and not rule.shadow
    return RuleFinding(rule, truth, removes, pulls)


def _consents(snapshot: Snapshot, case: Case, action: Action, now_ms: int) -> list[ConsentFinding]:
    """For the action's purpose, and for profiling, which opens models and behavioural data."""
    policy = snapshot.rulebook.consent
    judged = consent.judge_request(policy, case.request, case.state, now_ms=now_ms)
    purposes = dict.fromkeys((action.purpose, policy.profiling_purpose))
    return [ConsentFinding(judged[p], _record(case.state.consents, judged[p])) for p in purposes]


def _record(records: Sequence[ConsentRecord], used: ConsentUsed) -> ConsentRecord | None:
    """The record a consent rests on; of several alike the last."""
    alike = [
        r
        for r in records
        if (r.purpose, r.channel, r.recorded_at_ms) == (used.purpose, used.channel, used.since_ms)
    ]
    return alike[-1] if alike else None


def _contacts(
    snapshot: Snapshot, case: Case, examined: Examination, action: Action, now_ms: int
) -> list[ContactFinding]:
    """The policies for the action, those that forbid it first."""
    index = snapshot.rulebook.actions.index(action)
    values = examined.inputs.frame.values
    moment = contact.Moment(case.state.contacts, case.request.channel, now_ms, values, case.supply)
    policies = (p for p in snapshot.rulebook.contact if p.scope[index])
    found = [each for p in policies if (each := _contact(snapshot, p, action, moment)) is not None]
    return sorted(found, key=lambda f: not f.forbids)


def _contact(
    snapshot: Snapshot, policy: ContactPolicy, action: Action, moment: contact.Moment
) -> ContactFinding | None:
    """What one policy holds against the action; None where it is not for this channel."""
    quiet, limits = policy.quiet, snapshot.limits
    if quiet is not None:
        if quiet.channels and moment.channel not in quiet.channels:
            return None
        zone = contact.zone_of(quiet, limits, moment)
        until_ms = contact.quiet_until_ms(quiet, limits, moment)
        clock = quiet.period.clock(zone, moment.now_ms)
        return ContactFinding(policy, until_ms is not None, frees_at_ms=until_ms, clock=clock, zone=zone)
    if policy.kind is ContactKind.BUDGET:
        units = contact.units_left(policy, action, moment)
        return ContactFinding(policy, units == 0, left=units)
    events = contact.counted(policy, action, actions=limits.actions, moment=moment)
    unreservable = not moment.supply.reservable and OutcomeType.RESERVED in policy.counts
    frees = frees_at_ms(policy, events)
    return ContactFinding(policy, unreservable or frees is not None, events, frees)


def frees_at_ms(policy: ContactPolicy, counted: Sequence[ContactEvent]) -> int | None:
    """When enough of the counted events no longer count; None where it is free now."""
    if len(counted) < policy.limit:
        return None
    return sorted(contact.ends_ms(policy, event) for event in counted)[len(counted) - policy.limit]


def _rivals(
    snapshot: Snapshot,
    examined: Examination,
    action: Action,
    fate: RankedAction | SuppressedAction | None,
    decision: Decision,
) -> list[Rival]:
    """The best returned actions that came before one that was ranked too."""
    if fate is None or fate.priority is None:
        return []
    before = len(decision.actions) if isinstance(fate, SuppressedAction) else fate.rank - 1
    index = {a.id: i for i, a in enumerate(snapshot.rulebook.actions)}
    own_weights = _weights(examined, index[action.id])
    found = []
    for other in decision.actions[: min(before, _MAX_RIVALS)]:
        weights = _weights(examined, index[other.action_id])
        rules = _turning(fate.priority, own_weights, other.priority, weights)
        factors = _factors(fate.priority, other.priority)
        found.append(Rival(other.action_id, other.rank, other.priority, factors, rules))
    return found


def _weights(examined: Examination, index: int) -> Mapping[str, float]:
    """The weight rules that hold for an action, with their factors."""
    return {
        verdict.stage.rules[row].id: verdict.stage.rules[row].amount
        for verdict in examined.verdicts
        for row in verdict.applies[:, index].nonzero()[0].tolist()
        if verdict.truths[row, index] == TRUE
        and verdict.stage.rules[row].effect is Effect.WEIGHT
        and not verdict.stage.rules[row].shadow
    }


def _boost(priority: Priority) -> float:
    return max(0.0, 1.0 + sum(lever.share for lever in priority.levers))


def _product(priority: Priority) -> float:
    return priority.propensity * priority.weight * priority.value * _boost(priority)


def _factors(own: Priority, rival: Priority) -> tuple[str, ...]:
    """Factors of priority that alone would make up for the gap."""
    as_rival = {
        "propensity": structs.replace(own, propensity=rival.propensity),
        "weight": structs.replace(own, weight=rival.weight),
        "value": structs.replace(own, value=rival.value),
        "levers": structs.replace(own, levers=rival.levers),
    }
    gap = rival.priority - own.priority
    if gap <= 0:  # the order was turned by a limit of arbitration, not by priority
        return ()
    return tuple(name for name, other in as_rival.items() if _product(other) >= rival.priority)


def _turning(
    own: Priority, own_weights: Mapping[str, float], rival: Priority, rival_weights: Mapping[str, float]
) -> tuple[str, ...]:
    """Levers and weights without which, on whichever side they hold, the rival would not come first."""
    if rival.priority <= own.priority:
        return ()
    pulled = (lever.rule_id for priority in (rival, own) for lever in priority.levers)
    rules = dict.fromkeys((*pulled, *rival_weights, *own_weights))
    return tuple(
        rule for rule in rules if _without(rule, rival, rival_weights) <= _without(rule, own, own_weights)
    )


def _without(rule: str, priority: Priority, weights: Mapping[str, float]) -> float:
    """The priority an action would have without a lever or weight; `weights` are those that hold for it."""
    levers = tuple(lever for lever in priority.levers if lever.rule_id != rule)
    factor = weights.get(rule, 1.0)
    if not factor:
        return inf
    return _product(structs.replace(priority, levers=levers)) / factor
