"""The calls of the contract, from ready messages or plain values; both clients make the same ones.

A ready message is sent as it is. Every call takes `timeout_s`, the time it may take in all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Unpack

from google.protobuf.message import Message

from engine._pb.arbiter.v1 import (
    consent_service_pb2,
    decision_service_pb2,
    event_service_pb2,
    outcome_service_pb2,
)
from engine.client import methods, requests
from engine.client.methods import Answer, Asked, Method


@dataclass(frozen=True, slots=True)
class Call(Generic[Asked, Answer]):
    """A call that has not been made."""

    method: Method[Asked, Answer]
    request: Asked
    timeout_s: float | None
    wait_for_ready: bool = False


def decide(
    request: decision_service_pb2.DecideRequest | None = None,
    /,
    *,
    timeout_s: float | None = None,
    **fields: Unpack[requests.DecideFields],
) -> Call[decision_service_pb2.DecideRequest, decision_service_pb2.DecideResponse]:
    """Ranks the actions for one customer on one channel now."""
    _refuse_both(request, fields)
    return Call(methods.DECIDE, request or requests.decide_request(fields), timeout_s)


def decide_batch(
    batch: decision_service_pb2.DecideBatchRequest | Iterable[decision_service_pb2.DecideRequest],
    /,
    *,
    timeout_s: float | None = None,
) -> Call[decision_service_pb2.DecideBatchRequest, decision_service_pb2.DecideBatchResponse]:
    """Decides for several customers; each item has its own result or error, in their order."""
    return Call(methods.DECIDE_BATCH, requests.batch_of(batch), timeout_s)


def explain(
    decision: decision_service_pb2.ExplainRequest | requests.Decision,
    /,
    *,
    action_id: str = "",
    language: str = "",
    timeout_s: float | None = None,
) -> Call[decision_service_pb2.ExplainRequest, decision_service_pb2.ExplainResponse]:
    """Why, why not, and for one action what if."""
    return Call(methods.EXPLAIN, requests.explanation_of(decision, action_id, language), timeout_s)


def record_outcome(
    decision: outcome_service_pb2.RecordOutcomeRequest | requests.Decision,
    action: requests.Action = "",
    outcome: requests.Outcome = "shown",
    *,
    outcome_id: str | None = None,
    occurred: datetime | None = None,
    timeout_s: float | None = None,
) -> Call[outcome_service_pb2.RecordOutcomeRequest, outcome_service_pb2.RecordOutcomeResponse]:
    """What came of an action; counted once for each `outcome_id`, which is made where there is none."""
    request = requests.outcome_of(decision, action, outcome, outcome_id, occurred)
    return Call(methods.RECORD_OUTCOME, request, timeout_s)


def record_consent(
    request: consent_service_pb2.RecordConsentRequest | None = None,
    /,
    *,
    timeout_s: float | None = None,
    **fields: Unpack[requests.ConsentFields],
) -> Call[consent_service_pb2.RecordConsentRequest, consent_service_pb2.RecordConsentResponse]:
    """What a customer said. Never sent again by itself: after NotAnswered repeat a no, ask about a yes."""
    _refuse_both(request, fields)
    return Call(methods.RECORD_CONSENT, request or requests.consent_request(fields), timeout_s)


def get_consents(
    customer: consent_service_pb2.GetConsentsRequest | str, /, *, timeout_s: float | None = None
) -> Call[consent_service_pb2.GetConsentsRequest, consent_service_pb2.GetConsentsResponse]:
    """What is in force for one customer."""
    return Call(methods.GET_CONSENTS, requests.consents_of(customer), timeout_s)


def ingest(
    events: event_service_pb2.IngestRequest | Iterable[event_service_pb2.Event],
    /,
    *,
    timeout_s: float | None = None,
) -> Call[event_service_pb2.IngestRequest, event_service_pb2.IngestResponse]:
    """What happened to customers (`event` makes one); each event has its own result."""
    return Call(methods.INGEST, requests.events_of(events), timeout_s)


def wait_until_serving(timeout_s: float) -> Call[str, bool]:
    """Returns when the server is ready; fails where it is not in time."""
    return Call(methods.CHECK_HEALTH, "", timeout_s, wait_for_ready=True)


def is_ready(service: str = "", *, timeout_s: float | None = None) -> Call[str, bool]:
    """Whether a service, by its full name, can do its work; NotFound where there is none."""
    return Call(methods.CHECK_HEALTH, service, timeout_s)


def _refuse_both(request: Message | None, fields: Mapping[str, object]) -> None:
    if request is not None and fields:
        raise TypeError(f"a ready message is sent as it is: write {', '.join(fields)} into it")
