"""Each step down from a whole decision: what is left, that it says so, and that a replay gives the same."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import structlog
from arbiter_at_work import AT_RISK, LOYAL, query, settings_for

from engine.bootstrap import Application, open_application
from engine.core.pipeline import decide
from engine.core.scoring import Scorer, Vector
from engine.core.supply import DEADLINE, MODELS_SLOW, PLENTY, UNRECORDED
from engine.domain import LegalBasis, PropensitySource, ReasonSource, Stage
from engine.errors import DecisionUnknown
from engine.monitor.metrics import Metrics
from engine.service.decisions import Decisions
from engine.service.live import LiveSnapshot
from engine.service.patience import LONGEST_PAUSE_MS, PAUSE_MS, SLOW_IN_A_ROW, Patience
from engine.service.requests import to_request
from engine.service.unrecorded import Unrecorded
from feature_store.state import ConsentRecord, ConsentState

BUDGET_S = 0.02
SLOW_S, QUICK_S = 0.05, 0.001


@pytest.fixture
def own(data_dir: Path) -> Iterator[Application]:
    """An application of the test's own, that is watched."""
    with open_application(settings_for(data_dir), watch=Metrics()) as opened:
        yield opened


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process may grow in the block, but for what it says, which the test's runner keeps."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        structlog.reset_defaults()


def counted(application: Application, metric: str, **labels: str) -> float:
    """What a counter says."""
    assert isinstance(application.watch, Metrics)
    return application.watch.registry.get_sample_value(metric, labels) or 0.0


def test_full_log_leaves_what_a_contract_needs(own: Application) -> None:
    """Nothing that rests on consent or legitimate interest is returned, nor used; each says why."""
    whole = own.decisions.decide(query(AT_RISK, limit=100)).record

    with full_disk():
        answer = own.decisions.decide(query(AT_RISK, limit=100))

    decision = answer.record.decision
    purposes = {action.id: action.purpose for action in answer.snapshot.rulebook.actions}
    contractual = {used.purpose for used in decision.consents if used.legal_basis is LegalBasis.CONTRACT}
    suppressed = {action.action_id: action for action in decision.suppressed}
    lost = {action.action_id for action in whole.decision.actions} & set(suppressed)
    assert {purposes[action.action_id] for action in decision.actions} <= contractual
    assert {used.purpose for used in decision.consents if used.permitted} <= contractual
    assert not decision.profiled
    assert decision.degraded_by == (UNRECORDED,)
    assert lost
    for action_id in lost:
        assert suppressed[action_id].stage is Stage.CONSENT
        assert suppressed[action_id].reasons[0].code == "DECISION_UNRECORDED"
    assert answer.record.decision_id == ""


def test_objection_to_service_holds_while_the_log_is_full(own: Application) -> None:
    """What the customer said is still read: a contract is no way round it."""
    policy = own.live.current.rulebook.consent
    contractual = [p.purpose for p in policy.purposes.values() if p.basis is LegalBasis.CONTRACT]
    snapshot = own.live.current
    asked = to_request(query(AT_RISK, limit=100), AT_RISK, snapshot.rulebook.vocabulary)
    state = own.store.read(AT_RISK)
    assert state is not None
    objections = tuple(ConsentRecord(name, "any", ConsentState.OBJECTED, 0) for name in contractual)

    decision = decide(
        snapshot,
        asked,
        replace(state, consents=objections),
        now_ms=1_790_000_000_000,
        supply=replace(PLENTY, degraded_by=(UNRECORDED,)),
    )

    assert decision.actions == ()


