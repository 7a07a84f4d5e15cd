"""JSON over HTTP: the answers of gRPC, refused in words, and described as it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from arbiter_at_work import AT_RISK, LOYAL, scene
from google.protobuf import json_format
from google.rpc import code_pb2, error_details_pb2
from google.rpc.status_pb2 import Status
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from starlette.applications import Starlette
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from engine._pb.arbiter.v1 import decision_service_pb2
from engine.bootstrap import Application
from engine.client import ArbiterClient
from engine.errors import RequestInvalid
from engine.service.watching import Unwatched
from engine.web import gateway
from engine.web.app import create_app
from engine.web.json_form import read_json, write_json
from engine.web.methods import METHODS
from engine.web.openapi import document
from engine.web.statuses import HTTP, refusal

LARGE = (1 << 20) + 1
JSON = {"Content-Type": "application/json"}


def asked(request: decision_service_pb2.DecideRequest) -> dict[str, Any]:
    """The JSON that a client without stubs would write."""
    return json_format.MessageToDict(request)


def reason_in(reply: httpx2.Response) -> str:
    """The stable reason of a refusal."""
    return str(reply.json()["details"][0]["reason"])


def violations_in(reply: httpx2.Response) -> dict[str, str]:
    """Fields and what is wrong with them."""
    return {v["field"]: v["description"] for v in reply.json()["details"][1]["fieldViolations"]}


def test_decision_over_http_is_that_over_grpc(browser: TestClient, arbiter: ArbiterClient) -> None:
    """Sent again with its id by the other way, it is the very same message."""
    request = scene(AT_RISK, request_id="both-ways")

    over_http = browser.post("/v1/decide", json=asked(request))
    over_grpc = arbiter.decide(request)

    assert over_http.status_code == 200
    assert over_http.headers["content-type"] == "application/json"
    assert json_format.ParseDict(over_http.json(), decision_service_pb2.DecideResponse()) == over_grpc
    assert over_http.json()["degradedBy"] == []


def test_a_story_told_over_http(browser: TestClient, like: Callable[[str], str]) -> None:
    """Objected, decided, explained, come of, asked again: each by its own path."""
    customer = like(AT_RISK)
    will = {"purpose": "marketing", "channel": "any", "state": "CONSENT_STATE_OBJECTED"}

    recorded = browser.post("/v1/consents", json={"customerId": customer, "consent": will}).json()
    held = browser.post("/v1/consents:get", json={"customerId": customer}).json()
    made = browser.post("/v1/decide", json=asked(scene(AT_RISK, customer, limit=100))).json()
    outcome = {"outcomeId": f"{customer}-1", "decisionId": made["decisionId"], "type": "OUTCOME_TYPE_SHOWN"}
    outcome["actionId"] = made["actions"][0]["actionId"]
    counted = [browser.post("/v1/outcomes", json=outcome).json() for _ in range(2)]
    explained = browser.post("/v1/explain", json={"decisionId": made["decisionId"]}).json()

    assert recorded["consent"]["state"] == "CONSENT_STATE_OBJECTED"
    assert {
        c["consent"]["permitted"] for c in held["effective"] if c["consent"]["purpose"] == "marketing"
    } == {False}
    assert "marketing" not in {action["purpose"] for action in made["actions"]}
    assert counted == [{"duplicate": False}, {"duplicate": True}]
    assert explained["decision"]["decisionId"] == made["decisionId"]


def test_batches_and_events_have_results_of_their_own(browser: TestClient) -> None:
    """What cannot be done fails alone, inside a reply that is fine."""
    items = [
        {"correlationId": "good", "request": asked(scene(LOYAL))},
        {"correlationId": "nobody", "request": asked(scene(LOYAL, "C9999"))},
    ]
    event = {"eventId": "web-1", "type": "made_up", "customerId": LOYAL}

    decided = browser.post("/v1/decide:batch", json={"items": items})
    ingested = browser.post("/v1/events", json={"events": [event]})

    assert [result.get("error", {}).get("code", 0) for result in decided.json()["results"]] == [0, 5]
    assert ingested.json()["results"][0]["status"] == "EVENT_STATUS_REFUSED"


@pytest.mark.parametrize(
    ("change", "field", "told"),
    [
        ({"limt": 3}, "limt", "is no field of DecideRequest, which has customerId"),
        ({"filter": {"grops": []}}, "filter.grops", "is no field of ActionFilter, which has groups"),
        ({"context": {"page": {"text": "x"}}}, "context[page].text", "is no field of ContextValue"),
        ({"limit": "many"}, "limit", "has not the JSON form of int32"),
        ({"filter": {"groups": "one"}}, "filter", "has not the JSON form of ActionFilter"),
        ({"explanationDetail": "ALL"}, "explanation_detail", "has not the JSON form of ExplanationDetail"),
        ({"identity": {"type": "phone"}}, "body", "only one may be set"),
        ({"language": "\ud800"}, "language", "has not the JSON form of string"),
        ({"limit": 0}, "limit", ""),
    ],
)
def test_wrong_field_is_named(browser: TestClient, change: dict[str, Any], field: str, told: str) -> None:
    """Unknown fields and wrong values are a 400 that says where, and repeats no value."""
    body = json.dumps(asked(scene(LOYAL)) | change)

    refused = browser.post("/v1/decide", content=body, headers=JSON)

    assert refused.status_code == 400
    assert (refused.json()["code"], reason_in(refused)) == (code_pb2.INVALID_ARGUMENT, "REQUEST_INVALID")
    assert told in violations_in(refused)[field]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"limit":1,"limit":2}', b'{"limit":NaN}', b"\xff{}", b"[" * 5000]
)
def test_body_that_is_no_json_object_is_refused(browser: TestClient, body: bytes) -> None:
    """Nothing is guessed: names that come twice and numbers that JSON does not have are none either."""
    refused = browser.post("/v1/decide", content=body, headers=JSON)

    assert refused.status_code == 400
    assert set(violations_in(refused)) == {"body"}


def test_refusals_have_the_codes_of_grpc_gateways(browser: TestClient) -> None:
    """A customer nobody knows is not found; every code of gRPC has a status of HTTP."""
    nobody = browser.post("/v1/decide", json=asked(scene(LOYAL, "C9999")))

    assert (nobody.status_code, reason_in(nobody)) == (404, "CUSTOMER_UNKNOWN")
    assert set(HTTP) == set(code_pb2.Code.values())


def test_refusals_say_in_headers_what_to_do() -> None:
    """When to ask again, and that a token is needed."""
    busy, unproven = Status(code=code_pb2.RESOURCE_EXHAUSTED), Status(code=code_pb2.UNAUTHENTICATED)
    wait = error_details_pb2.RetryInfo()
    wait.retry_delay.FromMilliseconds(1200)
    busy.details.add().Pack(wait)

    told = [refusal(status) for status in (busy, unproven)]

    assert [reply.status_code for reply in told] == [429, 401]
    assert told[0].headers["retry-after"] == "2"
    assert told[1].headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("ask", "code", "reason"),
    [
        (lambda c: c.get("/v1/decide"), 405, "METHOD_NOT_ALLOWED"),
        (lambda c: c.post("/v1/decide", data={"a": "b"}), 415, "MEDIA_TYPE_UNSUPPORTED"),
        (lambda c: c.post("/v1/decide", content="{}"), 415, "MEDIA_TYPE_UNSUPPORTED"),
        (lambda c: c.post("/v1/decide", content=b" " * LARGE, headers=JSON), 413, "REQUEST_TOO_LARGE"),
        (lambda c: c.post("/v1/elsewhere", json={}), 404, "METHOD_UNKNOWN"),
    ],
)  # fmt: skip
def test_what_is_no_call_is_refused_in_the_same_form(
    browser: TestClient, ask: Callable[[TestClient], httpx2.Response], code: int, reason: str
) -> None:
    """Method, type, size and path of HTTP."""
    refused = ask(browser)

    assert (refused.status_code, reason_in(refused)) == (code, reason)


@pytest.mark.parametrize(("timeout", "code"), [("0m", 504), ("10S", 200), ("soon", 400), ("1", 400)])
def test_deadline_that_has_passed_makes_no_decision(browser: TestClient, timeout: str, code: int) -> None:
    """It is written as gRPC writes it."""
    reply = browser.post("/v1/decide", json=asked(scene(LOYAL)), headers={"Grpc-Timeout": timeout})

    assert reply.status_code == code


class _Broken:
    """A use case with a bug."""

    def decide(self, _query: object) -> None:
        raise ZeroDivisionError("internal detail")


class _Counting(Unwatched):
    """Remembers the calls it is told of."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def called(self, method: str, code: str, seconds: float) -> None:
        self.calls.append((method, code))


