"""What breaks the contract is refused with every field named, and nothing leaks."""

from __future__ import annotations

import math
from collections.abc import Callable

import grpc
import pytest
from arbiter_at_work import AT_RISK, LOYAL, failure_of, reason_of, scene
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_status import rpc_status

from engine._pb.arbiter.v1 import (
    consent_service_pb2,
    decision_service_pb2,
    event_service_pb2,
    outcome_service_pb2,
    types_pb2,
)
from engine.client import ArbiterClient, CallFailed
from engine.service.intake import MAX_ATTRIBUTES

Change = Callable[[decision_service_pb2.DecideRequest], object]


def refused(arbiter: ArbiterClient, change: Change) -> CallFailed:
    """The refusal of an otherwise good request."""
    request = scene(LOYAL)
    change(request)
    return failure_of(lambda: arbiter.decide(request))


def context(name: str, **value: object) -> Change:
    """A change that gives a context value."""
    return lambda request: request.context[name].MergeFrom(types_pb2.ContextValue(**value))  # type: ignore[arg-type]


WRONG: dict[str, tuple[Change, str]] = {
    "unknown channel": (lambda r: setattr(r, "channel", "fax"), "channel"),
    "no channel": (lambda r: r.ClearField("channel"), "channel"),
    "placement of another channel": (lambda r: setattr(r, "placement", "screen_pop"), "placement"),
    "limit 0": (lambda r: setattr(r, "limit", 0), "limit"),
    "limit -1": (lambda r: setattr(r, "limit", -1), "limit"),
    "limit 10,000": (lambda r: setattr(r, "limit", 10_000), "limit"),
    "NaN": (context("basket_value", double_value=math.nan), "context[basket_value]"),
    "infinity": (context("basket_value", double_value=math.inf), "context[basket_value]"),
    "minus infinity": (context("basket_value", double_value=-math.inf), "context[basket_value]"),
    "text for a number": (context("basket_value", string_value="12"), "context[basket_value]"),
    "whole number for a decimal": (context("basket_value", int_value=12), "context[basket_value]"),
    "number for text": (context("page", double_value=1.0), "context[page]"),
    "number for truth": (context("outage_in_area", int_value=1), "context[outage_in_area]"),
    "value not listed": (context("call_reason", string_value="chat"), "context[call_reason]"),
    "long text": (context("page", string_value="x" * 1025), "context[page]"),
    "control character in text": (context("page", string_value="/a\n"), "context[page]"),
    "undeclared context": (context("colour", string_value="red"), "context[colour]"),
    "context without a value": (lambda r: r.context["page"].SetInParent(), "context"),
    "instant after year 9999": (
        context("last_contact_at", timestamp_value=Timestamp(seconds=9_000_000_000_000)),
        "context[last_contact_at]",
    ),
    "instant far beyond 64 bits": (
        context("last_contact_at", timestamp_value=Timestamp(seconds=(1 << 63) - 1)),
        "context[last_contact_at]",
    ),
    "instant before year 1": (
        context("last_contact_at", timestamp_value=Timestamp(seconds=-(1 << 62))),
        "context[last_contact_at]",
    ),
    "id with a line feed": (lambda r: setattr(r, "customer_id", "C01\n31"), "customer_id"),
    "id with NUL": (lambda r: setattr(r, "customer_id", "C\0"), "customer_id"),
    "id of 10 kB": (lambda r: setattr(r, "customer_id", "C" * 10_000), "customer_id"),
    "no customer": (lambda r: r.ClearField("customer"), "customer_id"),
    "empty identity": (lambda r: r.identity.SetInParent(), "identity.value"),
    "unknown kind of identity": (
        lambda r: r.identity.MergeFrom(types_pb2.Identity(type="iban", value="x")),
        "identity.type",
    ),
    "unknown group in the filter": (lambda r: r.filter.groups.append("gifts"), "filter.groups[0]"),
    "unknown action in the filter": (lambda r: r.filter.action_ids.append("no"), "filter.action_ids[0]"),
    "unknown excluded action": (
        lambda r: r.filter.exclude_action_ids.append("no"),
        "filter.exclude_action_ids[0]",
    ),
    "long filter": (lambda r: r.filter.action_ids.extend(["no"] * 1001), "filter.action_ids"),
    "long request id": (lambda r: setattr(r, "request_id", "r" * 129), "request_id"),
    "control character in the request id": (lambda r: setattr(r, "request_id", "\x07"), "request_id"),
    "long language": (lambda r: setattr(r, "language", "e" * 36), "language"),
    "unknown detail": (lambda r: setattr(r, "explanation_detail", 17), "explanation_detail"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_request_is_refused_by_field(arbiter: ArbiterClient, case: str) -> None:
    """INVALID_ARGUMENT with ErrorInfo and a BadRequest that names the field."""
    change, field = WRONG[case]

    failure = refused(arbiter, change)

    assert failure.code == "INVALID_ARGUMENT"
    assert reason_of(failure) == ("REQUEST_INVALID", "arbiter")
    assert field in [name for name, _ in failure.violations]


def test_every_violated_field_is_named_at_once(arbiter: ArbiterClient) -> None:
    """One reply tells of all that is wrong."""
    request = scene(
        LOYAL,
        "C\x01",
        channel="fax",
        limit=0,
        request_id="\x00",
        filter=decision_service_pb2.ActionFilter(action_ids=["nothing"]),
    )
    request.context["basket_value"].double_value = math.nan
    request.context["page"].bool_value = True
    request.context["colour"].string_value = "red"

    failure = failure_of(lambda: arbiter.decide(request))

    assert {name for name, _ in failure.violations} == {
        "customer_id",
        "channel",
        "limit",
        "request_id",
        "filter.action_ids[0]",
        "context[basket_value]",
        "context[page]",
        "context[colour]",
    }


def test_refusal_repeats_no_value_of_the_request(arbiter: ArbiterClient) -> None:
    """Ids, numbers and texts of the customer stay out of errors, and so does the inside of the server."""
    secret = "+41791112233"
    request = scene(LOYAL, secret + "\n", language=secret * 4, request_id=secret + "\n")
    request.context["call_reason"].string_value = secret
    request.context["page"].string_value = secret + "\n"
    request.filter.action_ids.append(secret)
    request.context[secret + "\n"].string_value = "x"

    failure = failure_of(lambda: arbiter.decide(request))

    text = str(failure.status)
    assert failure.code == "INVALID_ARGUMENT"
    assert secret not in text
    assert "Traceback" not in text
    assert ".py" not in text


def test_thousands_of_violations_still_reach_the_client(arbiter: ArbiterClient) -> None:
    """The status stays within what clients accept as metadata, and says that there are more."""
    request = scene(LOYAL)
    for field in (request.filter.groups, request.filter.action_ids, request.filter.exclude_action_ids):
        field.extend(["nothing"] * 1000)
    for number in range(64):
        request.context[f"undeclared_{number}_{'x' * 48}"].string_value = "x"

    failure = failure_of(lambda: arbiter.decide(request))

    assert failure.code == "INVALID_ARGUMENT"
    assert reason_of(failure) == ("REQUEST_INVALID", "arbiter")
    assert "3064 invalid fields" in str(failure)
    assert len(failure.violations) >= 20
    assert failure.status.ByteSize() < 5000


def test_too_many_context_entries_are_refused(arbiter: ArbiterClient) -> None:
    """At most 64 entries are looked at."""
    request = scene(LOYAL)
    for number in range(65):
        request.context[f"n{number}"].string_value = "x"

    failure = failure_of(lambda: arbiter.decide(request))

    assert failure.code == "INVALID_ARGUMENT"
    assert ("context", "has more than 64 entries") in failure.violations


def test_oversized_request_is_refused_and_the_server_goes_on(arbiter: ArbiterClient) -> None:
    """RESOURCE_EXHAUSTED for 2 MiB; the next call on the same channel is answered."""
    request = scene(LOYAL)
    request.context["page"].string_value = "x" * (2 << 20)

    failure = failure_of(lambda: arbiter.decide(request))
    response = arbiter.decide(scene(LOYAL))

    assert failure.code == "RESOURCE_EXHAUSTED"
    assert response.decision_id


def test_bytes_that_are_no_request_are_refused_without_internals(server_port: int) -> None:
    """Garbage on the wire is an error of its own, without a trace of the code."""
    with grpc.insecure_channel(f"localhost:{server_port}") as channel:
        call = channel.unary_unary("/arbiter.v1.DecisionService/Decide")

        with pytest.raises(grpc.RpcError) as caught:
            call(b"\xff\xff\xff", timeout=10)

    assert caught.value.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.INVALID_ARGUMENT)
    assert "Traceback" not in caught.value.details()


def test_unknown_method_is_unimplemented(server_port: int) -> None:
    """A method that is not in the contract is told apart from a failure."""
    with grpc.insecure_channel(f"localhost:{server_port}") as channel:
        call = channel.unary_unary("/arbiter.v1.DecisionService/Guess")

        with pytest.raises(grpc.RpcError) as caught:
            call(b"", timeout=10)

    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_reflection_is_off_unless_asked_for(server_port: int) -> None:
    """Strangers do not learn the contract from the server."""
    with grpc.insecure_channel(f"localhost:{server_port}") as channel:
        call = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")

        with pytest.raises(grpc.RpcError) as caught:
            list(call(iter([b""]), timeout=10))

    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"purpose": "spam"}, "consent.purpose"),
        ({"purpose": ""}, "consent.purpose"),
        ({"channel": "fax"}, "consent.channel"),
        ({"channel": ""}, "consent.channel"),
        ({"state": types_pb2.CONSENT_STATE_UNSPECIFIED}, "consent.state"),
        ({"state": types_pb2.CONSENT_STATE_EXPIRED}, "consent.state"),
        ({"state": types_pb2.CONSENT_STATE_UNKNOWN}, "consent.state"),
        ({"source": "x" * 1025}, "consent.source"),
        ({"actor": "a\x00"}, "consent.actor"),
        ({"evidence": "a\n"}, "consent.evidence"),
        ({"record_time": Timestamp(seconds=32_000_000_000)}, "consent.record_time"),
        ({"record_time": Timestamp(seconds=-(1 << 62))}, "consent.record_time"),
        ({"expire_time": Timestamp(seconds=1)}, "consent.expire_time"),
        ({"expire_time": Timestamp(seconds=1 << 62)}, "consent.expire_time"),
        (
            {
                "record_time": Timestamp(seconds=1_700_000_000),
                "expire_time": Timestamp(seconds=1_600_000_000),
            },
            "consent.expire_time",
        ),
    ],
)
def test_bad_consent_is_refused_by_field(
    arbiter: ArbiterClient, like: Callable[[str], str], change: dict[str, object], field: str
) -> None:
    """Nothing doubtful enters the ledger."""
    good = {"purpose": "marketing", "channel": "any", "state": types_pb2.CONSENT_STATE_GRANTED}
    record = consent_service_pb2.ConsentRecord(**(good | change))  # type: ignore[arg-type]
    request = consent_service_pb2.RecordConsentRequest(customer_id=like(LOYAL), consent=record)

    failure = failure_of(lambda: arbiter.record_consent(request))

    assert failure.code == "INVALID_ARGUMENT"
    assert [name for name, _ in failure.violations] == [field]


