"""Lines of the log say which call they belong to: by ids of machines, never by a text that could name one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from io import StringIO
from typing import Any

import grpc
import pytest
import structlog
from arbiter_at_work import AT_RISK, scene

from engine import logs
from engine._pb.arbiter.v1 import decision_service_pb2, decision_service_pb2_grpc
from engine.api import servicers
from engine.calls import UNFIT, begin_call, decided, fit_id, trace_id

UUID = "0190f2a4-7c1d-7e3a-9b55-2f6d0c9a1b11"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Gives the events logged since, once called, with everything that is logged at all."""
    before, stream = structlog.get_config(), StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    logs.configure("debug")
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    structlog.configure(**before)


@pytest.fixture
def stub(server_port: int) -> Iterator[decision_service_pb2_grpc.DecisionServiceStub]:
    """The calls as generated, which take metadata."""
    with grpc.insecure_channel(f"localhost:{server_port}") as channel:
        yield decision_service_pb2_grpc.DecisionServiceStub(channel)


def refused(stub: Any, method: str, request: object, **metadata: str) -> None:
    """Makes a call that must fail."""
    with pytest.raises(grpc.RpcError):
        getattr(stub, method)(request, metadata=tuple(metadata.items()), timeout=30)


def of_calls(events: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Events that a call ended with."""
    return [event for event in events if event["event"].startswith("call.")]


def test_a_refused_call_is_logged_with_its_request_and_trace(stub: Any, logged: Any) -> None:
    """So that who holds the caller's log finds the line."""
    refused(stub, "Decide", scene(AT_RISK, "nobody", request_id=UUID), traceparent=PARENT)

    (event,) = of_calls(logged())
    assert (event["request_id"], event["trace_id"]) == (UUID, TRACE)
    assert "decision_id" not in event


def test_what_came_before_says_nothing_of_the_next_call(stub: Any, logged: Any) -> None:
    """Each call has a context of its own."""
    refused(stub, "Decide", scene(AT_RISK, "nobody", request_id=UUID), traceparent=PARENT)
    refused(stub, "Decide", scene(AT_RISK, "nobody"))

    _, event = of_calls(logged())
    assert not {"request_id", "trace_id", "decision_id"} & set(event)


@pytest.mark.parametrize("personal", ["+41791234567", "anna@example.com", "4111111111111111", "Anna Muster"])
def test_a_request_id_that_could_name_somebody_is_not_logged(stub: Any, logged: Any, personal: str) -> None:
    """Nobody knows what clients put there."""
    refused(stub, "Decide", scene(AT_RISK, "nobody", request_id=personal), traceparent=personal)

    (event,) = of_calls(logged())
    assert event["request_id"] == UNFIT
    assert personal not in json.dumps(event)
    assert "trace_id" not in event


def test_a_call_that_fails_after_its_decision_names_the_decision(
    stub: Any, logged: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log of decisions holds it, though the caller got an error."""

    def broken(*_: object) -> None:
        raise ValueError("no words for it")

    with monkeypatch.context() as patched:
        patched.setattr(servicers, "decide_reply", broken)
        refused(stub, "Decide", scene(AT_RISK, request_id=UUID))
    response = stub.Decide(scene(AT_RISK, request_id=UUID), timeout=30)

    (event,) = of_calls(logged())
    assert event["decision_id"] == response.decision_id
    assert event["request_id"] == UUID


def test_items_of_a_batch_are_told_apart(stub: Any, logged: Any) -> None:
    """An item that fails carries its own ids, not those of the one before."""
    items = [
        decision_service_pb2.DecideBatchItem(correlation_id="a", request=scene(AT_RISK)),
        decision_service_pb2.DecideBatchItem(
            correlation_id="b", request=scene(AT_RISK, "nobody", request_id=UUID)
        ),
    ]

    stub.DecideBatch(decision_service_pb2.DecideBatchRequest(items=items), timeout=30)

    (event,) = of_calls(logged())
    assert event["request_id"] == UUID
    assert "decision_id" not in event


def test_a_call_about_a_decision_names_it(stub: Any, logged: Any) -> None:
    """An id of Arbiter's form as it is; anything else is not repeated."""
    decision_id = stub.Decide(scene(AT_RISK), timeout=30).decision_id
    changed = decision_id[:-1] + ("1" if decision_id[-1] != "1" else "2")
    refused(stub, "Explain", decision_service_pb2.ExplainRequest(decision_id=changed))
    refused(stub, "Explain", decision_service_pb2.ExplainRequest(decision_id="Anna Muster"))

    told = [event["decision_id"] for event in of_calls(logged())]
    assert told[1] == UNFIT
    assert told[0] in (changed, UNFIT)  # an id carries a check of its own


def test_what_a_line_says_itself_stands() -> None:
    """The processor only adds."""
    from engine.calls import with_call

    begin_call(lambda: {"request_id": UUID, "decision_id": "", "trace_id": ""})
    decided("D1")

    event = with_call(None, "info", {"event": "x", "request_id": "mine"})

    assert event == {"event": "x", "request_id": "mine", "decision_id": "D1"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ""), (UUID, UUID), (UUID.upper(), UUID.upper()), ("01ARZ3NDEKTSV4RRFFQ69G5FAV",) * 2,
        ("9f86d081884c7d659a2feaa0c55ad015",) * 2, ("12345678901234567890", UNFIT), ("C0131", UNFIT),
    ],
)  # fmt: skip
def test_ids_of_machines_are_known_by_their_form(text: str, told: str) -> None:
    """UUIDs, ULIDs and random bytes in hex; digits alone could be a telephone or a card."""
    assert fit_id(text) == told


@pytest.mark.parametrize(
    ("parent", "trace"), [(PARENT, TRACE), ("", ""), ("junk", ""), (f"{PARENT}-more", TRACE)]
)
def test_the_trace_is_read_as_w3c_writes_it(parent: str, trace: str) -> None:
    """What is no traceparent names no trace."""
    assert trace_id(parent) == trace
