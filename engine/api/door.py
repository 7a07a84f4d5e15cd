"""Refuses calls before grpc makes anything of them, in the thread that takes them from the network.

What a refusal costs is taken from answers, and a flood is refused thousands of times a second. Refusing in a
handler makes all that grpc needs for a call that is answered: its state, a context, an exception and three
events. So this stands before the one function of grpc that every call goes through, and answers as that
function does where grpc itself refuses: with one batch of operations, of which one event comes back. The
figures are in docs/adr/0042-calls-are-refused-before-grpc-handles-them.md.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final
from weakref import WeakKeyDictionary

import grpc
import structlog
from grpc import _server as calls_of_grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # not in the stubs

from engine.api.admission import WORDS, Metadata, draining, priority_of, refusal, usual_priority
from engine.api.gate import CallGate
from engine.api.lanes import Lanes
from engine.errors import Overloaded, ServerDraining
from engine.service.admission import Priority
from engine.service.watching import Watch

_log = structlog.get_logger("engine.api")

OURS: Final = "/arbiter."
"""Begins the name of every method of the contract; others, such as health checks, are answered to the end."""
_NO_FLAGS: Final = 0
_KNOWN: Final = (
    "rpc_event",
    "method_with_handler",
    "interceptor_pipeline",
    "thread_pool",
    "concurrency_exceeded",
)


class Door:
    """Lets calls of the contract in while there is room for their priority."""

    def __init__(self, lanes: Lanes, gate: CallGate, watch: Watch) -> None:
        self._limit = lanes.limit
        self._gate = gate
        self._watch = watch
        self._refusals: Mapping[Priority, grpc.Status] = {each: refusal(each) for each in Priority}

    def stand_before(self, server: grpc.Server) -> None:
        """Judges all calls of a server from now on; the server must have an interceptor."""
        pipeline = server._state.interceptor_pipeline  # type: ignore[attr-defined]
        _doors[pipeline] = self

    def judge(self, method: str, metadata: Metadata) -> grpc.Status | None:
        """What a call is told that is refused; None for one that is let in."""
        if not method.startswith(OURS):
            return None
        priority = priority_of(metadata, usual_priority(method))
        if self._limit.admits(priority):
            return None
        told = self._refusals[priority]
        self._watch.started(0.0)
        try:
            self._gate.enter()
            self._watch.shed(WORDS[priority], Overloaded.reason.lower())
        except ServerDraining as error:
            told = draining(error)
        self._watch.called(method.removeprefix("/"), told.code.name, 0.0)
        return told


_doors: Final[WeakKeyDictionary[object, Door]] = WeakKeyDictionary()
"""The door of a server, by the interceptors that grpc keeps for it."""


def _refuse(rpc_event: Any, told: grpc.Status) -> object:  # noqa: ANN401  # grpc's
    """Sends a status; returns what grpc keeps of the call until it was sent."""
    kept = object()
    rpc_event.call.start_server_batch(
        (
            cygrpc.SendInitialMetadataOperation(None, _NO_FLAGS),
            cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS),
            cygrpc.SendStatusFromServerOperation(
                told.trailing_metadata, told.code.value[0], told.details.encode(), _NO_FLAGS
            ),
        ),
        lambda _event: (kept, ()),
    )
    return kept


def _judged(handle: Callable[..., tuple[object, object]]) -> Callable[..., tuple[object, object]]:
    """What grpc does with a call that arrived, behind the door of its server."""

    def handle_call(
        rpc_event: Any,  # noqa: ANN401  # grpc's
        method_with_handler: Any,  # noqa: ANN401
        interceptor_pipeline: object,
        *rest: object,
    ) -> tuple[object, object]:
        door = None if interceptor_pipeline is None else _doors.get(interceptor_pipeline)
        method = method_with_handler.name()  # None where nobody serves it
        if door is not None and method and rpc_event.success:
            try:
                told = door.judge(method, rpc_event.invocation_metadata)
                if told is not None:
                    return _refuse(rpc_event, told), None
            except Exception:  # grpc's thread ends with what is raised here, and so would the server
                _log.exception("call.unjudged", method=method)
        return handle(rpc_event, method_with_handler, interceptor_pipeline, *rest)

    return handle_call


if tuple(inspect.signature(calls_of_grpc._handle_call).parameters) != _KNOWN:
    raise ImportError(
        f"grpcio {grpc.__version__} takes calls in another way than Arbiter knows; install the version of "
        "requirements.lock"
    )
calls_of_grpc._handle_call = _judged(calls_of_grpc._handle_call)  # type: ignore[assignment]  # same shape
