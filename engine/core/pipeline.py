"""One decision, from values to a value: no I/O, no clock, no randomness.

consent -> policy -> score -> policy that reads scores -> contact -> arbitrate -> explain. The same
inputs, versions and `now` give the same decision, in a call, a batch, a replay or a simulation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isnan
from typing import Final

import numpy as np

from engine.core import arbitrate, consent, contact, explain, policy, reasons
from engine.core.account import Account
from engine.core.inputs import Inputs, describe, gather
from engine.core.policy import Pulls
from engine.core.rulebook import Mask
from engine.core.scoring import ScoringError
from engine.core.snapshot import Snapshot
from engine.core.steps import Passed, Step
from engine.core.supply import DEADLINE, MODELS_SLOW, PLENTY, UNRECORDED, Supply
from engine.domain import (
    ChurnRisk,
    ConsentUsed,
    Decision,
    DecisionRequest,
    MissingCause,
    MissingInput,
    Priority,
    RankedAction,
    Reason,
    ReasonSource,
    Stage,
    SuppressedAction,
)
from feature_store.state import CustomerState

_NOT_VALID_NOW: Final = Reason(reasons.NOT_VALID_NOW, ReasonSource.ENGINE)
_NOT_REQUESTED: Final = Reason(reasons.NOT_REQUESTED, ReasonSource.ENGINE)


@dataclass(slots=True)
class _Work:
    """What one decision has found so far."""

    snapshot: Snapshot
    request: DecisionRequest
    state: CustomerState
    now_ms: int
    consents: dict[str, ConsentUsed]
    profiled: bool
    inputs: Inputs
    account: Account
    degraded_by: list[str]
    supply: Supply = PLENTY
    pulls: Pulls = field(default_factory=lambda: Pulls({}, {}, {}))
    unusable: dict[str, MissingCause] = field(default_factory=dict)
    shadow_rules: list[str] = field(default_factory=list)
    churn_wanted: bool = False
    churn: float | None = None
    with_model_reasons: bool = True
    with_rule_reasons: bool = True
    passed: Passed | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Examination:
    """What the rules said in one decision: their inputs, and each stage's verdict over all actions.

    `judged` holds, for each verdict, the actions that were still in when its rules were applied.
    """

    inputs: Inputs
    verdicts: tuple[policy.Verdict, policy.Verdict]
    judged: tuple[Mask, Mask]


def decide(
    snapshot: Snapshot,
    request: DecisionRequest,
    state: CustomerState,
    *,
    now_ms: int,
    supply: Supply = PLENTY,
    with_model_reasons: bool = True,
    with_rule_reasons: bool = True,
    passed: Passed | None = None,
) -> Decision:
    """The next best actions for one customer, with the fate of every catalogue action.

    `request` must be valid for the snapshot's vocabulary. `supply` is what can be had besides. Never raises
    for missing data or failing models: the answer says what it had to do without.
    `with_model_reasons=False` leaves out the reasons models give, which are most of the work;
    `with_rule_reasons=False` those rules give, why nothing is proposed, missing inputs and shadow rules.
    Ranks, priorities and fates are the same, which is what comparing many decisions needs.
    `passed` is told of each step that has ended, for who times them; the answer does not depend on it.
    """
    work = _begin(snapshot, request, state, now_ms, supply)
    _supplied(work, supply)
    work.passed = passed
    work.with_model_reasons = with_model_reasons and DEADLINE not in supply.degraded_by
    work.with_rule_reasons = with_rule_reasons
    return _decided(work)[0]


def decide_examined(
    snapshot: Snapshot,
    request: DecisionRequest,
    state: CustomerState,
    *,
    now_ms: int,
    supply: Supply = PLENTY,
) -> tuple[Decision, Examination]:
    """Decides without reasons, as `decide` can, and returns what the rules said too; for comparing."""
    work = _begin(snapshot, request, state, now_ms, supply)
    _supplied(work, supply)
    work.with_model_reasons = work.with_rule_reasons = False
    return _decided(work)


def _supplied(work: _Work, supply: Supply) -> None:
    work.supply = supply
    work.degraded_by.extend(supply.degraded_by)


def _decided(work: _Work) -> tuple[Decision, Examination]:
    examination = _judge(work)
    _limit_contacts(work)
    candidates = work.account.candidates().tolist()
    for verdict in examination.verdicts:
        policy.grounds(verdict, candidates, work.pulls, told=work.with_rule_reasons)
    if work.passed is not None:
        work.passed(Step.CONTACT)
    return _answer(work, candidates), examination


def examine(
    snapshot: Snapshot, request: DecisionRequest, state: CustomerState, *, now_ms: int
) -> Examination:
    """Applies the rules as `decide` does and returns what they said; for explanations."""
    return _judge(_begin(snapshot, request, state, now_ms))


def _judge(work: _Work) -> Examination:
    """From the catalogue to the candidates that the rules leave."""
    _filter(work)
    _gate(work)
    if work.passed is not None:
        work.passed(Step.CONSENT)
    passed_gate = work.account.alive.copy()
    before = _apply(work, work.snapshot.before_scores)
    if work.passed is not None:
        work.passed(Step.POLICY)
    _score(work)
    passed_before = work.account.alive.copy()
    after = _apply(work, work.snapshot.after_scores)
    if work.passed is not None:
        work.passed(Step.POLICY)
    return Examination(work.inputs, (before, after), (passed_gate, passed_before))


def inputs_seen(
    snapshot: Snapshot, request: DecisionRequest, state: CustomerState, *, now_ms: int
) -> dict[str, str]:
    """The inputs the rules saw, scores aside, as text by name; for explanations."""
    inputs = _begin(snapshot, request, state, now_ms).inputs
    declared = snapshot.rulebook.vocabulary.inputs
    return {
        item.name: describe(value, item.type)
        for item, value in zip(declared, inputs.frame.values, strict=True)
        if value is not None
    }


def _begin(
    snapshot: Snapshot,
    request: DecisionRequest,
    state: CustomerState,
    now_ms: int,
    supply: Supply = PLENTY,
) -> _Work:
    rulebook = snapshot.rulebook
    consents = consent.judge_request(rulebook.consent, request, state, now_ms=now_ms)
    if UNRECORDED in supply.degraded_by:
        consents = consent.without_record(consents)
    profiled = consents[rulebook.consent.profiling_purpose].permitted
    inputs = gather(
        layout=snapshot.layout,
        schema=snapshot.schema,
        request=request,
        state=state,
        permitted={purpose: consent.known_permission(used) for purpose, used in consents.items()},
        profiled=profiled,
        now_ms=now_ms,
    )
    available = snapshot.catalogue.availability[request.channel, request.placement]
    account = Account(rulebook.actions, available.mask, available.fates)
    degraded_by = [*([] if state.consents_readable else ["consents"]), *inputs.degraded_by]
    return _Work(snapshot, request, state, now_ms, consents, profiled, inputs, account, degraded_by)


def _filter(work: _Work) -> None:
    """Takes out what is not valid now and what the request does not want."""
    catalogue, account = work.snapshot.catalogue, work.account
    if not catalogue.always:
        account.remove_all(~catalogue.valid_at(work.now_ms), Stage.AVAILABILITY, (_NOT_VALID_NOW,))
    wanted = work.request.filter
    if not (wanted.groups or wanted.action_ids or wanted.exclude_action_ids):
        return
    unwanted = [
        (bool(wanted.groups) and action.group not in wanted.groups)
        or (bool(wanted.action_ids) and action.id not in wanted.action_ids)
        or action.id in wanted.exclude_action_ids
        for action in catalogue.actions
    ]
    account.remove_all(np.array(unwanted), Stage.AVAILABILITY, (_NOT_REQUESTED,))


def _gate(work: _Work) -> None:
    """The consent gate: a purpose that is not permitted takes its actions out before any scoring.

    Churn is scored for actions that passed the gate only: an objection to marketing covers the profiling
    for it (GDPR Art. 21(2)), so where no action that churn decides on is left, the model does not run.
    """
    refused = {
        purpose: (consent.refusal(used, channel=work.request.channel),)
        for purpose, used in work.consents.items()
        if not used.permitted
    }
    if refused:
        actions = work.snapshot.catalogue.actions
        for index in work.account.candidates().tolist():
            why = refused.get(actions[index].purpose)
            if why is not None:
                work.account.remove(index, Stage.CONSENT, why)
    work.churn_wanted = bool((work.account.alive & work.snapshot.judged_by_churn).any())


def _apply(work: _Work, stage: policy.PolicyStage) -> policy.Verdict:
    """Runs the rules of one stage over the candidates."""
    verdict = policy.evaluate(stage, work.inputs)
    if not work.with_rule_reasons:
        policy.remove_untold(verdict, work.account)
        return verdict
    work.unusable.update(policy.unusable(verdict, work.account.alive))
    work.shadow_rules.extend(policy.remove(verdict, work.account))
    return verdict


def _score(work: _Work) -> None:
    """Scores churn and the surviving candidates, where profiling is permitted."""
    candidates = work.account.candidates()
    if not work.profiled or not len(candidates) or MODELS_SLOW in work.supply.degraded_by:
        return
    if work.churn_wanted:
        _score_churn(work)
        if work.passed is not None:
            work.passed(Step.CHURN)
    try:
        scored = np.full(len(work.snapshot.catalogue.actions), np.nan)
        scored[candidates] = work.snapshot.scorer.propensity(work.inputs.vector, candidates)
        work.inputs.frame.propensity = scored
    except ScoringError as error:
        work.degraded_by.append(f"model:{error.model}")
    if work.passed is not None:
        work.passed(Step.PROPENSITY)


def _score_churn(work: _Work) -> None:
    try:
        work.churn = work.snapshot.scorer.churn(work.inputs.vector)
    except ScoringError as error:
        work.degraded_by.append(f"model:{error.model}")
    if work.churn is not None:
        work.inputs.set_score(work.snapshot.layout.churn, work.churn)


def _limit_contacts(work: _Work) -> None:
    contact.limit(work.account, limits=work.snapshot.limits, moment=_moment(work))


def _moment(work: _Work) -> contact.Moment:
    return contact.Moment(
        work.state.contacts, work.request.channel, work.now_ms, work.inputs.frame.values, work.supply
    )


def _answer(work: _Work, candidates: list[int]) -> Decision:
    rulebook, catalogue = work.snapshot.rulebook, work.snapshot.catalogue
    priorities = arbitrate.prioritise(
        candidates, catalogue=catalogue, scored=work.inputs.frame.propensity, pulls=work.pulls
    )
    chosen = arbitrate.cut(
        arbitrate.order(priorities, catalogue),
        account=work.account,
        priorities=priorities,
        catalogue=catalogue,
        arbitration=rulebook.arbitration,
        policies=rulebook.contact,
        room=contact.Room(work.snapshot.limits, _moment(work)) if work.snapshot.limits.hold else None,
        currency=rulebook.currency,
        limit=work.request.limit,
    )
    if work.passed is not None:
        work.passed(Step.ARBITRATE)
    churn = _churn_risk(work)
    by_model = _why_propensities(work, chosen)
    actions = tuple(
        [
            _returned(work, i, rank, priorities[i], by_model.get(i, ()))
            for rank, i in enumerate(chosen, start=1)
        ]
    )
    suppressed = tuple([fate for fate in work.account.fates if fate is not None])
    if work.passed is not None:
        work.passed(Step.EXPLAIN)
    return Decision(
        versions=work.snapshot.versions,
        actions=actions,
        suppressed=suppressed,
        no_action=_why_nothing(work, suppressed) if not actions else None,
        consents=tuple(work.consents.values()),
        profiled=work.profiled,
        degraded_by=tuple(work.degraded_by),
        missing_inputs=tuple(MissingInput(n, c) for n, c in sorted(work.unusable.items())),
        churn=churn,
        shadow_rules=tuple(work.shadow_rules),
    )


def _why_nothing(work: _Work, suppressed: Sequence[SuppressedAction]) -> tuple[Reason, ...]:
    return explain.for_nothing(suppressed) if work.with_rule_reasons else ()


def _returned(
    work: _Work, index: int, rank: int, priority: Priority, by_model: tuple[Reason, ...]
) -> RankedAction:
    snapshot, request = work.snapshot, work.request
    action = snapshot.catalogue.actions[index]
    treatment = snapshot.catalogue.availability[request.channel, request.placement].treatments[index]
    if treatment is None:
        raise AssertionError(f"{action.id} was ranked without a treatment on {request.channel}")
    return RankedAction(
        action_id=action.id,
        treatment_id=treatment.id,
        rank=rank,
        priority=priority,
        reasons=explain.for_returned(
            action, priority, by_rules=work.pulls.reasons.get(index, ()), by_model=by_model
        ),
    )


def _churn_risk(work: _Work) -> ChurnRisk | None:
    if work.churn is None:
        return None
    bands = work.snapshot.rulebook.vocabulary.churn_bands
    return ChurnRisk(work.churn, explain.band(work.churn, bands), _why_churn(work))


def _why_churn(work: _Work) -> tuple[Reason, ...]:
    """What drives the churn score; nothing where the model fails at it."""
    if not work.with_model_reasons:
        return ()
    scorer = work.snapshot.scorer
    try:
        found = scorer.explain_churn(work.inputs.vector)
    except ScoringError as error:
        _without_reasons(work, error)
        return ()
    return explain.model_reasons(found, model=f"churn/{scorer.versions['churn']}")


def _why_propensities(work: _Work, chosen: Sequence[int]) -> dict[int, tuple[Reason, ...]]:
    """What drives the propensity of each chosen action that has one; nothing where the model fails at it."""
    propensity, scorer = work.inputs.frame.propensity, work.snapshot.scorer
    if propensity is None or not work.with_model_reasons:
        return {}
    scored = [i for i in chosen if not isnan(propensity[i])]
    if not scored:
        return {}
    try:
        found = scorer.explain_propensities(work.inputs.vector, scored)
    except ScoringError as error:
        _without_reasons(work, error)
        return {}
    model = f"propensity/{scorer.versions['propensity']}"
    return {i: explain.model_reasons(told, model=model) for i, told in zip(scored, found, strict=True)}


def _without_reasons(work: _Work, error: ScoringError) -> None:
    if f"reasons:{error.model}" not in work.degraded_by:
        work.degraded_by.append(f"reasons:{error.model}")
