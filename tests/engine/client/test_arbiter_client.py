"""The Python client against real servers: the usual calls, what fails, what is sent again, who may listen."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
import trustme
from arbiter_at_work import AT_RISK, LOYAL, REPOSITORY
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from engine._pb.arbiter.v1 import (
    consent_service_pb2,
    decision_service_pb2,
    event_service_pb2,
    outcome_service_pb2,
    types_pb2,
)
from engine.client import (
    SERVICE_CONFIG,
    Access,
    AccessDenied,
    ArbiterClient,
    AsyncArbiterClient,
    CallFailed,
    DeadlinePassed,
    NotAnswered,
    NotFound,
    Overloaded,
    RequestRefused,
    ServerFailed,
    Unavailable,
    event,
)
from engine.client.access import stays_here
from engine.client.errors import failure
from engine.client.requests import context_value, instant
from engine.ports import held_port

Say = Callable[[Any, grpc.ServicerContext], None]


@dataclass
class Scripted(grpc.GenericRpcHandler):
    """A gRPC server that answers call after call as its script says, and keeps what it was sent."""

    script: list[Say]
    requests: list[Any] = field(default_factory=list)
    metadata: list[dict[str, Any]] = field(default_factory=list)
    peers: set[str] = field(default_factory=set)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        """Every method answers alike."""
        return grpc.unary_unary_rpc_method_handler(self._answer)

    def _answer(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self.requests.append(request)
        self.peers.add(context.peer())
        self.metadata.append(dict(context.invocation_metadata()))
        if self.script:
            self.script.pop(0)(request, context)
        return b""


def says(code: int, *details: Any) -> Say:
    """Fails with a status that has details."""

    def say(_request: Any, context: grpc.ServicerContext) -> None:
        status = status_pb2.Status(code=code, message="as the script says")
        for detail in details:
            status.details.add().Pack(detail)
        context.abort_with_status(rpc_status.to_status(status))

    return say


def come_back_in(delay_ms: int) -> error_details_pb2.RetryInfo:
    """When an overloaded server can be asked again."""
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(delay_ms)
    return retry


Start = Callable[..., tuple[Scripted, str]]


@pytest.fixture
def scripted() -> Iterator[Start]:
    """Starts scripted servers; gives each with its address."""
    started = []

    def start(*script: Say, credentials: grpc.ServerCredentials | None = None) -> tuple[Scripted, str]:
        handler = Scripted(list(script))
        server = grpc.server(ThreadPoolExecutor(2), handlers=[handler])
        if credentials is None:
            port = server.add_insecure_port("localhost:0")
        else:
            port = server.add_secure_port("localhost:0", credentials)
        server.start()
        started.append(server)
        return handler, f"localhost:{port}"

    yield start
    for server in started:
        server.stop(None).wait()


@pytest.fixture
def client(server_port: int) -> Iterator[ArbiterClient]:
    """The client as one makes it, of the demo company's server."""
    with ArbiterClient(f"localhost:{server_port}", timeout_s=30.0) as made:
        yield made


def failed(call: Callable[[], object]) -> CallFailed:
    """How a call that must fail failed."""
    with pytest.raises(CallFailed) as caught:
        call()
    return caught.value


def test_the_usual_case(client: ArbiterClient, like: Callable[[str], str]) -> None:
    """Decided, shown, accepted, explained, objected, decided again: no message is written by hand."""
    customer = like(AT_RISK)

    decision = client.decide(
        customer_id=customer, channel="call_center", context={"call_reason": "cancel"}, limit=100
    )
    best = decision.actions[0]
    first = client.record_outcome(decision, best, "shown", outcome_id=f"{customer}-shown")
    again = client.record_outcome(decision, best, "shown", outcome_id=f"{customer}-shown")
    client.record_outcome(decision.decision_id, best.action_id, "accepted")
    explained = client.explain(decision, action_id=best.action_id)
    client.record_consent(customer_id=customer, purpose="marketing", state="objected", source="test")
    held = client.get_consents(customer)
    after = client.decide(customer_id=customer, channel="call_center", limit=100, detail="full")

    assert decision.suppressed
    assert (first.duplicate, again.duplicate) == (False, True)
    assert explained.explanations[0].action_id == best.action_id
    assert {(c.purpose, c.channel) for c in held.consents if c.source == "test"} == {("marketing", "any")}
    assert "marketing" in {action.purpose for action in decision.actions}
    assert "marketing" not in {action.purpose for action in after.actions}


