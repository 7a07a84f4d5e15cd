"""When a part fails, the answer says which kind of failure it is and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from arbiter_at_work import AT_RISK, LOYAL, query, settings_for

from engine.bootstrap import Application, open_application
from engine.domain import Stage
from engine.errors import ArbiterError, DecisionUnreadable, StateUnavailable
from engine.service.consents import ConsentSubmission
from engine.service.outcomes import OutcomeReport
from feature_store.state import ConsentState, Identity, OutcomeType

PHONE = Identity("phone", "+41791000131")


@pytest.fixture
def own(data_dir: Path) -> Iterator[Application]:
    """An application of the test's own, to be damaged."""
    with open_application(settings_for(data_dir)) as opened:
        yield opened


def assert_safe(error: ArbiterError, application: Application) -> None:
    """The text names no path and no customer."""
    assert str(application.settings.data_dir) not in str(error)
    assert LOYAL not in str(error)


def test_store_that_cannot_be_read_changes_nothing(own: Application) -> None:
    """StateUnavailable, for consents, outcomes and whoever is named by an identity."""
    decided = own.decisions.decide(query(AT_RISK)).record
    own.store.close()
    objection = ConsentSubmission(LOYAL, "marketing", "any", ConsentState.OBJECTED)
    action_id = decided.decision.actions[0].action_id
    shown = OutcomeReport("o", decided.decision_id, action_id, OutcomeType.SHOWN, None)

    for use in (
        lambda: own.decisions.decide(replace(query(LOYAL), customer_id="", identity=PHONE)),
        lambda: own.consents.get(LOYAL),
        lambda: own.consents.record(objection),
        lambda: own.outcomes.record(shown),
    ):
        with pytest.raises(StateUnavailable) as caught:
            use()
        assert_safe(caught.value, own)


def test_store_that_cannot_be_read_leaves_what_a_contract_needs(own: Application) -> None:
    """Whoever is named by id gets service actions only, and is told why; the same again for a request id."""
    whole = own.decisions.decide(query(AT_RISK)).record.decision
    own.store.close()

    answers = [own.decisions.decide(query(AT_RISK, request_id=name)) for name in ("", "r1", "r1")]

    purposes = {action.id: action.purpose for action in answers[0].snapshot.rulebook.actions}
    assert "marketing" in {purposes[action.action_id] for action in whole.actions}
    for answer in answers:
        decision = answer.record.decision
        assert {purposes[action.action_id] for action in decision.actions} == {"service"}
        assert "consents" in decision.degraded_by
        assert decision.profiled is False
        refused = {action.reasons[0].code for action in decision.suppressed if action.stage is Stage.CONSENT}
        assert refused == {"CONSENT_UNREADABLE"}
    assert ["request_id:unkept" in a.record.decision.degraded_by for a in answers] == [False, True, True]


def damage_log(application: Application) -> None:
    """Flips bits in the record before the last one; a torn last record would pass for an unfinished one."""
    application.decisions.decide(query(LOYAL))
    application.log.flush()
    for path in (application.settings.data_dir / "decisions").glob("*.seg"):
        data = bytearray(path.read_bytes())
        data[len(data) // 4] ^= 0xFF
        path.write_bytes(bytes(data))


def test_damaged_record_is_told_apart_from_an_unknown_one(own: Application) -> None:
    """DecisionUnreadable: the decision was made, but the log cannot give it back."""
    decided = own.decisions.decide(query(LOYAL)).record
    damage_log(own)

    with pytest.raises(DecisionUnreadable) as caught:
        own.explanations.explain(decided.decision_id)

    assert_safe(caught.value, own)


def test_repeated_request_whose_record_is_damaged_is_not_decided_twice(own: Application) -> None:
    """The first decision stands, though it cannot be given back."""
    own.decisions.decide(query(LOYAL, request_id="damaged"))
    damage_log(own)

    with pytest.raises(DecisionUnreadable) as caught:
        own.decisions.decide(query(LOYAL, request_id="damaged"))

    assert_safe(caught.value, own)
