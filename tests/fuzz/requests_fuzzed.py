"""Requests through the real servicers and what stands around them, in this process."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from mutating import Mutator
from surfaces import Finding, refuse_inside

from engine import errors
from engine._pb.arbiter.v1 import (
    consent_service_pb2,
    consent_service_pb2_grpc,
    decision_service_pb2,
    decision_service_pb2_grpc,
    event_service_pb2,
    event_service_pb2_grpc,
    outcome_service_pb2,
    outcome_service_pb2_grpc,
    types_pb2,
)
from engine.api.event_servicer import EventServicer
from engine.api.gate import CallGate
from engine.api.interceptors import ErrorsToStatus
from engine.api.servicers import ConsentServicer, DecisionServicer, OutcomeServicer
from engine.bootstrap import Application
from engine.events.types import Reason
from engine.service.watching import UNWATCHED

REASONS = {
    kind.reason
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.ArbiterError)
} | {str(reason) for reason in Reason}
_OUR_FAULT = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAVAILABLE}
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class _Aborted(Exception):
    """The call ended with a status."""

    def __init__(self, status: Any) -> None:
        super().__init__(status.details)
        self.status = status


class _Context:
    """What gRPC tells of a call."""

    def time_remaining(self) -> None:
        return None

    def is_active(self) -> bool:
        return True

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    def abort_with_status(self, status: Any) -> None:
        raise _Aborted(status)


class _Registrar:
    """Takes the handlers that generated code gives to a server."""

    def __init__(self) -> None:
        self.handlers: dict[str, Any] = {}

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """As a server has it; the handlers come by the other one too."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        for name, handler in handlers.items():
            self.handlers[f"/{service}/{name}"] = handler


def guarded_handlers(application: Application) -> dict[str, Any]:
    """Every method of the contract, with what a server puts around it."""
    registrar: Any = _Registrar()
    decision = DecisionServicer(application.decisions, application.explanations)
    decision_service_pb2_grpc.add_DecisionServiceServicer_to_server(decision, registrar)
    outcome_service_pb2_grpc.add_OutcomeServiceServicer_to_server(
        OutcomeServicer(application.outcomes), registrar
    )
    consent_service_pb2_grpc.add_ConsentServiceServicer_to_server(
        ConsentServicer(application.consents), registrar
    )
    event_service_pb2_grpc.add_EventServiceServicer_to_server(EventServicer(application.intake), registrar)
    around: Any = ErrorsToStatus(CallGate(), UNWATCHED)

    class Details:
        def __init__(self, method: str) -> None:
            self.method = method
            self.invocation_metadata = ()

    return {
        method: around.intercept_service(lambda _, found=handler: found, Details(method))
        for method, handler in registrar.handlers.items()
    }


def judged(status: status_pb2.Status) -> str:
    """What a refusal is in words. Raises Finding where it is our fault, or nobody knows the reason."""
    code, info = _CODES[status.code], error_details_pb2.ErrorInfo()
    refuse_inside(str(status))
    if code in _OUR_FAULT:
        raise Finding(f"{code.name}: {status.message}")
    if not any(detail.Unpack(info) for detail in status.details) or info.reason not in REASONS:
        raise Finding(f"{code.name} without a known reason: {status.message}")
    return f"{code.name} {info.reason}"


class Calls:
    """Answers raw requests as a server would."""

    def __init__(self, application: Application) -> None:
        self._handlers = guarded_handlers(application)

    def answer(self, method: str, content: bytes) -> tuple[Message | None, status_pb2.Status | None]:
        """The reply, or the status; what is raised besides is a finding."""
        handler = self._handlers[method]
        request = handler.request_deserializer(content)
        try:
            return handler.unary_unary(request, _Context()), None
        except _Aborted as aborted:
            status = status_pb2.Status()
            packed = dict(aborted.status.trailing_metadata)["grpc-status-details-bin"]
            status.ParseFromString(packed)
            return None, status


