"""What happens around every call: errors become statuses, the log gets the cause, and it is counted."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any, Final, TypeAlias

import grpc
import structlog
from google.protobuf.message import DecodeError
from google.rpc import code_pb2
from grpc_status import rpc_status

from engine.api.authorisation import authorised
from engine.api.callids import ids_of
from engine.api.gate import CallGate
from engine.api.status import CODES, grpc_code, reason_of, status_of
from engine.calls import begin_call
from engine.errors import ArbiterError, DeadlineExpired, RequestInvalid, Violation
from engine.security.authorising import Authoriser
from engine.service.watching import Watch

_log = structlog.get_logger("engine.api")

_OURS = "/arbiter."
"""Begins the name of every method of the contract; health checks are answered to the end."""

_OK = grpc.StatusCode.OK.name

MALFORMED: Final = object()
"""Stands for a request that is no message of its method."""

_TO_MEND = frozenset({code_pb2.INTERNAL, code_pb2.UNAVAILABLE, code_pb2.DATA_LOSS})
"""Codes of what an operator mends. Other errors are the caller's, whose causes quote what was sent."""

Handler = Callable[[Any, grpc.ServicerContext], Any]
Method: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class ErrorsToStatus(grpc.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """Turns what a servicer raises into a google.rpc.Status; nothing internal leaves."""

    def __init__(self, gate: CallGate, watch: Watch, authoriser: Authoriser | None = None) -> None:
        self._gate = gate
        self._watch = watch
        self._authoriser = authoriser

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Method | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Method | None:
        """Wraps unary handlers; others (reflection, health watch) pass as they are."""
        method = handler_call_details.method
        handler = authorised(continuation(handler_call_details), method, self._authoriser)
        if handler is None or handler.unary_unary is None:
            return handler
        gate = self._gate if method.startswith(_OURS) else None
        return grpc.unary_unary_rpc_method_handler(
            _guarded(handler.unary_unary, method, gate, self._watch),
            request_deserializer=_tolerant(handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )


def _tolerant(read: Callable[[bytes], object] | None) -> Callable[[bytes], object]:
    """Gives MALFORMED where gRPC would say INTERNAL, as if the fault were ours."""
    assert read is not None  # as generated code gives one for each method

    def reading(content: bytes) -> object:
        try:
            return read(content)
        except DecodeError:
            return MALFORMED

    return reading


def _guarded(handle: Handler, method: str, gate: CallGate | None, watch: Watch) -> Handler:
    name, arrived = method.removeprefix("/"), perf_counter()

    def guarded(request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ANN401  # any message
        began, code = perf_counter(), _OK
        watch.started(began - arrived)
        begin_call(partial(ids_of, request, context))
        try:
            if gate is not None:
                gate.enter()
            remaining_s = context.time_remaining()
            if remaining_s is not None and remaining_s <= 0:
                raise DeadlineExpired("the deadline had passed before the call was begun")
            if request is MALFORMED:
                raise RequestInvalid([Violation("", "is no message of this method")])
            return handle(request, context)
        except Exception as error:
            note(method, error)
            status = status_of(error)
            code = grpc_code(status).name
            watch.refused(name, reason_of(error))
            context.abort_with_status(rpc_status.to_status(status))
        finally:
            watch.called(name, code, perf_counter() - began)

    return guarded


def note(method: str, error: Exception) -> None:
    """Tells the log why a call, or an item of a batch, has no answer; call it where `error` is handled."""
    with contextlib.suppress(OSError):  # a log that cannot be written must not change the answer
        if not isinstance(error, ArbiterError):
            _log.exception("call.failed", method=method, error=type(error).__name__)
        elif error.__cause__ is not None and CODES[type(error)] in _TO_MEND:
            _log.error("call.unavailable", method=method, reason=error.reason, cause=str(error.__cause__))
        else:
            _log.debug("call.refused", method=method, reason=error.reason)