def test_batches_and_events_need_no_names_of_ones_own(client: ArbiterClient) -> None:
    """Items and events get their ids; each has a result in its place."""
    requests = [decision_service_pb2.DecideRequest(customer_id=c, channel="web") for c in (LOYAL, "C9999")]

    decided = client.decide_batch(requests)
    ingested = client.ingest(
        [event("made_up", LOYAL, attributes={"page": "home"}, occurred=datetime.now(UTC))]
    )

    assert [result.WhichOneof("result") for result in decided.results] == ["response", "error"]
    assert len(ingested.results) == 1
    assert requests[0].request_id == ""


def test_asyncio_is_the_same(server_port: int, like: Callable[[str], str]) -> None:
    """Many at once on one client, with the same arguments and the same errors."""
    customer = like(AT_RISK)

    async def use() -> tuple[list[decision_service_pb2.DecideResponse], bool, CallFailed]:
        async with AsyncArbiterClient(f"localhost:{server_port}", timeout_s=30.0) as arbiter:
            await arbiter.wait_until_serving(30.0)
            made = await asyncio.gather(
                *(arbiter.decide(customer_id=customer, channel="call_center") for _ in range(8))
            )
            outcome = await arbiter.record_outcome(made[0], made[0].actions[0], "shown")
            try:
                await arbiter.decide(customer_id="C9999", channel="web")
            except CallFailed as error:
                return made, outcome.duplicate, error
        raise AssertionError("the call succeeded")

    made, duplicate, nobody = asyncio.run(use())

    assert len({decision.decision_id for decision in made}) == 8
    assert duplicate is False
    assert isinstance(nobody, NotFound)


def test_refusal_says_what_is_wrong(client: ArbiterClient) -> None:
    """Code, stable reason, sentence and every field."""
    wrong = failed(lambda: client.decide(customer_id=LOYAL, channel="pigeon", limit=0))
    nobody = failed(lambda: client.decide(customer_id="C9999", channel="web"))

    assert isinstance(wrong, RequestRefused)
    assert (wrong.code, wrong.reason) == ("INVALID_ARGUMENT", "REQUEST_INVALID")
    assert {name for name, _ in wrong.violations} == {"channel", "limit"}
    assert wrong.message == "the request has 2 invalid fields"
    assert (nobody.reason, nobody.unavailable, nobody.retry_after_s) == ("CUSTOMER_UNKNOWN", False, None)


def test_every_code_has_an_error_of_its_kind() -> None:
    """What is not now is told from what will never be."""
    kinds = {
        name: type(failure(status_pb2.Status(code=number)))
        for name, number in code_pb2.Code.items()
        if name != "OK"
    }

    assert {name for name, kind in kinds.items() if issubclass(kind, NotAnswered)} == {
        "CANCELLED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED", "UNAVAILABLE",
    }  # fmt: skip
    assert {name for name, kind in kinds.items() if kind is AccessDenied} == {
        "UNAUTHENTICATED", "PERMISSION_DENIED",
    }  # fmt: skip
    assert {name for name, kind in kinds.items() if kind is ServerFailed} == {
        "UNKNOWN", "INTERNAL", "DATA_LOSS", "UNIMPLEMENTED",
    }  # fmt: skip


def test_nobody_there_is_unavailable_at_once() -> None:
    """A page need not wait for a server that is away."""
    with (
        closing(held_port(("127.0.0.1", 0), "--port")) as held,
        ArbiterClient(f"127.0.0.1:{held.getsockname()[1]}", timeout_s=30.0) as client,
    ):
        away = failed(lambda: client.decide(customer_id=LOYAL, channel="web"))

    assert isinstance(away, Unavailable)
    assert away.reason == ""


