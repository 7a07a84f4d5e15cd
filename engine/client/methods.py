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


def _of_service(name: str) -> bytes:
    """A HealthCheckRequest; so short a message needs no stubs of that service, nor does the answer."""
    return b"\x0a" + bytes([len(name)]) + name.encode("ascii") if name else b""


CHECK_HEALTH: Final[Method[str, bool]] = Method(
    "/grpc.health.v1.Health/Check", _of_service, lambda reply: reply == b"\x08\x01"
)
"""Whether a service serves, by its full name; "" asks for the server as a whole."""
ALL: Final = (
    DECIDE, DECIDE_BATCH, EXPLAIN, RECORD_OUTCOME, RECORD_CONSENT, GET_CONSENTS, INGEST, CHECK_HEALTH,
)  # fmt: skip