def test_unrecorded_decision_is_logged_once_there_is_space(own: Application) -> None:
    """With what it was made from, so that it can be made again; and it is counted."""
    with full_disk():
        before = own.decisions.decide(query(AT_RISK)).record
    after = own.decisions.decide(query(AT_RISK)).record

    logged = [r for r in own.log.scan(customer_id=AT_RISK) if UNRECORDED in r.decision.degraded_by]
    assert len(logged) == 1
    assert logged[0].decision == before.decision
    assert logged[0].now_ms == before.now_ms
    assert own.explanations.replay(logged[0].decision_id).same
    assert own.explanations.replay(after.decision_id).same
    assert after.decision.degraded_by == ()
    for outcome in ("answered", "logged"):
        assert counted(own, "arbiter_unrecorded_decisions_total", outcome=outcome) == 1
    assert counted(own, "arbiter_degraded_decisions_total", by=UNRECORDED) == 1


def test_decision_without_a_record_has_no_outcomes(own: Application) -> None:
    """There is nothing that an outcome could be about."""
    with full_disk():
        record = own.decisions.decide(query(AT_RISK)).record

    with pytest.raises(DecisionUnknown):
        own.explanations.replay(record.decision_id)


def test_repeated_request_is_decided_again_where_the_first_could_not_be_logged(own: Application) -> None:
    """No id is kept for a decision that nobody could give back."""
    with full_disk():
        first = own.decisions.decide(query(AT_RISK, request_id="r")).record
    second = own.decisions.decide(query(AT_RISK, request_id="r")).record
    third = own.decisions.decide(query(AT_RISK, request_id="r")).record

    assert "request_id:unkept" in first.decision.degraded_by
    assert second.decision.degraded_by == ()
    assert third.decision_id == second.decision_id


def test_unrecorded_decisions_are_kept_up_to_a_number(own: Application) -> None:
    """The oldest go, and are counted."""
    unrecorded = Unrecorded(own.log, own.watch, most=3)
    decisions = Decisions(
        live=own.live,
        store=own.store,
        log=own.log,
        clock=lambda: 1_790_000_000_000,
        request_id_ttl_ms=1,
        unrecorded=unrecorded,
    )

    with full_disk():
        for _ in range(5):
            decisions.decide(query(AT_RISK))

    assert len(unrecorded) == 3
    assert counted(own, "arbiter_unrecorded_decisions_total", outcome="lost") == 2


def test_hurried_decision_is_the_same_without_model_reasons(own: Application) -> None:
    """Actions, ranks and priorities stay; it says so, and a replay gives the same bytes."""
    whole = own.decisions.decide(query(LOYAL, limit=100)).record.decision
    hurried = own.decisions.decide(query(LOYAL, limit=100), hurried=True).record

    decision = hurried.decision
    ranked = [[(a.action_id, a.priority) for a in d.actions] for d in (whole, decision)]
    sources = {reason.source for action in decision.actions for reason in action.reasons}
    assert ranked[0] == ranked[1]
    assert ReasonSource.MODEL not in sources
    assert ReasonSource.MODEL in {reason.source for action in whole.actions for reason in action.reasons}
    assert decision.degraded_by == (DEADLINE,)
    assert own.explanations.replay(hurried.decision_id).same


def test_slow_models_are_left_out_and_the_replay_leaves_them_out_too(own: Application) -> None:
    """Rules and priors rank; churn is not scored; consent and profiling are as before."""
    patience = Patience(budget_s=0.0)  # nothing is that quick
    decisions = Decisions(
        live=own.live,
        store=own.store,
        log=own.log,
        clock=lambda: 1_790_000_000_000,
        request_id_ttl_ms=1,
        patience=patience,
    )

    made = [decisions.decide(query(LOYAL, limit=100)).record for _ in range(SLOW_IN_A_ROW + 1)]

    assert [MODELS_SLOW in record.decision.degraded_by for record in made] == [False] * SLOW_IN_A_ROW + [True]
    last = made[-1].decision
    assert last.churn is None
    sources = {action.priority.propensity_source for record in made for action in record.decision.actions}
    assert PropensitySource.MODEL in sources
    assert {action.priority.propensity_source for action in last.actions} == {PropensitySource.PRIOR}
    assert last.profiled
    assert last.consents == made[0].decision.consents
    assert all(own.explanations.replay(record.decision_id).same for record in made)


