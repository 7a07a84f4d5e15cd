"""The methods of the contract, as both clients call them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from google.protobuf.message import Message

from engine._pb.arbiter.v1 import (
    consent_service_pb2,
    decision_service_pb2,
    event_service_pb2,
    outcome_service_pb2,
)

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")
_Request = TypeVar("_Request", bound=Message)
_Response = TypeVar("_Response", bound=Message)


@dataclass(frozen=True, slots=True, eq=False)
class Method(Generic[Asked, Answer]):
    """Where a method is, and how its messages become bytes."""

    path: str
    write: Callable[[Asked], bytes]
    read: Callable[[bytes], Answer]


def _method(path: str, request: type[_Request], response: type[_Response]) -> Method[_Request, _Response]:
    return Method(f"/arbiter.v1.{path}", request.SerializeToString, response.FromString)


DECIDE: Final = _method(
    "DecisionService/Decide", decision_service_pb2.DecideRequest, decision_service_pb2.DecideResponse
)
DECIDE_BATCH: Final = _method(
    "DecisionService/DecideBatch",
    decision_service_pb2.DecideBatchRequest,
    decision_service_pb2.DecideBatchResponse,
)
EXPLAIN: Final = _method(
    "DecisionService/Explain", decision_service_pb2.ExplainRequest, decision_service_pb2.ExplainResponse
)
RECORD_OUTCOME: Final = _method(
    "OutcomeService/RecordOutcome",
    outcome_service_pb2.RecordOutcomeRequest,
    outcome_service_pb2.RecordOutcomeResponse,
)
RECORD_CONSENT: Final = _method(
    "ConsentService/RecordConsent",
    consent_service_pb2.RecordConsentRequest,
    consent_service_pb2.RecordConsentResponse,
)
GET_CONSENTS: Final = _method(
    "ConsentService/GetConsents",
    consent_service_pb2.GetConsentsRequest,
    consent_service_pb2.GetConsentsResponse,
)
INGEST: Final = _method(
    "EventService/Ingest", event_service_pb2.IngestRequest, event_service_pb2.IngestResponse
)
CHECK_HEALTH: Final[Method[None, bytes]] = Method("/grpc.health.v1.Health/Check", lambda _: b"", bytes)
"""Of the server as a whole. An empty request needs no stubs of that service, nor does the answer."""
ALL: Final = (
    DECIDE, DECIDE_BATCH, EXPLAIN, RECORD_OUTCOME, RECORD_CONSENT, GET_CONSENTS, INGEST, CHECK_HEALTH,
)  # fmt: skip
