"""Traces, as a collector of OpenTelemetry gets them: from a real server, by its own protocol."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from arbiter_at_work import AT_RISK, REPOSITORY, scene, settings_for
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from engine._pb.arbiter.v1 import decision_service_pb2, decision_service_pb2_grpc
from engine.bootstrap import build_server, open_application, open_tracing
from engine.core.steps import Step
from engine.errors import SetupInvalid
from engine.monitor.metrics import Metrics
from engine.settings import Settings, load_settings

TRACE, PARENT_SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{PARENT_SPAN}-01"
NOT_SAMPLED = f"00-{TRACE}-{PARENT_SPAN}-00"
DECIDE = "arbiter.v1.DecisionService/Decide"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes what exporters send."""

    def __init__(self) -> None:
        self.requests: list[trace_service_pb2.ExportTraceServiceRequest] = []
        self._lock = threading.Lock()

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802  # named by the protocol
        with self._lock:
            self.requests.append(request)
        return trace_service_pb2.ExportTraceServiceResponse()

    @property
    def spans(self) -> list[Span]:
        """Every span that came, by its beginning."""
        with self._lock:
            found = [
                s for r in self.requests for rs in r.resource_spans for ss in rs.scope_spans for s in ss.spans
            ]
        return sorted(found, key=lambda span: (span.start_time_unix_nano, span.name))


@pytest.fixture
def collector() -> Iterator[tuple[Collector, str]]:
    """A collector, and the URL of it."""
    servicer, server = Collector(), grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, f"http://127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.fixture
def serve(data_dir: Path) -> Callable[..., Any]:
    """Serves with tracing in a block; gives the calls as generated. All is sent when the block ends."""

    @contextmanager
    def serving(url: str, share: float = 0.0) -> Iterator[Any]:
        settings = settings_for(data_dir, traces=url, traced_share=share)
        with open_tracing(settings) as tracing:
            assert tracing is not None
            watch = Metrics(timed_every=0, traced=tracing.current)
            with open_application(settings, watch=watch) as application:
                server = build_server(application, reuse_port=False, tracing=tracing)
                server.start()
                with grpc.insecure_channel(f"localhost:{server.port}") as channel:
                    yield decision_service_pb2_grpc.DecisionServiceStub(channel)
                server.drain(1.0)

    return serving


def attributes(span: Span) -> dict[str, Any]:
    """Attributes by name."""
    values = {a.key: a.value for a in span.attributes}
    return {
        name: [each.string_value for each in v.array_value.values]
        if v.HasField("array_value")
        else getattr(v, v.WhichOneof("value"))
        for name, v in values.items()
    }


def test_a_callers_trace_goes_on_through_call_decision_and_steps(
    serve: Callable[..., Any], collector: tuple[Collector, str]
) -> None:
    """Each span is within the one it belongs to, and the first within the caller's."""
    taken, url = collector

    with serve(url) as stub:
        response = stub.Decide(scene(AT_RISK), metadata=(("traceparent", SAMPLED),), timeout=30)

    call = next(span for span in taken.spans if span.name == DECIDE)
    decision = next(span for span in taken.spans if span.name == "decide")
    steps = [span for span in taken.spans if span not in (call, decision)]
    assert {span.trace_id.hex() for span in taken.spans} == {TRACE}
    assert call.parent_span_id.hex() == PARENT_SPAN
    assert call.kind == Span.SPAN_KIND_SERVER
    assert decision.parent_span_id == call.span_id
    assert {span.parent_span_id for span in steps} == {decision.span_id}
    assert [span.name for span in steps] == [
        step.value
        for step in (
            Step.FETCH, Step.PREPARE, Step.CONSENT, Step.POLICY, Step.CHURN, Step.PROPENSITY, Step.POLICY,
            Step.CONTACT, Step.ARBITRATE, Step.EXPLAIN, Step.LOG, Step.TELL, Step.REPLY,
        )
    ]  # fmt: skip
    for inner, outer in ((decision, call), *((step, decision) for step in steps)):
        assert outer.start_time_unix_nano <= inner.start_time_unix_nano
        assert inner.end_time_unix_nano <= outer.end_time_unix_nano
    told = attributes(decision)
    assert told["arbiter.decision_id"] == response.decision_id
    assert told["arbiter.channel"] == "call_center"
    assert told["arbiter.outcome"] == "action"
    assert told["arbiter.rules"] == response.versions.rules
    assert told["arbiter.models"] == ["churn/1", "propensity/1"]
    assert attributes(call)["rpc.grpc.status_code"] == 0


