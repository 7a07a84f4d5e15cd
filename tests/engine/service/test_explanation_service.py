"""The log answers for every decision: at once, in full, to the byte, and after the rules moved on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from arbiter_at_work import (
    AT_RISK,
    FRENCH,
    LOYAL,
    UNPROFILED,
    copied_rules,
    failure_of,
    query,
    reason_of,
    scene,
    set_threshold,
    settings_for,
)

from engine._pb.arbiter.v1 import decision_service_pb2
from engine.bootstrap import Application, open_application
from engine.client import ArbiterClient
from engine.decisionlog.log import DecisionLog
from engine.demo.cast import CAST
from engine.errors import SetupInvalid

FULL = decision_service_pb2.EXPLANATION_DETAIL_FULL


def explain(arbiter: ArbiterClient, decision_id: str, **fields: str) -> decision_service_pb2.ExplainResponse:
    """The explanation of a decision."""
    return arbiter.explain(decision_service_pb2.ExplainRequest(decision_id=decision_id, **fields))


def test_decision_is_on_disk_before_its_reply(
    arbiter: ArbiterClient, application: Application, like: Callable[[str], str]
) -> None:
    """Another reader of the files finds the record right after the reply."""
    customer = like(AT_RISK)

    response = arbiter.decide(scene(AT_RISK, customer))

    record = DecisionLog(application.settings.data_dir / "decisions").read(response.decision_id)
    assert record is not None
    assert record.request.customer_id == customer
    assert [a.action_id for a in record.decision.actions] == [a.action_id for a in response.actions]


@pytest.mark.parametrize("cast_id", CAST)
def test_explanation_is_the_decision_in_full(arbiter: ArbiterClient, cast_id: str) -> None:
    """Explain gives what FULL would have given, word for word."""
    decided = arbiter.decide(scene(cast_id, explanation_detail=FULL))

    explained = explain(arbiter, decided.decision_id)

    assert explained.decision == decided


def test_explanation_of_a_summary_is_full(arbiter: ArbiterClient) -> None:
    """The log holds all of it, whatever the reply carried."""
    request = scene(LOYAL, explanation_detail=decision_service_pb2.EXPLANATION_DETAIL_SUMMARY)

    explained = explain(arbiter, arbiter.decide(request).decision_id)

    assert explained.decision.suppressed


def test_explanation_shows_the_inputs_that_rules_saw(arbiter: ArbiterClient) -> None:
    """Context and features are there by name; without profiling behaviour is not."""
    decided = arbiter.decide(scene(AT_RISK))
    unprofiled = arbiter.decide(scene(UNPROFILED))

    inputs = explain(arbiter, decided.decision_id).inputs
    fewer = explain(arbiter, unprofiled.decision_id).inputs

    assert inputs["context.call_reason"] == "cancel"
    assert "features.contract" in inputs
    assert "features.support_calls_30d" in inputs
    assert "features.support_calls_30d" not in fewer


def test_explanation_of_one_action_tells_its_fate_alone(arbiter: ArbiterClient) -> None:
    """`action_id` narrows to that action."""
    decided = arbiter.decide(scene(AT_RISK))
    lost = decided.suppressed[0].action_id

    explained = explain(arbiter, decided.decision_id, action_id=lost)

    assert list(explained.decision.actions) == []
    assert [s.action_id for s in explained.decision.suppressed] == [lost]


def test_explanation_may_be_in_another_language(arbiter: ArbiterClient) -> None:
    """Texts come in the language asked for, by default in that of the decision."""
    decided = arbiter.decide(scene(FRENCH))

    french = explain(arbiter, decided.decision_id).decision.actions[0].name
    english = explain(arbiter, decided.decision_id, language="en-GB").decision.actions[0].name

    assert french == decided.actions[0].name
    assert english != french


@pytest.mark.parametrize("made_up", ["nothing", "0" * 26, "../../x", "\N{GRINNING FACE}"])
def test_made_up_decision_is_not_found(arbiter: ArbiterClient, made_up: str) -> None:
    """NOT_FOUND for what is no id and for what was never given out."""
    failure = failure_of(lambda: explain(arbiter, made_up))

    assert failure.code == "NOT_FOUND"
    assert reason_of(failure) == ("DECISION_UNKNOWN", "arbiter")


def test_changed_decision_id_is_not_found(arbiter: ArbiterClient) -> None:
    """One character off is another id."""
    decision_id = arbiter.decide(scene(LOYAL)).decision_id

    for position in range(len(decision_id)):
        other = "0" if decision_id[position] != "0" else "1"
        changed = decision_id[:position] + other + decision_id[position + 1 :]
        failure = failure_of(lambda changed=changed: explain(arbiter, changed))
        assert failure.code == "NOT_FOUND"


@pytest.mark.parametrize("bad", ["", "d\n", "d" * 129])
def test_bad_decision_id_is_refused(arbiter: ArbiterClient, bad: str) -> None:
    """An id is 1 to 128 printable characters."""
    failure = failure_of(lambda: explain(arbiter, bad))

    assert (failure.code, failure.violations[0][0]) == ("INVALID_ARGUMENT", "decision_id")


def test_unknown_action_of_a_decision_is_not_found(arbiter: ArbiterClient) -> None:
    """An action that the decision did not know has no fate to tell."""
    decision_id = arbiter.decide(scene(LOYAL)).decision_id

    failure = failure_of(lambda: explain(arbiter, decision_id, action_id="nothing"))

    assert failure.code == "NOT_FOUND"


@pytest.mark.parametrize("cast_id", CAST)
def test_replay_gives_the_same_bytes(application: Application, cast_id: str) -> None:
    """A logged decision, made again, is the same to the byte."""
    decided = application.decisions.decide(query(cast_id)).record

    replay = application.explanations.replay(decided.decision_id)

    assert replay.replayed == replay.logged


def test_replay_holds_after_the_rules_have_changed(data_dir: Path, tmp_path: Path) -> None:
    """Old decisions are made again with the archived rules, new ones with the new."""
    rules = copied_rules(tmp_path)
    with open_application(settings_for(data_dir, rules=rules)) as application:
        before = {c: application.decisions.decide(query(c)).record for c in CAST}
        set_threshold(rules, 1e6)
        assert application.live.reload()
        after = application.decisions.decide(query(AT_RISK)).record

        replays = [application.explanations.replay(r.decision_id) for r in (*before.values(), after)]
        explained = application.explanations.explain(before[AT_RISK].decision_id)

    assert all(replay.same for replay in replays)
    assert before[AT_RISK].decision.actions
    assert after.decision.actions == ()
    assert explained.snapshot.versions == before[AT_RISK].decision.versions


def test_lost_archive_is_told_and_explanations_still_come(data_dir: Path, tmp_path: Path) -> None:
    """Without the old rules a replay says what is missing; an explanation does with today's words."""
    rules = copied_rules(tmp_path)
    with open_application(settings_for(data_dir, rules=rules)) as application:
        decided = application.decisions.decide(query(AT_RISK)).record
        set_threshold(rules, 2.0)
        assert application.live.reload()
        shutil.rmtree(data_dir / "rulesets")

        explained = application.explanations.explain(decided.decision_id)
        with pytest.raises(SetupInvalid, match="restore it from a copy"):
            application.explanations.replay(decided.decision_id)

    assert explained.record.decision.actions == decided.decision.actions
    assert explained.inputs == {}
