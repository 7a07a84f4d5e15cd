"""Every contact names the consents it rested on; what browsers say is obeyed and, where wanted, kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from arbiter_at_work import LOYAL, copied_rules, query, reasons_of, scene, settings_for
from google.protobuf.timestamp_pb2 import Timestamp
from msgspec import structs

from engine._pb.arbiter.v1 import consent_service_pb2, types_pb2
from engine.bootstrap import Application, open_application
from engine.client import ArbiterClient
from engine.core.consent import GPC
from engine.decisionlog.ledger import OutcomeEntry, outcome_log
from engine.domain import LegalBasis
from engine.errors import ConsentNotRecorded
from engine.service.consents import ConsentSubmission
from engine.service.outcomes import OutcomeReport
from engine.service.privacy_signals import LastingObjections
from engine.service.uses import uses_of
from feature_store.state import ANY_CHANNEL, ConsentState, OutcomeType


def say(application: Application, customer: str, purpose: str, state: ConsentState) -> int:
    """Records a will on all channels; gives its position."""
    submission = ConsentSubmission(customer_id=customer, purpose=purpose, channel="any", state=state)
    return application.consents.record(submission).record.position


def shown(application: Application, customer: str, outcome_id: str, outcome: OutcomeType) -> tuple[str, str]:
    """A decision of which the first action was shown; gives decision and action."""
    record = application.decisions.decide(query(LOYAL, customer)).record
    action_id = record.decision.actions[0].action_id
    report = OutcomeReport(outcome_id, record.decision_id, action_id, outcome, None)
    application.outcomes.record(report)
    return record.decision_id, action_id


def uses(application: Application, customer: str):
    log = outcome_log(application.settings.data_dir / "outcomes")
    return list(uses_of(log, application.log, customer))


def test_a_contact_names_the_records_it_rested_on(
    application: Application, like: Callable[[str], str]
) -> None:
    """The use holds action, purpose and the ledger's position of each consent relied on."""
    customer = like(LOYAL)
    marketing = say(application, customer, "marketing", ConsentState.GRANTED)
    profiling = say(application, customer, "profiling", ConsentState.GRANTED)

    decision_id, action_id = shown(application, customer, f"{customer}-1", OutcomeType.SHOWN)

    (use,) = uses(application, customer)
    purposes = {a.id: a.purpose for a in application.live.current.rulebook.actions}
    assert (use.outcome.decision_id, use.outcome.action_id) == (decision_id, action_id)
    assert use.use.purpose == purposes[action_id]
    positions = {used.purpose: used.position for used in use.use.relied_on}
    assert positions["profiling"] == profiling
    assert positions.get("marketing", marketing) == marketing
    assert all(used.permitted for used in use.use.relied_on)
    entry = application.ledger.read(profiling)
    assert entry is not None
    assert entry.customer_id == customer


def test_only_the_profiling_that_was_done_is_named(
    application: Application, like: Callable[[str], str]
) -> None:
    """Where no model or behaviour was used, the contact rests on its purpose alone."""
    customer = like(LOYAL)
    say(application, customer, "profiling", ConsentState.WITHDRAWN)

    shown(application, customer, f"{customer}-1", OutcomeType.ACCEPTED)

    (use,) = uses(application, customer)
    assert [used.purpose for used in use.use.relied_on] == [use.use.purpose]
    assert use.use.relied_on[0].legal_basis in tuple(LegalBasis)


def test_an_outcome_sent_twice_is_one_use(application: Application, like: Callable[[str], str]) -> None:
    """A retry is in the log twice and is told once; another outcome of the same contact is told too."""
    customer = like(LOYAL)
    record = application.decisions.decide(query(LOYAL, customer)).record
    action_id = record.decision.actions[0].action_id
    for outcome_id, outcome in (
        ("a", OutcomeType.SHOWN),
        ("a", OutcomeType.SHOWN),
        ("b", OutcomeType.CLICKED),
    ):
        report = OutcomeReport(f"{customer}-{outcome_id}", record.decision_id, action_id, outcome, None)
        application.outcomes.record(report)

    found = uses(application, customer)

    assert [use.outcome.type for use in found] == [OutcomeType.SHOWN, OutcomeType.CLICKED]


def test_outcomes_of_earlier_engines_are_looked_up(
    application: Application, like: Callable[[str], str], tmp_path: Path
) -> None:
    """An entry without a use is completed from its decision: every purpose that was permitted."""
    customer = like(LOYAL)
    record = application.decisions.decide(query(LOYAL, customer)).record
    old = OutcomeEntry(
        outcome_id="o",
        decision_id=record.decision_id,
        action_id="x",
        type=OutcomeType.SHOWN,
        at_ms=record.now_ms,
        received_at_ms=record.now_ms,
    )
    lost = replace(old, outcome_id="p", decision_id="0" * 26)
    with outcome_log(tmp_path) as log:
        log.append(old)
        log.append(lost)

        (use,) = uses_of(log, application.log, customer)

    permitted = {used.purpose for used in record.decision.consents if used.permitted}
    assert {used.purpose for used in use.use.relied_on} == permitted