def examples(customer_id: str, decision_id: str, action_id: str) -> dict[str, list[Message]]:
    """Good requests of every method."""
    decide = decision_service_pb2.DecideRequest(
        customer_id=customer_id,
        channel="web",
        placement="home_hero",
        limit=2,
        language="fr-CH",
        request_id="r-1",
    )
    decide.context["page"].string_value = "/plans"
    decide.context["basket_value"].double_value = 12.5
    decide.context["outage_in_area"].bool_value = True
    decide.context["last_contact_at"].timestamp_value.seconds = 1_790_000_000
    call = decision_service_pb2.DecideRequest(
        identity=types_pb2.Identity(type="phone", value="+41790000001"), channel="call_center"
    )
    call.context["call_reason"].string_value = "cancel"
    call.filter.groups.append("retention")
    call.filter.exclude_action_ids.append(action_id)
    call.privacy_signals.global_privacy_control = True
    call.explanation_detail = decision_service_pb2.EXPLANATION_DETAIL_FULL
    batch = decision_service_pb2.DecideBatchRequest()
    for number, request in enumerate((decide, call)):
        batch.items.add(correlation_id=str(number), request=request)
    consent = consent_service_pb2.RecordConsentRequest(
        customer_id=customer_id,
        consent=consent_service_pb2.ConsentRecord(
            purpose="marketing",
            channel="email",
            state=types_pb2.CONSENT_STATE_GRANTED,
            source="web:preference-center",
            actor="agent:7",
            evidence="recording-1",
            recipients=["partner"],
            data_categories=["contact"],
        ),
    )
    consent.consent.expire_time.seconds = 4_000_000_000
    event = event_service_pb2.IngestRequest()
    first = event.events.add(event_id="e-1", type="payment_failed", customer_id=customer_id)
    first.attributes["amount"].double_value = 12.0
    second = event.events.add(event_id="e-2", type="usage_recorded")
    second.identity.type, second.identity.value = "phone", "+41790000001"
    second.attributes["gigabytes"].double_value = 3.0
    second.attributes["at"].timestamp_value.seconds = 1_790_000_000
    outcome = outcome_service_pb2.RecordOutcomeRequest(
        outcome_id="o-1",
        decision_id=decision_id,
        action_id=action_id,
        type=types_pb2.OUTCOME_TYPE_CLICKED,
    )
    return {
        "/arbiter.v1.DecisionService/Decide": [decide, call],
        "/arbiter.v1.DecisionService/DecideBatch": [batch],
        "/arbiter.v1.DecisionService/Explain": [
            decision_service_pb2.ExplainRequest(decision_id=decision_id, language="de"),
            decision_service_pb2.ExplainRequest(decision_id=decision_id, action_id=action_id),
        ],
        "/arbiter.v1.OutcomeService/RecordOutcome": [outcome],
        "/arbiter.v1.ConsentService/RecordConsent": [consent],
        "/arbiter.v1.ConsentService/GetConsents": [
            consent_service_pb2.GetConsentsRequest(customer_id=customer_id)
        ],
        "/arbiter.v1.EventService/Ingest": [event],
    }


_WEIGHTS = {
    "Decide": 6,
    "DecideBatch": 2,
    "Explain": 1,
    "RecordOutcome": 3,
    "RecordConsent": 3,
    "GetConsents": 2,
}
"""Of 20; events are the rest. An explanation of what is left intact takes ten times a decision."""


