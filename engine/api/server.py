"""One gRPC server process: services, health, limits, graceful drain."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
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
from engine.api.interceptors import ErrorsToStatus
from engine.api.lanes import Lanes
from engine.api.servicers import (
    ConsentServicer,
    DecisionServicer,
    OutcomeServicer,
    add_decision_service,
)
from engine.api.tls import server_credentials
from engine.errors import SetupInvalid
from engine.security.authorising import Authoriser
from engine.security.certificates import TlsFiles
from engine.security.keeping import Kept
from engine.service.admission import AdmissionLimit, Priority
from engine.service.watching import Watch

LIVE = "live"
"""What who restarts servers asks health checks for: a process that lives, whatever it can do."""
_SERVICES = tuple(
    file.services_by_name[name].full_name
    for file, name in (
        (decision_service_pb2.DESCRIPTOR, "DecisionService"),
        (outcome_service_pb2.DESCRIPTOR, "OutcomeService"),
        (consent_service_pb2.DESCRIPTOR, "ConsentService"),
        (event_service_pb2.DESCRIPTOR, "EventService"),
    )
)


HANDSHAKE_MS = 10_000
"""Time for a new connection to say who it is: who sends byte by byte holds it no longer than that."""


@dataclass(frozen=True, slots=True)
class Servicers:
    """What the server serves."""

    decision: DecisionServicer
    outcome: OutcomeServicer
    consent: ConsentServicer
    event: EventServicer


@dataclass(frozen=True, slots=True)
class Endurance:
    """What a server takes on and for how long, so that it stays quick.

    `wait_s`: how long a call that is let in may wait for a thread. `deadline_s`: of calls that give none.
    `connection_age_s`: how long a connection may last before its client makes a new one, which may reach
    another process; `grace_s`: how long its calls may go on then.
    """

    wait_s: float = 0.025
    deadline_s: float = 5.0
    connection_age_s: float = 300.0
    grace_s: float = 10.0


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
        watch: Watch,
        outermost: Sequence[grpc.ServerInterceptor] = (),  # type: ignore[type-arg]  # generic in the stubs only
        tls: Kept[TlsFiles] | None = None,
        authoriser: Authoriser | None = None,
        endurance: Endurance = Endurance(),  # frozen
    ) -> None:
        """Binds the address; `port` then tells which. Raises SetupInvalid where it cannot."""
        self._health = _Health()
        self._gate = CallGate()
        self._lanes = Lanes(AdmissionLimit(wait_s=endurance.wait_s, servers=threads), threads=threads)
        self._server = grpc.server(
            self._lanes.of(Priority.CALL_CENTRE),  # of health checks and reflection
            interceptors=[
                *outermost,
                ErrorsToStatus(
                    self._gate,
                    watch,
                    authoriser=authoriser,
                    lanes=self._lanes,
                    default_deadline_s=endurance.deadline_s,
                ),
            ],
            options=(
                ("grpc.max_connection_age_ms", round(endurance.connection_age_s * 1000)),
                ("grpc.max_connection_age_grace_ms", round(endurance.grace_s * 1000)),
                ("grpc.max_receive_message_length", max_request_bytes),
                ("grpc.so_reuseport", int(reuse_port)),
                ("grpc.max_metadata_size", 16 * 1024),
                ("grpc.server_handshake_timeout_ms", HANDSHAKE_MS),
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
        self.port = _bind(self._server, address, tls)

    def start(self) -> None:
        """Serves, and says so to health checks."""
        self._lanes.start()
        self._server.start()
        for name in ("", LIVE, *_SERVICES):
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    def tell_ready(self, service: str, ready: bool) -> None:
        """Says of a service whether it can do its work; of the whole server what is true of decisions."""
        status = (
            health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        )
        name = next(name for name in _SERVICES if name.endswith(f".{service}"))
        for each in (name, "") if name == _SERVICES[0] else (name,):
            self._health.set(each, status)

    def drain(self, grace_seconds: float) -> None:
        """Takes no new calls, lets those in flight finish, returns when all are done or time is up."""
        self._health.enter_graceful_shutdown()
        self._gate.close(grace_seconds)
        self._server.stop(grace_seconds).wait()
        self._lanes.close()


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


def _bind(server: grpc.Server, address: str, tls: Kept[TlsFiles] | None) -> int:
    try:
        if tls is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, server_credentials(tls))
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