def test_slow_server_is_left_at_the_deadline(scripted: Start) -> None:
    """Of the client, or of the call."""
    released = threading.Event()
    _, target = scripted(lambda *_: released.wait(30) and None, lambda *_: released.wait(30) and None)

    with ArbiterClient(target, timeout_s=0.05) as client:
        late = failed(lambda: client.get_consents(LOYAL))
        later = failed(lambda: client.get_consents(LOYAL, timeout_s=0.1))
    released.set()

    assert (type(late), type(later)) == (DeadlinePassed, DeadlinePassed)


def test_unavailable_is_retried_as_the_same_decision(scripted: Start) -> None:
    """The third attempt answers, and every one has the same idempotency key."""
    server, target = scripted(says(code_pb2.UNAVAILABLE), says(code_pb2.UNAVAILABLE))

    with ArbiterClient(target, timeout_s=30.0) as client:
        client.decide(customer_id=LOYAL, channel="web")

    asked = [decision_service_pb2.DecideRequest.FromString(sent) for sent in server.requests]
    assert len(asked) == 3
    assert len({request.request_id for request in asked}) == 1
    assert len(asked[0].request_id) == 32


@pytest.mark.parametrize("code", [code_pb2.INTERNAL, code_pb2.RESOURCE_EXHAUSTED, code_pb2.ABORTED])
def test_nothing_else_is_retried(scripted: Start, code: int) -> None:
    """What failed for another reason is the caller's to judge."""
    server, target = scripted(says(code, come_back_in(1)))

    with ArbiterClient(target, timeout_s=30.0) as client:
        failed(lambda: client.decide(customer_id=LOYAL, channel="web"))

    assert len(server.requests) == 1


def test_a_consent_is_never_said_twice(scripted: Start) -> None:
    """A yes that is repeated could come after a no; a read of consents may be repeated."""
    server, target = scripted(says(code_pb2.UNAVAILABLE), says(code_pb2.UNAVAILABLE))

    with ArbiterClient(target, timeout_s=30.0) as client:
        away = failed(lambda: client.record_consent(customer_id=LOYAL, purpose="marketing", state="granted"))
        client.get_consents(LOYAL)

    assert isinstance(away, Unavailable)
    assert len(server.requests) == 3
    assert consent_service_pb2.RecordConsentRequest.FromString(server.requests[0]).consent.channel == "any"


def test_overloaded_server_is_asked_again_when_it_says_where_told_to(scripted: Start) -> None:
    """By default it is left alone; and nobody waits beyond the deadline."""
    busy = says(code_pb2.RESOURCE_EXHAUSTED, come_back_in(20))
    much = says(code_pb2.RESOURCE_EXHAUSTED, come_back_in(60_000))
    patient, target = scripted(busy, busy)
    _, far = scripted(much)

    with ArbiterClient(target, timeout_s=30.0, wait_when_overloaded=True) as client:
        client.get_consents(LOYAL)
    with ArbiterClient(far, timeout_s=30.0, wait_when_overloaded=True) as client:
        left = failed(lambda: client.get_consents(LOYAL))

    assert len(patient.requests) == 3
    assert isinstance(left, Overloaded)
    assert left.retry_after_s == 60.0


def test_overloaded_server_is_awaited_as_well(scripted: Start) -> None:
    """Asyncio waits without holding its loop up."""
    server, target = scripted(says(code_pb2.RESOURCE_EXHAUSTED, come_back_in(20)))

    async def use() -> None:
        async with AsyncArbiterClient(target, timeout_s=30.0, wait_when_overloaded=True) as client:
            await client.get_consents(LOYAL)

    asyncio.run(use())

    assert len(server.requests) == 2


def test_several_connections_take_turns(scripted: Start) -> None:
    """Workers that share a port each get a part."""
    server, target = scripted()

    with ArbiterClient(target.replace("localhost", "127.0.0.1"), timeout_s=30.0, channels=3) as client:
        for _ in range(6):
            client.get_consents(LOYAL)

    assert len(server.peers) == 3


