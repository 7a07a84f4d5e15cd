"""What the demo's telling customers are answered over gRPC."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from arbiter_at_work import (
    AT_RISK,
    FRENCH,
    LOYAL,
    OBJECTOR,
    UNPROFILED,
    failure_of,
    reason_of,
    reasons_of,
    scene,
)
from google.protobuf.timestamp_pb2 import Timestamp

from engine._pb.arbiter.v1 import consent_service_pb2, decision_service_pb2, types_pb2
from engine.bootstrap import Application
from engine.client import ArbiterClient
from engine.demo.cast import CAST, TOLD_APART
from engine.demo.company import identities_of
from engine.release import engine_version
from feature_store.state import Identity

FULL = decision_service_pb2.EXPLANATION_DETAIL_FULL
STANDARD = decision_service_pb2.EXPLANATION_DETAIL_STANDARD
SUMMARY = decision_service_pb2.EXPLANATION_DETAIL_SUMMARY


def test_customer_at_risk_who_calls_to_cancel_is_offered_retention_first(arbiter: ArbiterClient) -> None:
    """A call to cancel is answered with a retention offer."""
    response = arbiter.decide(scene(AT_RISK))

    assert response.actions[0].group == "retention"


def test_loyal_customer_gets_no_retention_offer(arbiter: ArbiterClient) -> None:
    """Discounts do not go to those who would have stayed."""
    response = arbiter.decide(scene(LOYAL, limit=100))

    assert [a.action_id for a in response.actions if a.group == "retention"] == []


def test_objection_to_marketing_leaves_no_marketing_action(arbiter: ArbiterClient) -> None:
    """Who objected to marketing is shown none, and every removal says why."""
    response = arbiter.decide(scene(OBJECTOR, limit=100))

    assert {a.purpose for a in response.actions} & {"marketing"} == set()
    assert any(s.stage == types_pb2.STAGE_CONSENT for s in response.suppressed)


def test_denied_profiling_keeps_every_model_out(arbiter: ArbiterClient) -> None:
    """Without consent to profiling there is no score, no model reason and no behavioural input."""
    response = arbiter.decide(scene(UNPROFILED, limit=100, explanation_detail=FULL))

    priorities = [a.priority for a in response.actions]
    priorities += [s.priority for s in response.suppressed if s.HasField("priority")]
    assert not response.profiled
    assert not response.HasField("churn_risk")
    assert {p.propensity_source for p in priorities} == {decision_service_pb2.PROPENSITY_SOURCE_PRIOR}
    assert [r for r in reasons_of(response) if r.source == types_pb2.REASON_SOURCE_MODEL] == []
    assert "withheld" in {m.cause for m in response.missing_inputs}


def test_profiled_customer_is_scored_by_the_model(arbiter: ArbiterClient) -> None:
    """With consent to profiling the reply has a churn band with model reasons."""
    response = arbiter.decide(scene(AT_RISK))

    assert response.profiled
    assert response.churn_risk.band == "high"
    assert {r.source for r in response.churn_risk.reasons} == {types_pb2.REASON_SOURCE_MODEL}


@pytest.mark.parametrize("cast_id", CAST)
def test_every_catalogue_action_is_accounted_for(
    arbiter: ArbiterClient, application: Application, cast_id: str
) -> None:
    """Each action is either returned or suppressed, once, with a stage and reasons."""
    response = arbiter.decide(scene(cast_id))

    fates = [a.action_id for a in response.actions] + [s.action_id for s in response.suppressed]
    assert sorted(fates) == sorted(a.id for a in application.live.current.rulebook.actions)
    assert all(s.stage != types_pb2.STAGE_UNSPECIFIED and s.reasons for s in response.suppressed)


@pytest.mark.parametrize("cast_id", CAST)
def test_reply_has_actions_or_says_why_not_and_words_for_every_reason(
    arbiter: ArbiterClient, cast_id: str
) -> None:
    """Either actions or `no_action`; reasons have sentences with nothing left to fill in."""
    response = arbiter.decide(scene(cast_id))

    assert bool(response.actions) != response.HasField("no_action")
    for reason in reasons_of(response):
        assert reason.agent_text
        assert reason.customer_text
        assert "{" not in reason.agent_text + reason.customer_text


def test_reply_names_every_version_it_was_made_with(arbiter: ArbiterClient) -> None:
    """Rules, catalogue and schema by content, models by number, and the engine."""
    versions = arbiter.decide(scene(AT_RISK)).versions

    for digest in (versions.rules, versions.catalogue, versions.feature_schema):
        assert digest.startswith("sha256:")
        assert len(digest) == len("sha256:") + 64
    assert dict(versions.models) == {"churn": 1, "propensity": 1}
    assert versions.engine == engine_version()


def test_reply_repeats_what_was_asked_and_is_ranked_by_priority(arbiter: ArbiterClient) -> None:
    """Customer, channel and placement come back; ranks count from one as priority falls."""
    response = arbiter.decide(scene(AT_RISK))

    assert (response.customer_id, response.channel, response.placement) == (
        AT_RISK,
        "call_center",
        "screen_pop",
    )
    assert [a.rank for a in response.actions] == list(range(1, len(response.actions) + 1))
    priorities = [a.priority.priority for a in response.actions]
    assert priorities == sorted(priorities, reverse=True)


def test_priority_is_the_product_of_its_factors(arbiter: ArbiterClient) -> None:
    """What the reply shows of a priority multiplies to it."""
    response = arbiter.decide(scene(AT_RISK, limit=100, explanation_detail=FULL))

    shown = [a.priority for a in response.actions]
    shown += [s.priority for s in response.suppressed if s.HasField("priority")]
    for p in shown:
        product = p.propensity * p.weight * p.value * (1 + sum(lever.share for lever in p.levers))
        assert p.priority == pytest.approx(product, rel=1e-9)
        assert p.currency == "CHF"


@pytest.mark.parametrize("tag", ["fr", "fr-CH", "FR", "fr_CH"])
def test_texts_come_in_the_language_asked_for(arbiter: ArbiterClient, tag: str) -> None:
    """A regional tag falls back to its language."""
    french = arbiter.decide(scene(FRENCH, language="fr"))
    response = arbiter.decide(scene(FRENCH, language=tag))
    english = arbiter.decide(scene(FRENCH, language="en"))

    assert response.actions[0].name == french.actions[0].name
    assert response.actions[0].name != english.actions[0].name


@pytest.mark.parametrize("tag", ["", "xx", "rm-CH"])
def test_unknown_language_falls_back_to_the_first_declared(arbiter: ArbiterClient, tag: str) -> None:
    """A language without texts is answered in English."""
    english = arbiter.decide(scene(AT_RISK, language="en"))

    response = arbiter.decide(scene(AT_RISK, language=tag))

    assert response.actions[0].treatment.headline == english.actions[0].treatment.headline


def test_summary_leaves_out_the_suppressed(arbiter: ArbiterClient) -> None:
    """SUMMARY carries actions with reasons only."""
    response = arbiter.decide(scene(AT_RISK, explanation_detail=SUMMARY))

    assert response.actions[0].reasons
    assert list(response.suppressed) == []


def test_standard_shows_fates_without_their_priorities(arbiter: ArbiterClient) -> None:
    """STANDARD carries stage and reasons of what was suppressed, and unspecified means STANDARD."""
    standard = arbiter.decide(scene(AT_RISK, explanation_detail=STANDARD))
    unspecified = arbiter.decide(scene(AT_RISK))

    assert standard.suppressed
    assert not any(s.HasField("priority") for s in standard.suppressed)
    assert list(unspecified.suppressed) == list(standard.suppressed)


def test_full_shows_priorities_of_candidates_that_lost(arbiter: ArbiterClient) -> None:
    """FULL adds the factors of what qualified but lost."""
    response = arbiter.decide(scene(AT_RISK, limit=1, explanation_detail=FULL))

    lost = [s for s in response.suppressed if s.stage == types_pb2.STAGE_ARBITRATION]
    assert lost
    assert all(s.HasField("priority") for s in lost)


@pytest.mark.parametrize(("limit", "most"), [(1, 1), (2, 2), (None, 3)])
def test_limit_bounds_the_actions(arbiter: ArbiterClient, limit: int | None, most: int) -> None:
    """At most `limit` actions come back; three where it is left out."""
    response = arbiter.decide(scene(AT_RISK, limit=limit))

    assert len(response.actions) == most


def test_filter_narrows_and_excludes(arbiter: ArbiterClient) -> None:
    """Only the groups asked for and none of the excluded; the rest fails at availability."""
    first = arbiter.decide(scene(AT_RISK)).actions[0].action_id
    wanted = decision_service_pb2.ActionFilter(groups=["retention"], exclude_action_ids=[first])

    response = arbiter.decide(scene(AT_RISK, filter=wanted, limit=100))

    assert {a.group for a in response.actions} == {"retention"}
    fate = next(s for s in response.suppressed if s.action_id == first)
    assert fate.stage == types_pb2.STAGE_AVAILABILITY


def test_filter_may_name_the_only_actions(arbiter: ArbiterClient) -> None:
    """`action_ids` leaves those alone."""
    wanted = decision_service_pb2.ActionFilter(action_ids=["retention_price_lock"])

    response = arbiter.decide(scene(AT_RISK, filter=wanted))

    assert [a.action_id for a in response.actions] == ["retention_price_lock"]


@pytest.mark.parametrize("position", range(3))
def test_identity_is_resolved_to_its_customer(arbiter: ArbiterClient, position: int) -> None:
    """Phone, mail hash and loyalty number each lead to the customer."""
    identity = identities_of(AT_RISK)[position]
    request = scene(AT_RISK)
    request.identity.CopyFrom(types_pb2.Identity(type=identity.type, value=identity.value))

    response = arbiter.decide(request)

    assert response.customer_id == AT_RISK


def test_unknown_identity_is_not_found_and_not_repeated(arbiter: ArbiterClient) -> None:
    """NOT_FOUND, without the number in the text."""
    request = scene(AT_RISK)
    request.identity.CopyFrom(types_pb2.Identity(type="phone", value="+41999999999"))

    failure = failure_of(lambda: arbiter.decide(request))

    assert failure.code == "NOT_FOUND"
    assert reason_of(failure) == ("CUSTOMER_UNKNOWN", "arbiter")
    assert "999999" not in str(failure.status)


def test_unknown_customer_is_not_found(arbiter: ArbiterClient) -> None:
    """NOT_FOUND for an id nobody has, and for one too long in bytes to be kept."""
    for nobody in ("C9999", "\N{CJK UNIFIED IDEOGRAPH-4E00}" * 128, "\N{GRINNING FACE}" * 128):
        failure = failure_of(lambda nobody=nobody: arbiter.decide(scene(AT_RISK, nobody)))

        assert failure.code == "NOT_FOUND"
        assert nobody not in str(failure.status)


@pytest.mark.parametrize("kind", ["cookie", "device", "loyalty_number"])
def test_none_one_and_several_are_three_answers(
    application: Application, arbiter: ArbiterClient, like: Callable[[str], str], kind: str
) -> None:
    """Of every declared type: nobody is not found, one is meant, and of two nobody is guessed."""
    alone, first, second = (like(AT_RISK) for _ in range(3))
    application.store.link(
        [
            (Identity(kind, f"own-{alone}"), alone),
            (Identity(kind, f"shared-{first}"), first),
            (Identity(kind, f"shared-{first}"), second),
        ]
    )

    def asked(value: str) -> decision_service_pb2.DecideRequest:
        request = scene(AT_RISK)
        request.identity.CopyFrom(types_pb2.Identity(type=kind, value=value))
        return request

    found = arbiter.decide(asked(f" own-{alone} "))
    nobody = failure_of(lambda: arbiter.decide(asked(f"own-{alone}".upper())))
    several = failure_of(lambda: arbiter.decide(asked(f"shared-{first}")))

    assert found.customer_id == alone
    assert reason_of(nobody) == ("CUSTOMER_UNKNOWN", "arbiter")
    assert reason_of(several) == ("IDENTITY_AMBIGUOUS", "arbiter")


def test_shared_phone_is_never_guessed(arbiter: ArbiterClient) -> None:
    """FAILED_PRECONDITION says how many, not who."""
    request = scene(AT_RISK)
    request.identity.CopyFrom(types_pb2.Identity(type="phone", value=TOLD_APART.phone))

    failure = failure_of(lambda: arbiter.decide(request))

    assert failure.code == "FAILED_PRECONDITION"
    assert reason_of(failure) == ("IDENTITY_AMBIGUOUS", "arbiter")
    assert TOLD_APART.phone not in str(failure.status)
    assert not any(customer in str(failure.status) for customer in TOLD_APART.customers)


def test_next_decision_obeys_an_objection(arbiter: ArbiterClient, like: Callable[[str], str]) -> None:
    """An objection recorded is an objection obeyed."""
    customer = like(AT_RISK)
    before = arbiter.decide(scene(AT_RISK, customer, limit=100))

    arbiter.record_consent(
        consent_service_pb2.RecordConsentRequest(
            customer_id=customer,
            consent=consent_service_pb2.ConsentRecord(
                purpose="marketing", channel="any", state=types_pb2.CONSENT_STATE_OBJECTED
            ),
        )
    )
    after = arbiter.decide(scene(AT_RISK, customer, limit=100))

    assert "marketing" in {a.purpose for a in before.actions}
    assert "marketing" not in {a.purpose for a in after.actions}


def test_denying_profiling_stops_scoring_at_once(arbiter: ArbiterClient, like: Callable[[str], str]) -> None:
    """The decision after a refusal of profiling uses no model."""
    customer = like(LOYAL)
    before = arbiter.decide(scene(LOYAL, customer))

    arbiter.record_consent(
        consent_service_pb2.RecordConsentRequest(
            customer_id=customer,
            consent=consent_service_pb2.ConsentRecord(
                purpose="profiling", channel="web", state=types_pb2.CONSENT_STATE_WITHDRAWN
            ),
        )
    )
    after = arbiter.decide(scene(LOYAL, customer))

    assert (before.profiled, after.profiled) == (True, False)


def _instant(seconds: int) -> types_pb2.ContextValue:
    return types_pb2.ContextValue(timestamp_value=Timestamp(seconds=seconds))


EXTREMES = {
    "largest number": {"basket_value": types_pb2.ContextValue(double_value=1.7e308)},
    "smallest number": {"basket_value": types_pb2.ContextValue(double_value=-1.7e308)},
    "tiny number": {"basket_value": types_pb2.ContextValue(double_value=5e-324)},
    "first instant": {"last_contact_at": _instant(-62_135_596_800)},
    "last instant": {"last_contact_at": _instant(253_402_300_799)},
    "empty text": {"page": types_pb2.ContextValue(string_value="")},
    "braces in text": {"page": types_pb2.ContextValue(string_value="{features.contract} {0} %s")},
    "every script": {"page": types_pb2.ContextValue(string_value="\u05e9\u6f22\U0001f600é")},
}


@pytest.mark.parametrize("case", EXTREMES)
@pytest.mark.parametrize("cast_id", [AT_RISK, LOYAL, UNPROFILED])
def test_extreme_but_permitted_context_is_decided(
    arbiter: ArbiterClient, application: Application, cast_id: str, case: str
) -> None:
    """What the contract permits is answered, logged, and the same when made again."""
    request = scene(cast_id, explanation_detail=FULL)
    for name, value in EXTREMES[case].items():
        request.context[name].CopyFrom(value)

    response = arbiter.decide(request)

    assert application.explanations.replay(response.decision_id).same
