"""The bound server: health, drain, ports, reflection."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import grpc
import pytest
from arbiter_at_work import LOYAL, connect, scene
from grpc_health.v1 import health_pb2, health_pb2_grpc

from engine.api.gate import CallGate
from engine.api.server import ApiServer
from engine.bootstrap import Application, build_server
from engine.client import ArbiterClient
from engine.errors import ServerDraining, SetupInvalid

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def server(application: Application) -> Iterator[ApiServer]:
    """A server of the test's own, to be drained."""
    own = build_server(application, reuse_port=False)
    own.start()
    yield own
    own.drain(0)


@pytest.mark.parametrize("service", ["", "arbiter.v1.DecisionService", "arbiter.v1.ConsentService"])
def test_started_server_is_serving(server_port: int, service: str) -> None:
    """The server as a whole and each service say SERVING."""
    with grpc.insecure_channel(f"localhost:{server_port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)

        reply = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)

    assert reply.status == SERVING


def test_draining_server_says_so_before_it_goes(server: ApiServer) -> None:
    """Who watches the health learns of the drain."""
    with grpc.insecure_channel(f"localhost:{server.port}") as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=30)
        first = next(watch).status
        drained = threading.Thread(target=server.drain, args=(5.0,))

        drained.start()
        second = next(watch).status
        watch.cancel()
        drained.join()

    assert (first, second) == (SERVING, NOT_SERVING)


def test_watching_the_health_takes_no_thread_from_decisions(server: ApiServer) -> None:
    """More watchers than threads leave the server deciding."""
    with grpc.insecure_channel(f"localhost:{server.port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watches = [stub.Watch(health_pb2.HealthCheckRequest(), timeout=30) for _ in range(8)]
        statuses = [next(watch).status for watch in watches]

        with connect(f"localhost:{server.port}") as arbiter:
            decided = arbiter.decide(scene(LOYAL))

        for watch in watches:
            watch.cancel()

    assert statuses == [SERVING] * 8
    assert decided.decision_id


def test_watchers_that_go_away_do_not_stop_the_server(server: ApiServer) -> None:
    """Others come meanwhile, and the status changes; every call is answered, and the drain ends."""
    address = f"localhost:{server.port}"

    def come_and_go(_: int) -> None:
        with grpc.insecure_channel(address) as channel:
            for _ in range(60):
                watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=30)
                assert next(watch).status == SERVING
                watch.cancel()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(come_and_go, range(4)))
    with connect(address) as arbiter:
        decided = arbiter.decide(scene(LOYAL))

    assert decided.decision_id


def test_second_server_on_a_port_is_refused(application: Application, server: ApiServer) -> None:
    """SetupInvalid says which address, and what to do."""
    taken = application.settings.model_copy(update={"port": server.port})
    with pytest.raises(SetupInvalid, match=f"{server.port}.*Choose another --port"):
        build_server(replace(application, settings=taken), reuse_port=False)


def test_drained_server_can_be_drained_again(server: ApiServer, arbiter: ArbiterClient) -> None:
    """A second SIGTERM harms nobody, and other servers of the data directory serve on."""
    server.drain(0)
    server.drain(0)

    assert arbiter.decide(scene(LOYAL)).decision_id


def test_closed_gate_turns_calls_away_for_another_server() -> None:
    """Once closed, a call is refused with what clients retry on."""
    gate = CallGate()
    gate.enter()

    gate.close(0.0)

    with pytest.raises(ServerDraining):
        gate.enter()