def test_empty_consent_names_every_field(arbiter: ArbiterClient) -> None:
    """All that is missing is told at once."""
    failure = failure_of(lambda: arbiter.record_consent(consent_service_pb2.RecordConsentRequest()))

    fields = [name for name, _ in failure.violations]
    assert fields == ["customer_id", "consent.purpose", "consent.channel", "consent.state"]


@pytest.mark.parametrize("customer_id", ["", "C\n", "C" * 10_000])
def test_consents_of_a_bad_id_are_refused(arbiter: ArbiterClient, customer_id: str) -> None:
    """GetConsents checks the id like every other call."""
    request = consent_service_pb2.GetConsentsRequest(customer_id=customer_id)

    failure = failure_of(lambda: arbiter.get_consents(request))

    assert (failure.code, [name for name, _ in failure.violations]) == ("INVALID_ARGUMENT", ["customer_id"])


def test_empty_outcome_names_every_field(arbiter: ArbiterClient) -> None:
    """All required ids are asked for at once."""
    failure = failure_of(lambda: arbiter.record_outcome(outcome_service_pb2.RecordOutcomeRequest()))

    assert failure.code == "INVALID_ARGUMENT"
    assert [name for name, _ in failure.violations] == ["outcome_id", "decision_id", "action_id", "type"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"type": types_pb2.OUTCOME_TYPE_UNSPECIFIED}, "type"),
        ({"type": 99}, "type"),
        ({"occur_time": Timestamp(seconds=1)}, "occur_time"),
        ({"occur_time": Timestamp(seconds=-(1 << 62))}, "occur_time"),
        ({"occur_time": Timestamp(seconds=32_000_000_000)}, "occur_time"),
        ({"occur_time": Timestamp(seconds=1 << 62)}, "occur_time"),
        ({"outcome_id": "o" * 129}, "outcome_id"),
        ({"outcome_id": "o\n"}, "outcome_id"),
    ],
)
def test_bad_outcome_is_refused_by_field(
    arbiter: ArbiterClient, like: Callable[[str], str], change: dict[str, object], field: str
) -> None:
    """An outcome needs a type and a time that can be."""
    decided = arbiter.decide(scene(AT_RISK, like(AT_RISK)))
    good = {
        "outcome_id": f"bad-{decided.decision_id}",
        "decision_id": decided.decision_id,
        "action_id": decided.actions[0].action_id,
        "type": types_pb2.OUTCOME_TYPE_SHOWN,
    }
    request = outcome_service_pb2.RecordOutcomeRequest(**(good | change))  # type: ignore[arg-type]

    failure = failure_of(lambda: arbiter.record_outcome(request))

    assert failure.code == "INVALID_ARGUMENT"
    assert [name for name, _ in failure.violations] == [field]


