"""Callers prove who they are before their call is answered; with authorisation off, none of this is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import grpc
from grpc_status import rpc_status

from engine.api.status import status_of
from engine.errors import ArbiterError
from engine.security.authorising import OPEN, Authoriser
from engine.security.callers import answer_as

Method: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Handle = Callable[[Any, grpc.ServicerContext], Any]


def authorised(handler: Method | None, method: str, authoriser: Authoriser | None) -> Method | None:
    """A handler that answers those who may call it; the very handler where nobody is asked."""
    if handler is None or authoriser is None or method in OPEN:
        return handler
    if handler.unary_unary is not None:
        return _unary(handler, handler.unary_unary, method, authoriser)
    if handler.stream_stream is not None:
        return _stream(handler, handler.stream_stream, method, authoriser)
    return None


def _unary(handler: Method, handle: Handle, method: str, authoriser: Authoriser) -> Method:
    """What `Authoriser.check` raises becomes a status outside, as every error does."""

    def answered(request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ANN401  # any message
        caller = authoriser.check(method, context.invocation_metadata(), lambda: certificate_of(context))
        return answer_as(caller, handle, request, context)

    return grpc.unary_unary_rpc_method_handler(
        answered,
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )


def _stream(handler: Method, handle: Handle, method: str, authoriser: Authoriser) -> Method:
    """For reflection, whose errors nobody outside makes a status of."""

    def answered(requests: Any, context: grpc.ServicerContext) -> Any:  # noqa: ANN401  # any messages
        try:
            authoriser.check(method, context.invocation_metadata(), lambda: certificate_of(context))
        except ArbiterError as error:
            context.abort_with_status(rpc_status.to_status(status_of(error)))
        return handle(requests, context)

    return grpc.stream_stream_rpc_method_handler(
        answered,
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )


def certificate_of(context: grpc.ServicerContext) -> bytes | None:
    """The client's certificate in PEM, which the handshake has verified; None where it showed none."""
    shown = context.auth_context().get("x509_pem_cert")
    return bytes(next(iter(shown))) if shown else None
