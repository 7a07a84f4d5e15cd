"""The load generator: it counts whole replies, tells lost calls, and knows when each call was due."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import numpy as np
import pytest

from engine._pb.arbiter.v1 import decision_service_pb2
from engine.bench import whole_floor
from engine.bench.parts import PartMissing
from engine.bench.whole_load import Load, latencies, replies
from engine.bench.whole_server import MeasuredServer, cores, free_port, on_cores
from engine.bench.whole_sides import asked_for, decide_request
from engine.bench.whole_wire import CallLost, Connection, GrpcConnection, HttpConnection

REQUEST = decide_request("W0000001").SerializeToString()


def _echo(request: decision_service_pb2.DecideRequest, _: grpc.ServicerContext) -> bytes:
    reply = decision_service_pb2.DecideResponse(customer_id=request.customer_id, channel="x" * 70_000)
    return reply.SerializeToString()


def _refuse(_: decision_service_pb2.DecideRequest, context: grpc.ServicerContext) -> bytes:
    context.abort(grpc.StatusCode.UNAVAILABLE, "not today")


@contextmanager
def _grpc_server(handler: whole_floor.Handler) -> Iterator[int]:
    port = free_port()
    server = whole_floor.serve(port, handler)
    try:
        yield port
    finally:
        server.stop(0).wait()


def _wait(connection: Connection) -> None:
    """Until a call has ended."""
    while not connection.ended():
        pass


class _Answers(BaseHTTPRequestHandler):
    """Says back what it is asked; 500 to the path /broken."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:  # named by the library
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(500 if self.path == "/broken" else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def http_port() -> Iterator[int]:
    """Port of a small HTTP server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_a_grpc_reply_comes_back_whole() -> None:
    """Also one of many frames, and several at once on a connection."""
    with _grpc_server(_echo) as port, closing(GrpcConnection(port)) as connection:
        numbers = {connection.send(REQUEST) for _ in range(5)}
        ended: set[int] = set()
        while ended != numbers:
            ended |= set(connection.ended())

    (sample,) = connection.samples
    reply = decision_service_pb2.DecideResponse.FromString(sample)
    assert reply.customer_id == "W0000001"
    assert len(reply.channel) == 70_000


def test_a_call_that_grpc_refuses_is_lost() -> None:
    """A status without a message is no reply."""
    with _grpc_server(_refuse) as port, closing(GrpcConnection(port)) as connection:
        connection.send(REQUEST)

        with pytest.raises(CallLost, match="a call failed"):
            _wait(connection)


def test_a_call_that_a_busy_server_refuses_is_counted() -> None:
    """It ends, and is no reply."""

    def busy(_: decision_service_pb2.DecideRequest, context: grpc.ServicerContext) -> bytes:
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "try again")

    with _grpc_server(busy) as port:
        found = replies(Load(partial(GrpcConnection, port), 1, [REQUEST]), under_way=1, seconds=0.1)

    assert found.count == 0
    assert found.refused > 0


def test_a_server_that_hangs_up_is_told() -> None:
    """Nothing more comes from it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        connection = GrpcConnection(listening.getsockname()[1])
        listening.accept()[0].close()

        with closing(connection), pytest.raises((CallLost, ConnectionResetError)):
            connection.ended()


def test_an_http_reply_comes_back_whole(http_port: int) -> None:
    """The first is kept; an error is lost."""
    with closing(HttpConnection(http_port, "/decide")) as connection:
        connection.send(b'{"a": 1}')
        _wait(connection)
        assert connection.samples == [b'{"a": 1}']
    with closing(HttpConnection(http_port, "/broken")) as broken:
        broken.send(b"{}")
        with pytest.raises(CallLost, match="500"):
            _wait(broken)


def test_a_closed_loop_counts_replies(http_port: int) -> None:
    """Over both protocols; replies a second are those of the time measured."""
    with _grpc_server(whole_floor.empty) as port:
        over_grpc = replies(Load(partial(GrpcConnection, port), 2, [REQUEST]), under_way=4, seconds=0.5)
    over_http = replies(Load(partial(HttpConnection, http_port, "/"), 3, [b"{}"]), under_way=3, seconds=0.5)

    for answered in (over_grpc, over_http):
        assert answered.count > 0
        assert answered.per_s == answered.count / answered.seconds
        assert answered.seconds >= 0.5
        assert answered.samples


def test_an_open_loop_takes_latency_from_when_a_call_was_due() -> None:
    """A handler that blocks once makes everybody wait who came meanwhile; the sender itself is not late."""
    released, waiting = threading.Event(), iter([True])

    def handle(request: decision_service_pb2.DecideRequest, context: grpc.ServicerContext) -> bytes:
        if next(waiting, False):
            released.wait(0.3)
        return whole_floor.empty(request, context)

    with _grpc_server(handle) as port:
        found = latencies(Load(partial(GrpcConnection, port), 2, [REQUEST]), rate=200, seconds=0.5, seed=1)

    assert len(found.took_ms) == len(found.lag_ms) > 50
    assert found.took_ms.max() >= 290
    assert np.median(found.lag_ms) < np.max(found.took_ms)
    assert (found.took_ms >= found.lag_ms).all()


def test_requests_say_the_same_over_both_protocols() -> None:
    """Customer, channel, placement, page and limit."""
    asked = asked_for(["W0000007"])

    request = decision_service_pb2.DecideRequest.FromString(asked.grpc[0])

    assert request.customer_id == "W0000007"
    assert request.context["page"].string_value == "/billing"
    assert b'"customer_id": "W0000007"' in asked.http[0]
    assert b'"page": "/billing"' in asked.http[0]


def test_a_server_that_does_not_start_is_told(tmp_path: Path) -> None:
    """With the end of what it said."""
    command = [sys.executable, "-c", "raise SystemExit('no such luck')"]
    server = MeasuredServer("broken", command, port=free_port(), log=tmp_path / "log", environment={})

    with pytest.raises(PartMissing, match="the server broken does not start: no such luck"), server:
        pass


def test_the_cores_of_a_process_come_back() -> None:
    """After the block it may run where it could before."""
    before = os.sched_getaffinity(0)

    with on_cores(cores()[:1]):
        inside = os.sched_getaffinity(0)

    assert inside == {cores()[0]}
    assert os.sched_getaffinity(0) == before


def test_a_stack_of_exits_closes_every_connection() -> None:
    """A round leaves no connection behind."""
    with ExitStack() as stack:
        port = stack.enter_context(_grpc_server(whole_floor.empty))
        opened: list[GrpcConnection] = []

        def connect() -> GrpcConnection:
            opened.append(GrpcConnection(port))
            return opened[-1]

        replies(Load(connect, 3, [REQUEST]), under_way=3, seconds=0.05)

    assert [connection.fileno() for connection in opened] == [-1, -1, -1]