class _Worn:
    """A scorer whose models take long, as long as `slow` is set."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self.slow = True

    def __getattr__(self, name: str) -> object:
        return getattr(self._scorer, name)

    def churn(self, vector: Vector) -> float | None:
        """Uses the processor for longer than any decision may."""
        end_s = time.thread_time() + 1.5 * BUDGET_S
        while self.slow and time.thread_time() < end_s:
            pass
        return self._scorer.churn(vector)


def test_slow_model_costs_a_few_decisions_and_comes_back_when_it_is_quick(own: Application) -> None:
    """With the real processor time of a model that takes it."""
    now_ms = [1_790_000_000_000]
    worn = _Worn(own.live.current.scorer)
    snapshot = replace(own.live.current, scorer=cast("Scorer", worn))
    decisions = Decisions(
        live=LiveSnapshot(lambda: snapshot),
        store=own.store,
        log=own.log,
        clock=lambda: now_ms[0],
        request_id_ttl_ms=1,
        patience=Patience(),
    )

    def slow_of(count: int) -> int:
        made = [decisions.decide(query(AT_RISK)).record.decision for _ in range(count)]
        return sum(MODELS_SLOW in decision.degraded_by for decision in made)

    while_slow = slow_of(SLOW_IN_A_ROW + 20)
    now_ms[0] += PAUSE_MS
    tried = slow_of(20)
    worn.slow = False
    now_ms[0] += LONGEST_PAUSE_MS
    mended = slow_of(20)

    assert (while_slow, tried, mended) == (20, 19, 0)


def test_patience_ends_after_slow_decisions_in_a_row_only() -> None:
    """One that is quick begins the count anew."""
    patience = Patience(budget_s=BUDGET_S)

    for _ in range(10):
        for _ in range(SLOW_IN_A_ROW - 1):
            patience.took(SLOW_S, scored=True, now_ms=0)
        patience.took(QUICK_S, scored=True, now_ms=0)

    assert patience.scores(0)


def impatient(now_ms: int = 0) -> Patience:
    """One that has seen enough slow decisions."""
    patience = Patience(budget_s=BUDGET_S)
    for _ in range(SLOW_IN_A_ROW):
        patience.took(SLOW_S, scored=True, now_ms=now_ms)
    return patience


def test_models_are_tried_by_one_decision_after_a_pause_and_asked_again_where_it_was_quick() -> None:
    """The others go on without meanwhile."""
    patience = impatient()

    before = patience.scores(PAUSE_MS - 1)
    tried = [patience.scores(PAUSE_MS) for _ in range(3)]
    patience.took(QUICK_S, scored=True, now_ms=PAUSE_MS)
    after = [patience.scores(PAUSE_MS + 1) for _ in range(3)]

    assert (before, tried, after) == (False, [True, False, False], [True, True, True])


def test_pauses_between_trials_get_longer_up_to_a_minute() -> None:
    """What stays slow costs one decision a minute."""
    patience, now_ms, pauses = impatient(), 0, []

    for _ in range(8):
        began_ms = now_ms
        while not patience.scores(now_ms):
            now_ms += 1_000
        pauses.append(now_ms - began_ms)
        patience.took(SLOW_S, scored=True, now_ms=now_ms)

    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (PAUSE_MS, LONGEST_PAUSE_MS)


def test_models_are_not_to_blame_where_decisions_are_as_slow_without_them() -> None:
    """They are asked again, and for a minute nothing is held against them."""
    patience = impatient()

    for _ in range(SLOW_IN_A_ROW):
        patience.took(SLOW_S, scored=False, now_ms=1)
    for _ in range(3 * SLOW_IN_A_ROW):
        patience.took(SLOW_S, scored=True, now_ms=2)
    meanwhile = patience.scores(3)
    patience.took(SLOW_S, scored=True, now_ms=1 + LONGEST_PAUSE_MS)

    assert meanwhile
    assert not patience.scores(2 + LONGEST_PAUSE_MS)