def test_nothing_about_a_person_is_sent(serve: Callable[..., Any], collector: tuple[Collector, str]) -> None:
    """Neither who it is, nor what the request or the answer says of them."""
    taken, url = collector
    request = scene(AT_RISK, request_id="+41791234567")

    with serve(url) as stub:
        response = stub.Decide(request, metadata=(("traceparent", SAMPLED),), timeout=30)
        with pytest.raises(grpc.RpcError):
            stub.Decide(scene(AT_RISK, "anna@example.com"), metadata=(("traceparent", SAMPLED),), timeout=30)

    sent = b"".join(each.SerializeToString() for each in taken.requests)
    hidden = [
        AT_RISK,
        "+41791234567",
        "anna@example.com",
        *(v.string_value for v in request.context.values()),
    ]
    hidden += [action.action_id for action in response.actions]
    assert [text for text in hidden if text.encode() in sent] == []
    assert response.decision_id.encode() in sent


def test_a_fault_of_ours_is_an_error_and_a_callers_mistake_is_not(
    serve: Callable[..., Any], collector: tuple[Collector, str]
) -> None:
    """As the conventions for servers say; the code stands there either way."""
    taken, url = collector

    with serve(url) as stub, pytest.raises(grpc.RpcError):
        stub.Decide(scene(AT_RISK, "nobody"), metadata=(("traceparent", SAMPLED),), timeout=30)

    (call,) = taken.spans
    assert attributes(call)["rpc.grpc.status_code"] == grpc.StatusCode.NOT_FOUND.value[0]
    assert call.status.code == 0


@pytest.mark.parametrize(
    ("parent", "share", "traced"),
    [
        (NOT_SAMPLED, 1.0, 0),
        (SAMPLED, 0.0, 1),
        ("", 0.0, 0),
        ("", 1.0, 1),
        ("junk", 0.0, 0),
        ("junk", 1.0, 1),
    ],
)
def test_the_caller_chooses_what_is_traced_and_else_the_share(
    serve: Callable[..., Any], collector: tuple[Collector, str], parent: str, share: float, traced: int
) -> None:
    """A traceparent that is none chooses nothing."""
    taken, url = collector
    metadata = (("traceparent", parent),) if parent else ()

    with serve(url, share) as stub:
        stub.Decide(scene(AT_RISK), metadata=metadata, timeout=30)

    assert [span.name for span in taken.spans].count(DECIDE) == traced


def test_decisions_of_a_batch_are_spans_of_one_call(
    serve: Callable[..., Any], collector: tuple[Collector, str]
) -> None:
    """One for each."""
    taken, url = collector
    items = [decision_service_pb2.DecideBatchItem(correlation_id=n, request=scene(AT_RISK)) for n in "abc"]

    with serve(url, 1.0) as stub:
        stub.DecideBatch(decision_service_pb2.DecideBatchRequest(items=items), timeout=30)

    assert [span.name for span in taken.spans].count("decide") == 3
    assert len({span.trace_id for span in taken.spans}) == 1


def test_a_collector_that_is_away_costs_no_answer(
    serve: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """What it does not take is lost."""
    with serve("http://127.0.0.1:1", 1.0) as stub:
        response = stub.Decide(scene(AT_RISK), timeout=30)

    assert response.actions


def test_off_nothing_of_it_is_imported() -> None:
    """Who has no collector pays nothing, and needs no library."""
    program = "import sys, engine.serving, engine.api.server; print('opentelemetry' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True)

    assert done.stdout.strip() == "False"


def test_a_library_that_is_missing_is_an_error_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is served."""
    monkeypatch.setitem(sys.modules, "engine.monitor.tracing", None)

    with pytest.raises(SetupInvalid, match=r"pip install arbiter-nba\[tracing\]"):
        open_tracing(Settings(traces="http://127.0.0.1:4317"))


@pytest.mark.parametrize(
    "text", ["", "127.0.0.1:4317", "ftp://a:1", "http://a", "http://:4317", "http://a:x"]
)
def test_what_is_no_collector_is_refused(text: str) -> None:
    """With an example."""
    with pytest.raises(SetupInvalid, match=r"--traces: .*write http://HOST:PORT"):
        load_settings({"traces": text})
