"""The gRPC service of events: convert, call, convert."""

from __future__ import annotations

from collections.abc import Mapping

import grpc
from google.rpc import code_pb2, error_details_pb2, status_pb2

from engine._pb.arbiter.v1 import event_service_pb2, event_service_pb2_grpc
from engine.api.reading import to_ms
from engine.api.status import DOMAIN
from engine.events.applying import Fate, Verdict
from engine.events.raw import RawEvent
from engine.events.types import Reason
from engine.service.intake import Intake
from engine.signals.patterns import Value
from feature_store.state import Identity

_STATUSES: Mapping[Verdict, event_service_pb2.EventStatus.ValueType] = {
    Verdict.APPLIED: event_service_pb2.EVENT_STATUS_APPLIED,
    Verdict.DUPLICATE: event_service_pb2.EVENT_STATUS_DUPLICATE,
    Verdict.REFUSED: event_service_pb2.EVENT_STATUS_REFUSED,
}
_CODES: Mapping[Reason, int] = {
    Reason.CUSTOMER_UNKNOWN: code_pb2.NOT_FOUND,
    Reason.IDENTITY_AMBIGUOUS: code_pb2.FAILED_PRECONDITION,
    Reason.CUSTOMER_ERASED: code_pb2.FAILED_PRECONDITION,
    Reason.TOO_LATE: code_pb2.OUT_OF_RANGE,
    Reason.NOT_APPLIED: code_pb2.DATA_LOSS,
}
"""The others are INVALID_ARGUMENT."""


class EventServicer(event_service_pb2_grpc.EventServiceServicer):
    """Ingest."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    def Ingest(  # noqa: N802  # named by the contract
        self,
        request: event_service_pb2.IngestRequest,
        context: grpc.ServicerContext | None,  # noqa: ARG002  # given by grpc
    ) -> event_service_pb2.IngestResponse:
        """Applies a batch of events, each with its own result."""
        fates = self._intake.ingest([raw_event(event) for event in request.events])
        return event_service_pb2.IngestResponse(results=[_result(fate) for fate in fates])


def raw_event(event: event_service_pb2.Event) -> RawEvent:
    """An event as it came in, unchecked."""
    by_identity = event.WhichOneof("customer") == "identity"
    return RawEvent(
        id=event.event_id,
        type=event.type,
        customer_id=event.customer_id,
        identity=Identity(event.identity.type, event.identity.value) if by_identity else None,
        at_ms=to_ms(event.occur_time) if event.HasField("occur_time") else None,
        attributes={name: _value(value) for name, value in event.attributes.items()},
        received_ms=0,
        late=event.accept_late,
    )


def event_message(event: RawEvent) -> event_service_pb2.Event:
    """The message of an event; instants among its attributes stay what they are in JSON."""
    message = event_service_pb2.Event(event_id=event.id, type=event.type, accept_late=event.late)
    if event.identity is not None:
        message.identity.type, message.identity.value = event.identity.type, event.identity.value
    else:
        message.customer_id = event.customer_id
    if event.at_ms is not None:
        message.occur_time.FromMilliseconds(event.at_ms)
    for name, value in event.attributes.items():
        _fill(message.attributes[name], value)
    return message


def _fill(message: event_service_pb2.AttributeValue, value: Value) -> None:
    if isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, int):
        message.int_value = value
    elif isinstance(value, float):
        message.double_value = value
    else:
        message.string_value = value


def _value(message: event_service_pb2.AttributeValue) -> Value:
    """The value; empty text where nothing is said, which no attribute of another type takes."""
    kind = message.WhichOneof("kind")
    if kind == "timestamp_value":
        return to_ms(message.timestamp_value)
    value: Value = "" if kind is None else getattr(message, kind)
    return value


def _result(fate: Fate) -> event_service_pb2.EventResult:
    result = event_service_pb2.EventResult(status=_STATUSES[fate.verdict])
    if fate.reason is not None:
        code = _CODES.get(fate.reason, code_pb2.INVALID_ARGUMENT)
        result.error.CopyFrom(status_pb2.Status(code=code, message=fate.words))
        result.error.details.add().Pack(error_details_pb2.ErrorInfo(reason=fate.reason, domain=DOMAIN))
    return result