def test_bytes_that_are_no_message_are_the_callers_fault(server_port: int) -> None:
    """INVALID_ARGUMENT with our reason, where gRPC alone would say INTERNAL."""
    with grpc.insecure_channel(f"localhost:{server_port}") as channel:
        call = channel.unary_unary("/arbiter.v1.DecisionService/Decide")

        with pytest.raises(grpc.RpcError) as caught:
            call(b"\xff\xff", timeout=10)

    status = rpc_status.from_call(caught.value)  # type: ignore[arg-type]  # a failed call is a Call as well
    assert status is not None
    assert reason_of(CallFailed(status)) == ("REQUEST_INVALID", "arbiter")
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"action_id": "a" * 129}, "action_id"),
        ({"action_id": "a\x00"}, "action_id"),
        ({"language": "e" * 36}, "language"),
        ({"decision_id": "d" * 129}, "decision_id"),
    ],
)
def test_endless_request_for_an_explanation_is_refused(
    arbiter: ArbiterClient, fields: dict[str, str], field: str
) -> None:
    """Every text of it has a limit, as elsewhere."""
    request = decision_service_pb2.ExplainRequest(**({"decision_id": "d"} | fields))

    failure = failure_of(lambda: arbiter.explain(request))

    assert failure.code == "INVALID_ARGUMENT"
    assert [name for name, _ in failure.violations] == [field]


def test_event_of_endless_attributes_is_refused_with_its_batch(arbiter: ArbiterClient) -> None:
    """It would be kept as a dead letter, whole; one that is as long as may be is judged alone."""
    request = event_service_pb2.IngestRequest()
    for event_id, count in (("long", MAX_ATTRIBUTES), ("endless", MAX_ATTRIBUTES + 1)):
        event = request.events.add(event_id=event_id, type="payment_failed", customer_id=LOYAL)
        for number in range(count):
            event.attributes[f"a{number}"].int_value = number

    failure = failure_of(lambda: arbiter.ingest(request))
    del request.events[1]
    alone = arbiter.ingest(request)

    assert [name for name, _ in failure.violations] == ["events[1].attributes"]
    assert alone.results[0].status == event_service_pb2.EVENT_STATUS_REFUSED
