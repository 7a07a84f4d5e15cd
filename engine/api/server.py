"""One gRPC server process: services, health, limits, graceful drain."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from engine._pb.arbiter.v1 import (
    consent_service_pb2,
    consent_service_pb2_grpc,
    decision_service_pb2,
    event_service_pb2,
    event_service_pb2_grpc,
    outcome_service_pb2,
    outcome_service_pb2_grpc,
)
from engine.api.event_servicer import EventServicer
from engine.api.gate import CallGate
from engine.api.interceptors import Called, ErrorsToStatus
from engine.api.servicers import (
    ConsentServicer,
    DecisionServicer,
    OutcomeServicer,
    add_decision_service,
)
from engine.errors import SetupInvalid

_SERVICES = tuple(
    file.services_by_name[name].full_name
    for file, name in (
        (decision_service_pb2.DESCRIPTOR, "DecisionService"),
        (outcome_service_pb2.DESCRIPTOR, "OutcomeService"),
        (consent_service_pb2.DESCRIPTOR, "ConsentService"),
        (event_service_pb2.DESCRIPTOR, "EventService"),
    )
)


@dataclass(frozen=True, slots=True)
class Servicers:
    """What the server serves."""

    decision: DecisionServicer
    outcome: OutcomeServicer
    consent: ConsentServicer
    event: EventServicer


class ApiServer:
    """A bound server. `start` serves; `drain` says NOT_SERVING, lets calls finish and stops."""

    def __init__(
        self,
        servicers: Servicers,
        *,
        address: str,
        threads: int,
        max_request_bytes: int,
        reuse_port: bool,
        with_reflection: bool,
        called: Called,
    ) -> None:
        """Binds the address; `port` then tells which. Raises SetupInvalid where it cannot."""
        self._health = _Health()
        self._gate = CallGate()
        self._server = grpc.server(
            ThreadPoolExecutor(max_workers=threads, thread_name_prefix="call"),
            interceptors=[ErrorsToStatus(self._gate, called)],
            options=(
                ("grpc.max_receive_message_length", max_request_bytes),
                ("grpc.so_reuseport", int(reuse_port)),
                ("grpc.max_metadata_size", 16 * 1024),
            ),
        )
        add_decision_service(servicers.decision, self._server)
        outcome_service_pb2_grpc.add_OutcomeServiceServicer_to_server(servicers.outcome, self._server)
        consent_service_pb2_grpc.add_ConsentServiceServicer_to_server(servicers.consent, self._server)
        event_service_pb2_grpc.add_EventServiceServicer_to_server(servicers.event, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if with_reflection:
            names = (*_SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)
        self.port = _bind(self._server, address)

    def start(self) -> None:
        """Serves, and says so to health checks."""
        self._server.start()
        for name in ("", *_SERVICES):
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    def drain(self, grace_seconds: float) -> None:
        """Takes no new calls, lets those in flight finish, returns when all are done or time is up."""
        self._health.enter_graceful_shutdown()
        self._gate.close(grace_seconds)
        self._server.stop(grace_seconds).wait()


class _Health(health.HealthServicer):
    """The library's, without its deadlock.

    It sends to watchers with its lock held, and waits for gRPC's one thread to say that each was sent. When a
    watcher goes away, that thread calls what waits for the lock: so here another thread waits.
    """

    def _on_close_callback(
        self, send_response_callback: Callable[[object], None], service: str
    ) -> Callable[[], None]:
        forget: Callable[[], None] = super()._on_close_callback(send_response_callback, service)
        return lambda: threading.Thread(target=forget, name="health", daemon=True).start()


def _bind(server: grpc.Server, address: str) -> int:
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        port = 0
        cause: Exception | None = error
    else:
        cause = None
    if not port:
        raise SetupInvalid(
            f"cannot listen on {address}: is another server there already? Choose another --port"
        ) from cause
    return int(port)
