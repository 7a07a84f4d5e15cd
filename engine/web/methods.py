"""Where each method of the contract is over HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from google.protobuf.message import Message

from engine._pb.arbiter.v1 import (
    consent_service_pb2,
    decision_service_pb2,
    event_service_pb2,
    outcome_service_pb2,
)


@dataclass(frozen=True, slots=True)
class Method:
    """One method of the contract, and where it is over HTTP."""

    path: str
    service: str
    name: str
    request: type[Message]
    response: type[Message]
    summary: str

    @property
    def full_name(self) -> str:
        """As gRPC calls it, and as metrics do."""
        return f"arbiter.v1.{self.service}/{self.name}"


DECISIONS: Final = "DecisionService"
OUTCOMES: Final = "OutcomeService"
CONSENTS: Final = "ConsentService"
EVENTS: Final = "EventService"
METHODS: Final = (
    Method(
        "/v1/decide", DECISIONS, "Decide", decision_service_pb2.DecideRequest,
        decision_service_pb2.DecideResponse, "Ranks the actions for one customer on one channel now.",
    ),
    Method(
        "/v1/decide:batch", DECISIONS, "DecideBatch", decision_service_pb2.DecideBatchRequest,
        decision_service_pb2.DecideBatchResponse, "Decides for several customers.",
    ),
    Method(
        "/v1/explain", DECISIONS, "Explain", decision_service_pb2.ExplainRequest,
        decision_service_pb2.ExplainResponse, "Returns a logged decision with every detail.",
    ),
    Method(
        "/v1/outcomes", OUTCOMES, "RecordOutcome", outcome_service_pb2.RecordOutcomeRequest,
        outcome_service_pb2.RecordOutcomeResponse, "Records what came of a returned action, once.",
    ),
    Method(
        "/v1/consents", CONSENTS, "RecordConsent", consent_service_pb2.RecordConsentRequest,
        consent_service_pb2.RecordConsentResponse, "Records a consent or an objection.",
    ),
    Method(
        "/v1/consents:get", CONSENTS, "GetConsents", consent_service_pb2.GetConsentsRequest,
        consent_service_pb2.GetConsentsResponse, "Returns what is in force for one customer.",
    ),
    Method(
        "/v1/events", EVENTS, "Ingest", event_service_pb2.IngestRequest,
        event_service_pb2.IngestResponse, "Applies a batch of events.",
    ),
)  # fmt: skip
"""Each is a POST with a body, reads as well: an id in an address would end in the logs of proxies."""
