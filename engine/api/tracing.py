"""Traces calls for OpenTelemetry; only there where it is configured, and then outermost."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc

from engine.api.callids import traceparent
from engine.api.interceptors import Handler, Method

if TYPE_CHECKING:
    from engine.monitor.tracing import Tracing


class TracesCalls(grpc.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """Begins a span for each unary call that is to be traced, and ends it with the call's status."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Method | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Method | None:
        """Wraps unary handlers; others pass as they are."""
        handler = continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        name = handler_call_details.method.removeprefix("/")
        return grpc.unary_unary_rpc_method_handler(
            _traced(handler.unary_unary, name, self._tracing),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


def _traced(handle: Handler, name: str, tracing: Tracing) -> Handler:
    def traced(request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ANN401  # any message
        call = tracing.begin(name, traceparent=traceparent(context), tracestate=_tracestate(context))
        if call is None:
            return handle(request, context)
        code = grpc.StatusCode.UNKNOWN
        try:
            response = handle(request, context)
            code = grpc.StatusCode.OK
            return response
        except Exception:
            code = context.code() or code  # type: ignore[attr-defined]  # not in the stubs
            raise
        finally:
            call.end(code.name, code.value[0])

    with contextlib.suppress(AttributeError):  # the threads that calls of this priority go to
        traced.experimental_thread_pool = handle.experimental_thread_pool  # type: ignore[attr-defined]  # grpc's
    return traced


def _tracestate(context: grpc.ServicerContext) -> str:
    """What other systems added to the trace."""
    metadata = context.invocation_metadata()
    return next((str(value) for name, value in metadata if name == "tracestate"), "")