def test_ready_message_is_sent_as_it_is(scripted: Start) -> None:
    """Without an id of ours; and plain values beside it are a mistake."""
    server, target = scripted()
    request = decision_service_pb2.DecideRequest(customer_id=LOYAL, channel="web")

    with ArbiterClient(target, timeout_s=30.0) as client:
        client.decide(request)
        with pytest.raises(TypeError, match="write limit into it"):
            client.decide(request, limit=3)

    assert server.requests == [request.SerializeToString()]


def test_token_goes_with_every_call_on_this_machine(scripted: Start) -> None:
    """As a bearer's."""
    server, target = scripted()

    with ArbiterClient(target, access=Access(token="secret"), timeout_s=30.0) as client:
        client.get_consents(LOYAL)

    assert server.metadata[0]["authorization"] == "Bearer secret"


@pytest.mark.parametrize(
    "target", ["arbiter:50051", "dns:///arbiter:50051", "10.0.0.7:50051", "localhost.evil.com:1"]
)
def test_token_never_leaves_in_the_clear(target: str) -> None:
    """Refused when the client is made, and not shown in the words."""
    with pytest.raises(ValueError, match="in the clear") as refused:
        ArbiterClient(target, access=Access(token="secret"))

    assert "secret" not in str(refused.value)
    assert "secret" not in repr(Access(token="secret"))


@pytest.mark.parametrize(
    ("target", "here"),
    [
        ("localhost:50051", True), ("127.0.0.1:50051", True), ("127.3.2.1", True), ("[::1]:50051", True),
        ("::1", True), ("unix:/run/arbiter.sock", True), ("dns:///localhost:1", True),
        ("ipv4:127.0.0.1:1,10.0.0.1:1", False), ("dns://8.8.8.8/arbiter:1", False), ("127.0.0.1.io:1", False),
    ],
)  # fmt: skip
def test_what_stays_on_this_machine(target: str, here: bool) -> None:
    """Every place of a target, in all its forms."""
    assert stays_here(target) is here


def test_both_sides_prove_who_they_are(scripted: Start) -> None:
    """Over TLS with a client's certificate a token may go anywhere; without the certificate nothing goes."""
    authority = trustme.CA()
    ours, theirs = authority.issue_cert("localhost"), authority.issue_cert("shop@example.com")
    credentials = grpc.ssl_server_credentials(
        [(ours.private_key_pem.bytes(), ours.cert_chain_pems[0].bytes())],
        authority.cert_pem.bytes(),
        require_client_auth=True,
    )
    server, target = scripted(credentials=credentials)
    trusted = authority.cert_pem.bytes()
    shown = Access(trusted, theirs.cert_chain_pems[0].bytes(), theirs.private_key_pem.bytes(), token="secret")

    with ArbiterClient(target, access=shown, timeout_s=30.0) as client:
        client.get_consents(LOYAL)
    with ArbiterClient(target, access=Access(trusted), timeout_s=30.0) as stranger:
        refused = failed(lambda: stranger.get_consents(LOYAL))

    assert isinstance(refused, Unavailable)
    assert [sent["authorization"] for sent in server.metadata] == ["Bearer secret"]


@pytest.mark.parametrize("half", [{"certificate": b"c"}, {"key": b"k"}, {"certificate": b"c", "key": b"k"}])
def test_halves_of_access_are_refused(half: dict[str, bytes]) -> None:
    """A certificate needs its key, and TLS."""
    with pytest.raises(ValueError, match="certificate"):
        Access(**half)  # type: ignore[arg-type]  # the point


@pytest.mark.parametrize("channels", [0, 65])
def test_number_of_connections_has_bounds(channels: int) -> None:
    """None is no client, hundreds are an attack."""
    with pytest.raises(ValueError, match="1 to 64"):
        ArbiterClient("localhost:1", channels=channels)


