"""What happens around every call: errors become statuses, and the log gets the cause."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import grpc
import structlog
from grpc_status import rpc_status

from engine.api.status import status_of
from engine.errors import ArbiterError

_log = structlog.get_logger("engine.api")

Handler = Callable[[Any, grpc.ServicerContext], Any]
Method: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class ErrorsToStatus(grpc.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """Turns what a servicer raises into a google.rpc.Status; nothing internal leaves."""

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Method | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Method | None:
        """Wraps unary handlers; others (reflection, health watch) pass as they are."""
        handler = continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        return grpc.unary_unary_rpc_method_handler(
            _guarded(handler.unary_unary, handler_call_details.method),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


def _guarded(handle: Handler, method: str) -> Handler:
    def guarded(request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ANN401  # any message
        try:
            return handle(request, context)
        except ArbiterError as error:
            _log_refusal(method, error)
            _abort(context, error)
        except Exception as error:
            _log.exception("call.failed", method=method, error=type(error).__name__)
            _abort(context, error)

    return guarded


def _log_refusal(method: str, error: ArbiterError) -> None:
    cause = error.__cause__
    if cause is not None:
        _log.error("call.unavailable", method=method, reason=error.reason, cause=str(cause))
    else:
        _log.debug("call.refused", method=method, reason=error.reason)


def _abort(context: grpc.ServicerContext, error: Exception) -> None:
    """Ends the call with the error's status; grpc's own signal for that is an exception."""
    context.abort_with_status(rpc_status.to_status(status_of(error)))
