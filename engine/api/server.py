"""One gRPC server process: services, health, limits, graceful drain."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import grpc
import structlog
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
from engine.api.door import Door
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
from engine.security.keeping import LOOK_S, Kept
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


_log = structlog.get_logger("engine.api")

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
        """Binds the address; `port` then tells which. Raises SetupInvalid where it cannot.

        With `tls` the port is bound to be shared, as changed certificates get a listener of their own.
        """
        self._health = _Health()
        self._lanes = Lanes(AdmissionLimit(wait_s=endurance.wait_s, servers=threads), threads=threads)
        self._tls = tls
        self._grace_s = endurance.grace_s
        self._changing = threading.Lock()
        self._drained = threading.Event()
        options = (
            ("grpc.max_connection_age_ms", round(endurance.connection_age_s * 1000)),
            ("grpc.max_connection_age_grace_ms", round(endurance.grace_s * 1000)),
            ("grpc.max_receive_message_length", max_request_bytes),
            ("grpc.so_reuseport", int(reuse_port or tls is not None)),
            ("grpc.max_metadata_size", 16 * 1024),
            ("grpc.server_handshake_timeout_ms", HANDSHAKE_MS),
        )

        def listener(address: str, shown: TlsFiles | None) -> _Listener:
            gate = CallGate()
            errors = ErrorsToStatus(
                gate,
                watch,
                authoriser=authoriser,
                lanes=self._lanes,
                default_deadline_s=endurance.deadline_s,
            )
            server = grpc.server(
                self._lanes.of(Priority.CALL_CENTRE),  # of health checks and reflection
                interceptors=[*outermost, errors],
                options=options,
            )
            Door(self._lanes, gate, watch).stand_before(server)
            _add(servicers, self._health, server, with_reflection=with_reflection)
            return _Listener(server, gate, shown, _bind(server, address, shown))

        self._listener = listener(address, None if tls is None else tls.current)
        self.port = self._listener.port
        self._listener_of = partial(listener, f"{address.rpartition(':')[0]}:{self.port}")

    def start(self) -> None:
        """Serves, and says so to health checks."""
        self._lanes.start()
        self._listener.server.start()
        for name in ("", LIVE, *_SERVICES):
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        if self._tls is not None:
            threading.Thread(target=self._follow, name="certificates", daemon=True).start()

    def follow_certificates(self) -> None:
        """Shows the pair that the files hold now, where it is another; who is connected connects anew.

        Calls that arrive while the old listener ends are told to come again, as when the server drains.
        """
        with self._changing:
            if self._tls is None or self._drained.is_set():
                return
            before, files = self._listener, self._tls.current
            if files is before.shown:
                return
            try:
                self._listener = self._listener_of(files)
            except SetupInvalid as error:  # the port is ours, so this is want of memory or sockets
                _log.error("security.certificates_not_shown", cause=str(error))
                return
            self._listener.server.start()
        before.end(self._grace_s)

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
        with self._changing:
            self._drained.set()
        self._health.enter_graceful_shutdown()
        self._listener.end(grace_seconds)
        self._lanes.close()

    def _follow(self) -> None:
        while not self._drained.wait(LOOK_S):
            self.follow_certificates()


@dataclass(frozen=True, slots=True)
class _Listener:
    """One gRPC server on the port, showing one pair, and the gate in front of its calls."""

    server: grpc.Server
    gate: CallGate
    shown: TlsFiles | None
    port: int

    def end(self, grace_s: float) -> None:
        """Takes no new calls; returns when those in flight are done or time is up."""
        self.gate.close(grace_s)
        self.server.stop(grace_s).wait()


def _add(servicers: Servicers, health_of: _Health, server: grpc.Server, *, with_reflection: bool) -> None:
    """Has a server serve everything."""
    add_decision_service(servicers.decision, server)
    outcome_service_pb2_grpc.add_OutcomeServiceServicer_to_server(servicers.outcome, server)
    consent_service_pb2_grpc.add_ConsentServiceServicer_to_server(servicers.consent, server)
    event_service_pb2_grpc.add_EventServiceServicer_to_server(servicers.event, server)
    health_pb2_grpc.add_HealthServicer_to_server(health_of, server)
    if with_reflection:
        names = (*_SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)


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


def _bind(server: grpc.Server, address: str, shown: TlsFiles | None) -> int:
    try:
        if shown is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, server_credentials(shown))
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