def gateway_of(application: Application, **parts: Any) -> TestClient:
    """A gateway alone, over an application with other parts."""
    authorise = parts.pop("authorise", None)
    return TestClient(Starlette(routes=gateway.routes(replace(application, **parts), authorise)))


def test_bug_says_nothing_about_the_inside_and_is_counted(application: Application) -> None:
    """INTERNAL for the caller, the cause in the log, the call under its gRPC name."""
    watch = _Counting()
    with capture_logs() as logged, gateway_of(application, decisions=_Broken(), watch=watch) as client:
        broken = client.post("/v1/decide", json=asked(scene(LOYAL)))
        client.post("/v1/consents:get", json={"customerId": LOYAL})

    assert broken.status_code == 500
    assert "internal detail" not in broken.text
    assert [entry["event"] for entry in logged] == ["call.failed"]
    assert watch.calls == [
        ("arbiter.v1.DecisionService/Decide", "INTERNAL"),
        ("arbiter.v1.ConsentService/GetConsents", "OK"),
    ]


def test_callers_are_proven_before_the_call(application: Application) -> None:
    """What proves them is told the method of gRPC and the headers; without it nothing is asked."""
    seen: list[tuple[str, bool]] = []

    def only_with_a_token(method: str, metadata: Sequence[tuple[str, str]]) -> None:
        seen.append((method, ("authorization", "Bearer t") in metadata))
        if not seen[-1][1]:
            raise RequestInvalid([])

    with gateway_of(application, authorise=only_with_a_token) as client:
        refused = client.post("/v1/decide", json=asked(scene(LOYAL)))
        passed = client.post("/v1/decide", json=asked(scene(LOYAL)), headers={"Authorization": "Bearer t"})

    assert (refused.status_code, passed.status_code) == (400, 200)
    assert seen == [("/arbiter.v1.DecisionService/Decide", allowed) for allowed in (False, True)]