def test_the_ledger_keeps_what_the_customer_was_told(
    arbiter: ArbiterClient, like: Callable[[str], str]
) -> None:
    """Notice, law, recipients and the rest come back with the record, and the position leads to it."""
    customer = like(LOYAL)
    wish = consent_service_pb2.ConsentRecord(
        purpose="marketing",
        channel="any",
        state=types_pb2.CONSENT_STATE_GRANTED,
        notice="https://example.org/privacy",
        notice_version="2026-01",
        notice_language="fr-CH",
        legal_basis="consent",
        jurisdiction="CH",
        recipients=["Acme Mailing"],
        data_categories=["contact", "usage"],
        collection_method="checkbox",
    )

    told = arbiter.record_consent(
        consent_service_pb2.RecordConsentRequest(customer_id=customer, consent=wish)
    )

    held = arbiter.get_consents(consent_service_pb2.GetConsentsRequest(customer_id=customer))
    (kept,) = [r for r in held.consents if (r.purpose, r.channel) == ("marketing", "any")]
    assert kept == told.consent
    assert kept.ledger_position == told.ledger_position
    kept.record_time.CopyFrom(Timestamp())
    wish.record_time.CopyFrom(Timestamp())
    kept.ledger_position = 0
    assert kept == wish


@pytest.fixture
def keeping(data_dir: Path, tmp_path: Path):
    """The demo company with rules that keep what Global Privacy Control says."""
    rules = copied_rules(tmp_path)
    path = rules / "consent" / "purposes.yaml"
    path.write_text(
        path.read_text(encoding="utf-8").replace("record: false", "record: true"), encoding="utf-8"
    )
    with open_application(settings_for(data_dir, rules=rules)) as application:
        yield application


def test_a_signal_is_obeyed_and_not_kept_by_default(
    application: Application, like: Callable[[str], str]
) -> None:
    """The demo's rules obey it for the request; the ledger and the next request know nothing of it."""
    customer = like(LOYAL)
    for purpose in ("marketing", "profiling"):
        say(application, customer, purpose, ConsentState.GRANTED)
    entries = len(list(application.ledger.replay()))

    with_signal = application.decisions.decide(query(LOYAL, customer, global_privacy_control=True)).record
    without = application.decisions.decide(query(LOYAL, customer)).record

    assert {u.purpose for u in with_signal.decision.consents if u.signal == GPC} == {"marketing", "profiling"}
    assert not with_signal.decision.profiled
    assert without.decision.profiled
    assert len(list(application.ledger.replay())) == entries


def test_a_signal_that_lasts_is_an_objection_in_the_ledger(keeping: Application) -> None:
    """Where the rules say so, the objection is on disk before the answer, once; later requests obey it."""
    decided = keeping.decisions.decide(query(LOYAL, global_privacy_control=True)).record
    keeping.decisions.decide(query(LOYAL, global_privacy_control=True))

    later = keeping.decisions.decide(query(LOYAL)).record
    kept = [e for e in keeping.ledger.replay() if e.consent.source.startswith("gpc:")]
    assert [(e.customer_id, e.consent.purpose) for e in kept] == [(LOYAL, "marketing"), (LOYAL, "profiling")]
    assert {(e.consent.state, e.consent.channel) for e in kept} == {(ConsentState.OBJECTED, ANY_CHANNEL)}
    assert kept[0].consent.evidence == f"decision:{decided.decision_id}"
    assert not later.decision.profiled
    assert {u.state for u in later.decision.consents if u.purpose == "marketing"} == {ConsentState.OBJECTED}


def test_an_answer_goes_out_where_the_objection_cannot_be_kept(keeping: Application) -> None:
    """The decision obeyed the signal already; a full disk costs the record of it, not the answer."""
    decided = keeping.decisions.decide(query(LOYAL)).record
    signalled = replace(
        decided,
        request=replace(decided.request, global_privacy_control=True),
        decision=replace(
            decided.decision,
            consents=tuple(structs.replace(u, signal=GPC) for u in decided.decision.consents),
        ),
    )
    asked = []

    def full(submission: ConsentSubmission):
        asked.append(submission.purpose)
        raise ConsentNotRecorded("no space")

    LastingObjections(live=keeping.live, record=full).keep(signalled)

    assert asked == [used.purpose for used in decided.decision.consents]


def test_a_client_passes_the_signal_on(arbiter: ArbiterClient, like: Callable[[str], str]) -> None:
    """Over the wire it removes what it objects to, and the reply says in words that the browser said so."""
    request = scene(LOYAL, like(LOYAL))
    request.privacy_signals.global_privacy_control = True

    reply = arbiter.decide(request)

    told = [reason for reason in reasons_of(reply) if reason.code == "CONSENT_SIGNALLED"]
    assert told
    assert "Global Privacy Control" in told[0].agent_text
    assert {used.signal for used in reply.consents if used.purpose in ("marketing", "profiling")} == {"gpc"}
    assert not reply.profiled
