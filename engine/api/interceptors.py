"""What happens around every call that is let in: errors become statuses, the log gets the cause.

All of it is one interceptor, as each costs every call. grpc asks it for a handler in the one thread that
takes calls from the network; the handler runs in another. What depends on the method alone is made once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import monotonic, perf_counter
from typing import Any, Final, TypeAlias

import grpc
import structlog
from google.protobuf.message import DecodeError
from google.rpc import code_pb2
from grpc_status import rpc_status

from engine.api.admission import draining, priority_of, usual_priority
from engine.api.authorisation import authorised
from engine.api.callids import ids_of
from engine.api.door import OURS
from engine.api.gate import CallGate
from engine.api.lanes import Lanes
from engine.api.status import CODES, grpc_code, reason_of, status_of
from engine.calls import begin_call
from engine.errors import (
    ArbiterError,
    DeadlineExpired,
    RequestInvalid,
    ServerDraining,
    Violation,
)
from engine.security.authorising import Authoriser
from engine.service.admission import Priority
from engine.service.watching import Watch

_log = structlog.get_logger("engine.api")

_OK = grpc.StatusCode.OK.name
DEFAULT_DEADLINE_S: Final = 5.0
_NONE_GIVEN_S: Final = 1e8
"""Years: what grpc says is left of a call without a deadline."""

MALFORMED: Final = object()
"""Stands for a request that is no message of its method."""

_TO_MEND = frozenset({code_pb2.INTERNAL, code_pb2.UNAVAILABLE, code_pb2.DATA_LOSS})
"""Codes of what an operator mends. Other errors are the caller's, whose causes quote what was sent."""

Handler = Callable[[Any, grpc.ServicerContext], Any]
Method: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


@dataclass(frozen=True, slots=True)
class _Known:
    """What is made once for a method of the contract: a handler for each priority."""

    usual: Priority
    handlers: tuple[Method, ...]


class ErrorsToStatus(grpc.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """Turns what a servicer raises into a google.rpc.Status; nothing internal leaves.

    With `lanes`, these answer the calls of the contract, the more urgent first.
    """

    def __init__(
        self,
        gate: CallGate,
        watch: Watch,
        *,
        authoriser: Authoriser | None = None,
        lanes: Lanes | None = None,
        default_deadline_s: float = DEFAULT_DEADLINE_S,
    ) -> None:
        self._gate = gate
        self._watch = watch
        self._authoriser = authoriser
        self._lanes = lanes
        self._default_deadline_s = default_deadline_s
        self._known: dict[str, _Known] = {}

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Method | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Method | None:
        """Wraps unary handlers; others (reflection, health watch) pass as they are."""
        method = handler_call_details.method
        known = self._known.get(method)
        if known is None:
            handler = authorised(continuation(handler_call_details), method, self._authoriser)
            if handler is None or handler.unary_unary is None:
                return handler
            if self._lanes is None or not method.startswith(OURS):
                return self._wrapped(handler, method)
            known = self._known[method] = self._make(handler, method, self._lanes)
        priority = priority_of(handler_call_details.invocation_metadata, known.usual)
        return known.handlers[priority]

    def _make(self, handler: Method, method: str, lanes: Lanes) -> _Known:
        handlers = []
        for priority in Priority:
            wrapped = self._wrapped(handler, method)
            wrapped.unary_unary.experimental_thread_pool = lanes.of(priority)  # type: ignore[union-attr]  # grpc's
            handlers.append(wrapped)
        return _Known(usual_priority(method), tuple(handlers))

    def _wrapped(self, handler: Method, method: str) -> Method:
        return grpc.unary_unary_rpc_method_handler(
            self._guarded(handler.unary_unary, method),  # type: ignore[arg-type]  # asked for by the caller
            request_deserializer=_tolerant(handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )

    def _guarded(self, handle: Handler, method: str) -> Handler:
        name, watch = method.removeprefix("/"), self._watch
        gate = self._gate if method.startswith(OURS) else None

        def guarded(request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ANN401  # any message
            began, code = perf_counter(), _OK
            watch.started(self._waited_s())
            begin_call(partial(ids_of, request, context))
            try:
                if gate is not None:
                    gate.enter()
                if self._left_s(context) <= 0:
                    raise DeadlineExpired("the deadline had passed before the call was begun")
                if request is MALFORMED:
                    raise RequestInvalid([Violation("", "is no message of this method")])
                return handle(request, context)
            except Exception as error:
                note(method, error)
                status = status_of(error)
                code = grpc_code(status).name
                watch.refused(name, reason_of(error))
                context.abort_with_status(
                    draining(error) if isinstance(error, ServerDraining) else rpc_status.to_status(status)
                )
            finally:
                watch.called(name, code, perf_counter() - began)

        return guarded

    def _left_s(self, context: grpc.ServicerContext) -> float:
        """Seconds until nobody waits for the answer; the server's own limit where the client has none."""
        left_s = context.time_remaining()
        if left_s is not None and left_s < _NONE_GIVEN_S:
            return left_s
        return self._default_deadline_s - self._waited_s()

    def _waited_s(self) -> float:
        """How long the call that this thread answers has been here."""
        came_s = None if self._lanes is None else self._lanes.came_s
        return 0.0 if came_s is None else monotonic() - came_s


def _tolerant(read: Callable[[bytes], object] | None) -> Callable[[bytes], object]:
    """Gives MALFORMED where gRPC would say INTERNAL, as if the fault were ours."""
    assert read is not None  # as generated code gives one for each method

    def reading(content: bytes) -> object:
        try:
            return read(content)
        except DecodeError:
            return MALFORMED

    return reading


def note(method: str, error: Exception) -> None:
    """Tells the log why a call, or an item of a batch, has no answer; call it where `error` is handled."""
    with contextlib.suppress(OSError):  # a log that cannot be written must not change the answer
        if not isinstance(error, ArbiterError):
            _log.exception("call.failed", method=method, error=type(error).__name__)
        elif error.__cause__ is not None and CODES[type(error)] in _TO_MEND:
            _log.error("call.unavailable", method=method, reason=error.reason, cause=str(error.__cause__))
        else:
            _log.debug("call.refused", method=method, reason=error.reason)
