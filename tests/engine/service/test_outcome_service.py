"""Outcomes count once, for the decision they belong to, from the next decision on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from arbiter_at_work import AT_RISK, failure_of, in_threads, reason_of, scene
from google.protobuf.timestamp_pb2 import Timestamp

from engine._pb.arbiter.v1 import decision_service_pb2, outcome_service_pb2, types_pb2
from engine.bootstrap import Application
from engine.client import ArbiterClient
from engine.decisionlog.ledger import outcome_log
from engine.service.uses import uses_of

SHOWN = types_pb2.OUTCOME_TYPE_SHOWN
DECLINED = types_pb2.OUTCOME_TYPE_DECLINED


def outcome(
    decided: decision_service_pb2.DecideResponse, kind: types_pb2.OutcomeType = SHOWN, **fields: object
) -> outcome_service_pb2.RecordOutcomeRequest:
    """An outcome of the first action of a decision."""
    given = {
        "outcome_id": f"outcome-{decided.decision_id}",
        "decision_id": decided.decision_id,
        "action_id": decided.actions[0].action_id,
        "type": kind,
    }
    return outcome_service_pb2.RecordOutcomeRequest(**(given | fields))  # type: ignore[arg-type]  # fields


def test_outcome_is_recorded_once(
    arbiter: ArbiterClient, application: Application, like: Callable[[str], str]
) -> None:
    """A repeat says that it is one and changes nothing."""
    customer = like(AT_RISK)
    decided = arbiter.decide(scene(AT_RISK, customer))

    replies = [arbiter.record_outcome(outcome(decided)).duplicate for _ in range(3)]

    state = application.store.read(customer)
    assert replies == [False, True, True]
    assert state is not None
    assert [(e.action_id, e.channel) for e in state.contacts] == [
        (decided.actions[0].action_id, "call_center")
    ]


def test_outcome_sent_by_many_threads_counts_once(
    arbiter: ArbiterClient, application: Application, like: Callable[[str], str]
) -> None:
    """Exactly one of the senders is told that it was first."""
    customer = like(AT_RISK)
    decided = arbiter.decide(scene(AT_RISK, customer))
    duplicates: list[bool] = []

    in_threads(6, lambda _: duplicates.append(arbiter.record_outcome(outcome(decided)).duplicate))

    state = application.store.read(customer)
    assert sorted(duplicates) == [False, True, True, True, True, True]
    assert state is not None
    assert len(state.contacts) == 1


def test_declined_action_stays_away_from_the_next_decision_on(
    arbiter: ArbiterClient, like: Callable[[str], str]
) -> None:
    """contact.after-decline silences what was declined, and the reason names it."""
    customer = like(AT_RISK)
    decided = arbiter.decide(scene(AT_RISK, customer))
    declined = decided.actions[0].action_id

    arbiter.record_outcome(outcome(decided, DECLINED))
    following = arbiter.decide(scene(AT_RISK, customer, limit=100))

    fate = next(s for s in following.suppressed if s.action_id == declined)
    assert fate.stage == types_pb2.STAGE_CONTACT
    assert "contact.after-decline" in {r.rule_id for r in fate.reasons}


def test_cap_counts_every_showing_and_then_holds(arbiter: ArbiterClient, like: Callable[[str], str]) -> None:
    """contact.retention-group-cap allows four in 30 days, over all actions of the group."""
    customer = like(AT_RISK)
    groups = []
    for number in range(5):
        decided = arbiter.decide(scene(AT_RISK, customer))
        groups.append(decided.actions[0].group)
        arbiter.record_outcome(outcome(decided, outcome_id=f"{customer}-{number}"))

    assert groups[:4] == ["retention"] * 4
    assert groups[4] != "retention"


def test_outcome_of_a_fast_clock_counts_at_once(arbiter: ArbiterClient, like: Callable[[str], str]) -> None:
    """A time up to five minutes ahead is taken, and policies do not wait for it."""
    customer = like(AT_RISK)
    decided = arbiter.decide(scene(AT_RISK, customer))
    ahead = Timestamp(seconds=decided.decide_time.seconds + 290)

    arbiter.record_outcome(outcome(decided, DECLINED, occur_time=ahead))
    following = arbiter.decide(scene(AT_RISK, customer, limit=100))

    assert decided.actions[0].action_id not in {a.action_id for a in following.actions}


@pytest.mark.parametrize("made_up", ["nothing", "0" * 26, "../../etc/passwd", "d" * 128])
def test_outcome_of_an_unknown_decision_is_not_found(
    arbiter: ArbiterClient, like: Callable[[str], str], made_up: str
) -> None:
    """NOT_FOUND for ids that are none and ids that nobody was given."""
    decided = arbiter.decide(scene(AT_RISK, like(AT_RISK)))

    failure = failure_of(lambda: arbiter.record_outcome(outcome(decided, decision_id=made_up)))

    assert failure.code == "NOT_FOUND"
    assert reason_of(failure) == ("DECISION_UNKNOWN", "arbiter")


@pytest.mark.parametrize("which", ["suppressed", "unknown"])
def test_outcome_of_an_action_not_returned_is_refused(
    arbiter: ArbiterClient, like: Callable[[str], str], which: str
) -> None:
    """FAILED_PRECONDITION for an action that the decision suppressed or never knew."""
    decided = arbiter.decide(scene(AT_RISK, like(AT_RISK)))
    action_id = decided.suppressed[0].action_id if which == "suppressed" else "nothing"

    failure = failure_of(lambda: arbiter.record_outcome(outcome(decided, action_id=action_id)))

    assert failure.code == "FAILED_PRECONDITION"
    assert reason_of(failure) == ("ACTION_NOT_RETURNED", "arbiter")


def test_refused_outcome_may_be_sent_corrected(arbiter: ArbiterClient, like: Callable[[str], str]) -> None:
    """A refusal does not use up the outcome id."""
    decided = arbiter.decide(scene(AT_RISK, like(AT_RISK)))
    failure_of(lambda: arbiter.record_outcome(outcome(decided, action_id="nothing")))

    reply = arbiter.record_outcome(outcome(decided))

    assert not reply.duplicate


@pytest.mark.parametrize("said", ["Too expensive!", "price " * 20, "Prix"])
def test_reason_of_an_outcome_is_a_code(
    arbiter: ArbiterClient, like: Callable[[str], str], said: str
) -> None:
    """What customers said word for word does not get into a log that is kept for good."""
    decided = arbiter.decide(scene(AT_RISK, like(AT_RISK)))

    failure = failure_of(lambda: arbiter.record_outcome(outcome(decided, DECLINED, reason=said)))

    assert [field for field, _ in failure.violations] == ["reason"]


def test_reason_of_an_outcome_is_kept(
    arbiter: ArbiterClient, application: Application, like: Callable[[str], str]
) -> None:
    """The log says why, where somebody said it."""
    customer = like(AT_RISK)
    decided = arbiter.decide(scene(AT_RISK, customer))

    arbiter.record_outcome(outcome(decided, DECLINED, reason="price"))

    log = outcome_log(application.settings.data_dir / "outcomes")
    (use,) = uses_of(log, application.log, customer)
    assert use.outcome.reason == "price"