def test_page_of_an_allowed_origin_may_call(application: Application) -> None:
    """Its browser asks first, and is told which headers it may send."""
    origin = "https://shop.example.com"
    own = application.settings.model_copy(update={"web_origins": (origin,)})
    asking = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    with TestClient(create_app(replace(application, settings=own)), base_url="http://localhost") as client:
        allowed = client.options("/v1/decide", headers=asking)
        stranger = client.options("/v1/decide", headers=asking | {"Origin": "https://evil.example"})

    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, origin)
    assert stranger.status_code == 400
    assert "access-control-allow-origin" not in stranger.headers


def schema_of(name: str) -> Draft202012Validator:
    """A validator of one message by the description."""
    described = document()
    return Draft202012Validator(
        {"$ref": f"#/components/schemas/{name}", "components": described["components"]}
    )


def test_description_is_served_and_names_every_method(browser: TestClient) -> None:
    """Each path of the contract, and no other."""
    served = browser.get("/openapi.json").json()

    assert served == document()
    assert set(served["paths"]) == {method.path for method in METHODS}
    for schema in served["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_replies_are_as_described(browser: TestClient) -> None:
    """Real ones, with all they can hold, and a refusal."""
    made = browser.post("/v1/decide", json=asked(scene(AT_RISK, explanation_detail=3))).json()
    explained = browser.post("/v1/explain", json={"decisionId": made["decisionId"]}).json()
    refused = browser.post("/v1/decide", json={}).json()

    assert list(schema_of("arbiter.v1.DecideResponse").iter_errors(made)) == []
    assert list(schema_of("arbiter.v1.ExplainResponse").iter_errors(explained)) == []
    assert list(schema_of("google.rpc.Status").iter_errors(refused)) == []


def test_description_refuses_what_the_gateway_refuses() -> None:
    """A field that is not there, a text for a number."""
    requests = schema_of("arbiter.v1.DecideRequest")

    assert requests.is_valid({"customerId": LOYAL, "limit": 3, "context": {"page": {"stringValue": "x"}}})
    assert not requests.is_valid({"limt": 3})
    assert not requests.is_valid({"filter": {"groups": "one"}})


_NESTED = {
    "groups",
    "type",
    "value",
    "stringValue",
    "timestampValue",
    "doubleMap",
    "values",
    "request",
    "state",
}
_NAMES = st.sampled_from(
    sorted({f.json_name for m in METHODS for f in m.request.DESCRIPTOR.fields} | _NESTED)
)
_TEXTS = st.text(max_size=5) | st.sampled_from(["\ud800", "1", "1e9", "2026-01-31T08:00:00Z"])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES | _TEXTS, inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(said=st.dictionaries(_NAMES, _VALUES, max_size=4), method=st.sampled_from(METHODS))
def test_any_json_is_read_or_refused_in_words(said: dict[str, Any], method: Any) -> None:
    """Never by another error; and what is read is written in a form that reads the same."""
    try:
        message = read_json(json.dumps(said).encode(), method.request)
    except RequestInvalid as refused:
        told = bool(refused.violations)
    else:
        told = read_json(write_json(message), method.request) == message

    assert told
