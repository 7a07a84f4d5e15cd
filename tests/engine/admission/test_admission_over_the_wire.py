"""A real server that gets more calls than it can take: who is refused, how, and what becomes of the rest."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import grpc
import pytest
from arbiter_at_work import LOYAL, scene
from google.rpc import error_details_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from engine._pb.arbiter.v1 import decision_service_pb2, decision_service_pb2_grpc
from engine.api.door import Door
from engine.api.gate import CallGate
from engine.api.interceptors import ErrorsToStatus
from engine.api.lanes import Lanes
from engine.service.admission import AdmissionLimit, Priority
from engine.service.watching import Unwatched

THREADS = 2
Metadata = Sequence[tuple[str, str]]


class _Held(decision_service_pb2_grpc.DecisionServiceServicer):
    """Answers when told to, and notes in which order it began."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun: list[str] = []

    def Decide(  # noqa: N802  # named by the contract
        self, request: decision_service_pb2.DecideRequest, context: grpc.ServicerContext
    ) -> decision_service_pb2.DecideResponse:
        self.begun.append(request.request_id)
        self.go.wait(10.0)
        return decision_service_pb2.DecideResponse(decision_id=request.request_id)

    DecideBatch = Decide  # type: ignore[assignment]  # the same for whoever asks


@dataclass
class _Place:
    """The server, its servicer and what was counted of it."""

    held: _Held
    lanes: Lanes
    gate: CallGate
    channel: grpc.Channel
    server: grpc.Server
    watch: _Counting
    futures: list[grpc.Future[object]] = field(default_factory=list)

    def send(
        self, name: str = "", *, metadata: Metadata = (), timeout: float | None = 20.0
    ) -> grpc.Future[object]:
        """Sends a decision and does not wait for it."""
        decide = decision_service_pb2_grpc.DecisionServiceStub(self.channel).Decide
        future = decide.future(scene(LOYAL, request_id=name), metadata=metadata, timeout=timeout)
        self.futures.append(future)
        return future

    def refused(self, *, metadata: Metadata = (), most: int = 200) -> grpc.Call:
        """Sends decisions until one is refused; gives that one."""
        for _ in range(most):
            future = self.send("filler", metadata=metadata)
            with suppress(grpc.FutureTimeoutError):
                error = future.exception(timeout=0.1)
                assert isinstance(error, grpc.Call)
                return error
        raise AssertionError("none was refused")


class _Counting(Unwatched):
    """Keeps method and status of each call that was answered."""

    def __init__(self) -> None:
        self.counted: list[tuple[str, str]] = []
        self.broken = False

    def shed(self, _priority: str, _reason: str) -> None:
        if self.broken:
            raise RuntimeError("no counting today")

    def called(self, method: str, code: str, _seconds: float) -> None:
        self.counted.append((method, code))


@contextmanager
def served(wait_s: float = 0.004, *, deadline_s: float = 5.0, threads: int = THREADS) -> Iterator[_Place]:
    """A server in this process, with a limit of a few calls."""
    lanes = Lanes(AdmissionLimit(wait_s=wait_s, servers=threads), threads=threads)
    gate, held = CallGate(), _Held()
    watch = _Counting()
    interceptor = ErrorsToStatus(gate, watch, lanes=lanes, default_deadline_s=deadline_s)
    server = grpc.server(lanes.of(Priority.CALL_CENTRE), interceptors=[interceptor])
    Door(lanes, gate, watch).stand_before(server)
    decision_service_pb2_grpc.add_DecisionServiceServicer_to_server(held, server)
    health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    lanes.start()
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield _Place(held, lanes, gate, channel, server, watch)
            held.go.set()
    finally:
        held.go.set()
        server.stop(5.0).wait()
        lanes.close()


def until(true: Callable[[], bool]) -> None:
    """Returns once it is so."""
    end_s = time.monotonic() + 10.0
    while not true():
        assert time.monotonic() < end_s, "not in ten seconds"
        time.sleep(0)


def details(call: grpc.Call) -> tuple[error_details_pb2.ErrorInfo, error_details_pb2.RetryInfo]:
    """ErrorInfo and RetryInfo of a refusal."""
    status = rpc_status.from_call(call)
    assert status is not None
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(retry)
    return info, retry


def test_refused_call_says_so_and_when_to_come_back() -> None:
    """RESOURCE_EXHAUSTED with ErrorInfo and RetryInfo, and the time for clients that retry by themselves."""
    with served() as place:
        refusal = place.refused()

        info, retry = details(refusal)
        assert refusal.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (info.reason, info.domain) == ("OVERLOADED", "arbiter")
        assert retry.retry_delay.ToMilliseconds() == 500
        assert ("grpc-retry-pushback-ms", "500") in refusal.trailing_metadata()
        assert place.watch.counted == [("arbiter.v1.DecisionService/Decide", "RESOURCE_EXHAUSTED")]


def test_refusal_waits_for_nothing_that_was_let_in() -> None:
    """While every thread is held, a hundred calls are refused in less than a call's deadline."""
    with served() as place:
        place.refused()
        began = time.perf_counter()

        refusals = [place.send() for _ in range(100)]
        codes = {future.exception(timeout=5.0).code() for future in refusals}  # type: ignore[union-attr]

        assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert time.perf_counter() - began < 5.0
        assert len(place.held.begun) <= THREADS


def test_refusals_leave_nothing_behind() -> None:
    """So many are refused in a flood that what each leaves would soon be felt."""
    with served() as place:
        place.refused()
        kept = len(place.server._state.rpc_states)  # type: ignore[attr-defined]  # of calls under way

        for _ in range(50):
            place.send().exception(timeout=5.0)

        until(lambda: len(place.server._state.rpc_states) == kept)  # type: ignore[attr-defined]
        assert place.watch.counted.count(("arbiter.v1.DecisionService/Decide", "RESOURCE_EXHAUSTED")) == 51