class Requests:
    """Good requests whose bytes are changed."""

    name = "requests: changed bytes"

    def __init__(self, application: Application, customer_id: str, witness: str) -> None:
        self._calls = Calls(application)
        self._witness = witness
        reply = self._decided(customer_id)
        action_id = reply.actions[0].action_id if reply.actions else reply.suppressed[0].action_id
        self.messages = examples(customer_id, reply.decision_id, action_id)
        self._seeds = {
            method: [m.SerializeToString() for m in messages] for method, messages in self.messages.items()
        }
        self._methods = list(self._seeds)
        self._shares = [_WEIGHTS.get(method.rpartition("/")[2], 3) for method in self._methods]

    def _decided(self, customer_id: str) -> decision_service_pb2.DecideResponse:
        request = decision_service_pb2.DecideRequest(customer_id=customer_id, channel="web")
        reply, status = self._calls.answer("/arbiter.v1.DecisionService/Decide", request.SerializeToString())
        if not isinstance(reply, decision_service_pb2.DecideResponse):
            raise Finding(f"a good request is refused: {status}")
        return reply

    def run(self, mutator: Mutator) -> str:
        """One request of any method."""
        method = mutator.random.choices(self._methods, self._shares)[0]
        return self.judge(method, self.made(mutator, method))

    def made(self, mutator: Mutator, method: str) -> bytes:
        """The bytes to send."""
        return mutator.data(self._seeds[method])

    def judge(self, method: str, content: bytes) -> str:
        """What became of it."""
        reply, status = self._calls.answer(method, content)
        if status is not None:
            return judged(status)
        for part in getattr(reply, "results", ()):
            if part.HasField("error"):
                judged(part.error)
        return "answered"

    def check(self) -> None:
        """A decision for a customer whom nothing is about, which decides again to the same bytes."""
        request = decision_service_pb2.ExplainRequest(decision_id=self._decided(self._witness).decision_id)
        reply, status = self._calls.answer("/arbiter.v1.DecisionService/Explain", request.SerializeToString())
        if not isinstance(reply, decision_service_pb2.ExplainResponse) or not reply.reproduced:
            raise Finding(f"a good decision is not right any more: {status}")


class Texts(Requests):
    """Good requests with hostile texts in any of their fields."""

    name = "requests: hostile texts"

    def made(self, mutator: Mutator, method: str) -> bytes:
        """A message that is well-formed, with some texts, ids and keys that are not meant well."""
        message = type(self.messages[method][0])()
        message.CopyFrom(mutator.random.choice(self.messages[method]))
        for _ in range(mutator.random.randint(1, 3)):
            places = list(_text_fields(message))
            mutator.random.choice(places)(mutator.hostile())
        return message.SerializeToString()


def _text_fields(message: Any) -> list[Callable[[str], object]]:
    """What sets each text and number of a message, in it and in the messages in it."""
    found: list[Callable[[str], object]] = []
    for field in message.DESCRIPTOR.fields:  # numbers that a text chooses, also where none was set
        if not field.is_repeated and field.cpp_type in _NUMBERS:
            found.append(lambda text, held=message, at=field: _new_number(held, at, text))
    for field, value in message.ListFields():
        found += _changes(message, field, value)
    return found or [lambda _text: None]


def _changes(message: Any, field: Any, value: Any) -> list[Callable[[str], object]]:
    """What changes a field that is set."""
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return [lambda text: _new_entry(value, text)]
    if field.cpp_type == field.CPPTYPE_STRING:
        return [value.append] if field.is_repeated else [lambda text: setattr(message, field.name, text)]
    if field.cpp_type != field.CPPTYPE_MESSAGE:
        return []
    return [change for each in (value if field.is_repeated else [value]) for change in _text_fields(each)]


_NUMBERS = {
    FieldDescriptor.CPPTYPE_INT32: (0, -1, 1, 101, (1 << 31) - 1, -(1 << 31)),
    FieldDescriptor.CPPTYPE_INT64: (0, -1, 253_402_300_800, (1 << 63) - 1, -(1 << 63), -62_135_596_801),
    FieldDescriptor.CPPTYPE_DOUBLE: (0.0, -0.0, 1e308, -1e308, 5e-324, float("inf"), float("nan")),
    FieldDescriptor.CPPTYPE_ENUM: (0, 1, 5, 6, 99, -1, (1 << 31) - 1),
    FieldDescriptor.CPPTYPE_BOOL: (True, False),
}


def _new_number(held: Any, field: Any, text: str) -> None:
    numbers = _NUMBERS[field.cpp_type]
    setattr(held, field.name, numbers[hash_of(text) % len(numbers)])


def hash_of(text: str) -> int:
    """A number that is the same in every run."""
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))


def _new_entry(held: Any, text: str) -> None:
    kinds = [
        field.name for field in held.GetEntryClass().DESCRIPTOR.fields_by_name["value"].message_type.fields
    ]
    entry, kind = held[text[:4000]], kinds[hash_of(text) % len(kinds)]
    if kind == "string_value":
        entry.string_value = text
    elif kind == "string_list":
        entry.string_list.values.extend([text] * 300)
    elif kind == "double_map":
        entry.double_map.values[text] = float("nan")
    else:
        entry.SetInParent()