def test_plain_values_become_the_fields_of_the_contract(scripted: Start) -> None:
    """Of a decision, a consent, an outcome and an event."""
    server, target = scripted()

    with ArbiterClient(target, timeout_s=30.0) as client:
        client.decide(
            identity=("phone", "+41790000001"), channel="app", groups=["retention"], exclude_action_ids=["a"],
            detail="full", global_privacy_control=True, request_id="",
        )  # fmt: skip
        client.record_consent(
            customer_id=LOYAL, purpose="marketing", state="denied", recorded=NOON, expires=NOON
        )
        client.record_outcome("D1", "a", "declined", occurred=NOON)
        client.ingest([event("moved", identity=("phone", "+41790000001"), event_id="e1")])

    decide = decision_service_pb2.DecideRequest.FromString(server.requests[0])
    consent = consent_service_pb2.RecordConsentRequest.FromString(server.requests[1]).consent
    outcome = outcome_service_pb2.RecordOutcomeRequest.FromString(server.requests[2])
    ingest = event_service_pb2.IngestRequest.FromString(server.requests[3])
    assert (decide.identity.type, decide.request_id, decide.HasField("limit")) == ("phone", "", False)
    assert (list(decide.filter.groups), list(decide.filter.exclude_action_ids)) == (["retention"], ["a"])
    assert decide.privacy_signals.global_privacy_control
    assert decide.explanation_detail == decision_service_pb2.EXPLANATION_DETAIL_FULL
    assert consent.state == types_pb2.CONSENT_STATE_DENIED
    assert consent.record_time.ToDatetime(UTC) == consent.expire_time.ToDatetime(UTC) == NOON
    assert (outcome.type, outcome.occur_time.ToDatetime(UTC)) == (types_pb2.OUTCOME_TYPE_DECLINED, NOON)
    assert (ingest.events[0].event_id, ingest.events[0].identity.type) == ("e1", "phone")


NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (True, "bool_value"), (5, "int_value"), (5.0, "double_value"), ("5", "string_value"),
        (NOON, "timestamp_value"), (["a"], "string_list"), ([], "string_list"), ((1, 2), "int_list"),
        ([1, 2.5], "double_list"), ({"a": 1.5}, "double_map"),
        (types_pb2.ContextValue(int_value=3), "int_value"),
    ],
)  # fmt: skip
def test_context_has_the_type_of_pythons_value(given: Any, kind: str) -> None:
    """What is ambiguous is a text's."""
    assert context_value(given).WhichOneof("kind") == kind


@pytest.mark.parametrize("given", [None, b"bytes", ["a", 1], [True]])
def test_other_values_are_no_context(given: Any) -> None:
    """Rather than a guess."""
    with pytest.raises(TypeError):
        context_value(given)


def test_datetime_without_a_zone_is_no_instant() -> None:
    """It could be any of 24."""
    with pytest.raises(ValueError, match="time zone"):
        instant(datetime(2026, 1, 31))  # the point


def test_client_needs_little() -> None:
    """A back end that imports it loads neither the server's libraries nor the rest of the engine."""
    program = (
        "import sys, json, engine.client\n"
        "print(json.dumps(sorted({m if m.startswith('engine') else m.split('.')[0] for m in sys.modules})))"
    )

    loaded = json.loads(subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout)  # fmt: skip

    assert not {"numpy", "onnxruntime", "pydantic", "lmdb", "structlog", "typer", "grpc_status"} & set(loaded)
    ours = {name for name in loaded if name.startswith("engine.")}
    assert {name for name in ours if not name.startswith(("engine.client", "engine._pb"))} == set()


def test_service_config_is_the_one_in_the_documents() -> None:
    """What other languages are told is what this client does."""
    page = (REPOSITORY / "docs" / "clients.md").read_text(encoding="utf-8")

    assert f"```json\n{SERVICE_CONFIG}```" in page
    policies: Sequence[dict[str, Any]] = json.loads(SERVICE_CONFIG)["methodConfig"]
    assert [policy["retryPolicy"]["retryableStatusCodes"] for policy in policies] == [
        ["UNAVAILABLE", "CANCELLED"]
    ]
