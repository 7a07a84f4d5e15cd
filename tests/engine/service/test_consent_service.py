"""Consents: the ledger first, then every decision and every question about them."""

from __future__ import annotations

from collections.abc import Callable

from arbiter_at_work import AT_RISK, LOYAL, failure_of, reason_of
from google.protobuf.timestamp_pb2 import Timestamp

from engine._pb.arbiter.v1 import consent_service_pb2, types_pb2
from engine.bootstrap import Application, wall_clock_ms
from engine.client import ArbiterClient
from feature_store.state import ConsentState

GRANTED, OBJECTED = types_pb2.CONSENT_STATE_GRANTED, types_pb2.CONSENT_STATE_OBJECTED


def consent(
    customer_id: str, state: types_pb2.ConsentState, **fields: object
) -> consent_service_pb2.RecordConsentRequest:
    """A consent to marketing on all channels."""
    given = {"purpose": "marketing", "channel": "any", "state": state} | fields
    record = consent_service_pb2.ConsentRecord(**given)  # type: ignore[arg-type]  # fields of the message
    return consent_service_pb2.RecordConsentRequest(customer_id=customer_id, consent=record)


def effective(
    arbiter: ArbiterClient, customer_id: str, purpose: str = "marketing"
) -> dict[str, types_pb2.ConsentUsed]:
    """What is effective for a purpose, by channel."""
    held = arbiter.get_consents(consent_service_pb2.GetConsentsRequest(customer_id=customer_id))
    return {e.channel: e.consent for e in held.effective if e.consent.purpose == purpose}


def test_recorded_consent_is_in_the_ledger_at_its_position(
    arbiter: ArbiterClient, application: Application, like: Callable[[str], str]
) -> None:
    """The position names the entry, with all that was said about it."""
    customer = like(LOYAL)
    said = {"source": "web:preference-center", "notice_version": "2026-01", "actor": "agent:17"}

    reply = arbiter.record_consent(consent(customer, OBJECTED, evidence="call-99", **said))

    entry = application.ledger.read(reply.ledger_position)
    assert entry is not None
    assert (entry.customer_id, entry.consent.state) == (customer, ConsentState.OBJECTED)
    assert (entry.consent.source, entry.consent.notice_version) == ("web:preference-center", "2026-01")
    assert (entry.consent.actor, entry.consent.evidence) == ("agent:17", "call-99")


def test_positions_grow(arbiter: ArbiterClient, like: Callable[[str], str]) -> None:
    """Later entries of one server have higher positions."""
    customer = like(LOYAL)

    positions = [
        arbiter.record_consent(consent(customer, state)).ledger_position for state in (OBJECTED, GRANTED)
    ]

    assert 0 < positions[0] < positions[1]


def test_reply_fills_in_the_time(arbiter: ArbiterClient, like: Callable[[str], str]) -> None:
    """Without a time it is now; a time of a fast clock is brought back to now."""
    before = wall_clock_ms() // 1000
    ahead = Timestamp(seconds=before + 200)

    now = arbiter.record_consent(consent(like(LOYAL), GRANTED)).consent
    fast = arbiter.record_consent(consent(like(LOYAL), GRANTED, record_time=ahead)).consent

    after = wall_clock_ms() // 1000
    assert before <= now.record_time.seconds <= after
    assert before <= fast.record_time.seconds <= after


def test_consents_are_effective_per_channel(arbiter: ArbiterClient, like: Callable[[str], str]) -> None:
    """A channel's own refusal holds there; elsewhere the record for any channel does."""
    customer = like(LOYAL)

    arbiter.record_consent(consent(customer, types_pb2.CONSENT_STATE_WITHDRAWN, channel="sms"))

    marketing = effective(arbiter, customer)
    assert set(marketing) == {"web", "app", "call_center", "email", "sms", "push"}
    assert (marketing["sms"].channel, marketing["sms"].permitted) == ("sms", False)
    assert (marketing["web"].channel, marketing["web"].permitted) == ("any", True)
    assert marketing["web"].legal_basis == "consent"
    assert marketing["call_center"].legal_basis == "legitimate_interest"


def test_every_purpose_is_told_on_every_channel(
    arbiter: ArbiterClient, application: Application, like: Callable[[str], str]
) -> None:
    """GetConsents leaves no purpose out."""
    held = arbiter.get_consents(consent_service_pb2.GetConsentsRequest(customer_id=like(LOYAL)))

    rulebook = application.live.current.rulebook
    told = {(e.channel, e.consent.purpose) for e in held.effective}
    assert told == {(c, p) for c in rulebook.vocabulary.channels for p in rulebook.consent.purposes}
    assert len(held.effective) == len(told)


def test_records_come_ordered_by_purpose_and_channel(
    arbiter: ArbiterClient, like: Callable[[str], str]
) -> None:
    """The latest record of each, in a stable order."""
    customer = like(LOYAL)
    for channel in ("web", "email"):
        arbiter.record_consent(consent(customer, GRANTED, channel=channel))

    held = arbiter.get_consents(consent_service_pb2.GetConsentsRequest(customer_id=customer))

    places = [(c.purpose, c.channel) for c in held.consents]
    assert places == [
        ("marketing", "any"),
        ("marketing", "email"),
        ("marketing", "web"),
        ("profiling", "any"),
    ]


def test_grant_ends_at_its_time(arbiter: ArbiterClient, like: Callable[[str], str]) -> None:
    """A grant whose validity is over is EXPIRED and permits nothing."""
    customer, now_s = like(LOYAL), wall_clock_ms() // 1000
    ended = {"record_time": Timestamp(seconds=now_s - 60), "expire_time": Timestamp(seconds=now_s - 1)}

    arbiter.record_consent(consent(customer, GRANTED, channel="email", **ended))

    email = effective(arbiter, customer)["email"]
    assert (email.state, email.permitted) == (types_pb2.CONSENT_STATE_EXPIRED, False)


def test_older_consent_does_not_replace_a_newer_one(
    arbiter: ArbiterClient, like: Callable[[str], str]
) -> None:
    """What comes in late is kept in the ledger and changes nothing."""
    customer, now_s = like(AT_RISK), wall_clock_ms() // 1000
    arbiter.record_consent(consent(customer, OBJECTED))

    late = consent(customer, GRANTED, record_time=Timestamp(seconds=now_s - 3600))
    arbiter.record_consent(late)

    assert effective(arbiter, customer)["web"].state == OBJECTED


def test_consent_of_nobody_is_not_found_and_not_recorded(
    arbiter: ArbiterClient, application: Application
) -> None:
    """NOT_FOUND, and the ledger stays as it was."""
    before = sum(1 for _ in application.ledger.replay())

    failure = failure_of(lambda: arbiter.record_consent(consent("C9999", OBJECTED)))

    assert failure.code == "NOT_FOUND"
    assert reason_of(failure) == ("CUSTOMER_UNKNOWN", "arbiter")
    assert sum(1 for _ in application.ledger.replay()) == before


def test_consents_of_nobody_are_not_found(arbiter: ArbiterClient) -> None:
    """GetConsents of an unknown customer is NOT_FOUND, not an empty list."""
    request = consent_service_pb2.GetConsentsRequest(customer_id="C9999")

    assert failure_of(lambda: arbiter.get_consents(request)).code == "NOT_FOUND"