def test_door_that_fails_lets_in_and_the_server_goes_on() -> None:
    """What is raised there would end the one thread that takes calls."""
    with served() as place:
        place.refused()
        place.watch.broken = True
        place.held.go.set()

        answered = [place.send(f"{number}").result(timeout=10.0) for number in range(20)]

        assert all(answered)


def test_call_centre_comes_in_where_the_web_is_refused_and_the_web_where_batches_are() -> None:
    """Each by what it says in its metadata."""
    with served(wait_s=0.020) as place:
        batch = place.refused(metadata=[("arbiter-priority", "batch")])
        after_batch = place.lanes.limit.in_flight
        web = place.refused(metadata=[("arbiter-priority", "web")])
        after_web = place.lanes.limit.in_flight
        call_centre = place.refused(metadata=[("arbiter-priority", "call-centre")])

        delays = [details(each)[1].retry_delay.ToMilliseconds() for each in (batch, web, call_centre)]
        assert delays == [2_000, 500, 100]
        assert 0 < after_batch < after_web < place.lanes.limit.in_flight


def test_more_urgent_calls_are_answered_first() -> None:
    """Whoever waits for a thread is overtaken by the call centre, and batches by everyone."""
    with served(wait_s=1.0, threads=1) as place:
        place.send("running")
        until(lambda: place.held.begun == ["running"])
        for name in ("batch", "web", "call-centre"):
            place.send(name, metadata=[("arbiter-priority", name)])
            until(lambda: place.lanes.limit.in_flight == len(place.futures))

        place.held.go.set()
        for future in place.futures:
            future.result(timeout=10.0)

        assert place.held.begun[1:] == ["call-centre", "web", "batch"]


def test_batches_leave_a_thread_to_others() -> None:
    """With more batches than threads waiting, a decision still begins at once."""
    with served(wait_s=1.0) as place:
        stub = decision_service_pb2_grpc.DecisionServiceStub(place.channel)
        batches = [
            stub.DecideBatch.future(decision_service_pb2.DecideBatchRequest(), timeout=20.0) for _ in range(6)
        ]
        until(lambda: place.lanes.limit.in_flight == len(batches))

        place.send("decision")
        until(lambda: "decision" in place.held.begun)

        assert len(place.held.begun) <= THREADS
        place.held.go.set()
        place.futures[0].result(timeout=10.0)
        assert all(future.exception(timeout=10.0) is not None for future in batches)  # it has no request_id


def test_server_takes_calls_again_as_soon_as_it_is_not_full() -> None:
    """After each of three waves, the next call is answered, and nothing is counted twice."""
    with served() as place:
        for _ in range(3):
            place.held.go.clear()
            place.refused()
            place.held.go.set()
            for future in place.futures:
                future.exception(timeout=10.0)

            assert place.send("after").result(timeout=10.0) is not None
            until(lambda: not place.lanes.limit.in_flight)


def test_call_given_up_by_its_client_leaves_no_place_taken() -> None:
    """Cancelled or past its deadline, while it is answered or while it waits."""
    with served(wait_s=0.020) as place:
        for number in range(8):
            place.send(f"{number}", timeout=0.05 if number % 2 else 20.0)
        for future in place.futures:
            future.cancel()
        place.held.go.set()

        until(lambda: not place.lanes.limit.in_flight)

        assert place.send("after").result(timeout=10.0) is not None


def test_call_without_a_deadline_gets_the_server_s_and_one_with_its_own_keeps_it() -> None:
    """What waited longer than the default is not begun, unless its client said that it would wait."""
    with served(wait_s=0.050, deadline_s=1e-6) as place:
        for number in range(THREADS):
            place.send(f"running{number}", timeout=20.0)
        until(lambda: len(place.held.begun) == THREADS)  # grpc does not keep the order of calls
        patient = place.send("patient", timeout=20.0)
        impatient = place.send("impatient", timeout=None)
        until(lambda: place.lanes.limit.in_flight == len(place.futures))

        place.held.go.set()
        error = impatient.exception(timeout=10.0)

        assert isinstance(error, grpc.Call)
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert patient.result(timeout=10.0) is not None
        assert "impatient" not in place.held.begun


def test_health_checks_are_not_refused() -> None:
    """A full server is not a broken one: to restart it would not help."""
    with served() as place:
        place.refused()

        check = health_pb2_grpc.HealthStub(place.channel).Check.future(health_pb2.HealthCheckRequest())
        place.held.go.set()

        assert check.result(timeout=10.0).status == health_pb2.HealthCheckResponse.SERVING


def test_full_server_that_drains_sends_calls_elsewhere() -> None:
    """UNAVAILABLE, which clients repeat at another server, rather than RESOURCE_EXHAUSTED."""
    with served() as place:
        place.refused()
        with ThreadPoolExecutor(1) as closing:
            closed = closing.submit(place.gate.close, 0.2)
            closed.result(timeout=10.0)

        error = place.send().exception(timeout=10.0)

        assert isinstance(error, grpc.Call)
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert place.watch.counted[-1][1] == "UNAVAILABLE"


@pytest.mark.parametrize("said", ["first class", "", "CALL-CENTRE"])
def test_priority_that_nobody_knows_is_that_of_the_method(said: str) -> None:
    """It neither helps nor harms."""
    with served() as place:
        refusal = place.refused(metadata=[("arbiter-priority", said)])

        assert details(refusal)[1].retry_delay.ToMilliseconds() == 500
