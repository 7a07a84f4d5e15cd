"""A server that answers at once but for one stall: the load test must show it, or its figures mean nothing.

A tool that waits for a reply before it sends the next call sees one slow call where hundreds of customers
would have waited (coordinated omission).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import grpc

from engine._pb.arbiter.v1 import decision_service_pb2
from loadtest.sending import METHOD

_Request = decision_service_pb2.DecideRequest
_Response = decision_service_pb2.DecideResponse
_THREADS: Final = 4

if TYPE_CHECKING:
    _Handler = grpc.GenericRpcHandler[_Request, _Response]
else:
    _Handler = grpc.GenericRpcHandler


@dataclass(frozen=True, slots=True)
class Stall:
    """When the server stands still, in seconds after its first call, and for how long."""

    at_s: float
    for_s: float


@contextmanager
def stalling_server(stall: Stall) -> Iterator[str]:
    """Serves at the address it yields."""
    server = grpc.server(ThreadPoolExecutor(_THREADS))
    server.add_generic_rpc_handlers([_Decides(stall)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


class _Decides(_Handler):
    """Answers Decide with nothing, before the stall and after it."""

    def __init__(self, stall: Stall) -> None:
        self._stall = stall
        self._first_s: float | None = None
        self._starting = threading.Lock()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[_Request, _Response] | None:
        if details.method != METHOD:
            return None
        return grpc.unary_unary_rpc_method_handler(
            self._decide,
            request_deserializer=_Request.FromString,
            response_serializer=_Response.SerializeToString,
        )

    def _decide(self, _request: _Request, _context: grpc.ServicerContext) -> _Response:
        with self._starting:
            if self._first_s is None:
                self._first_s = time.monotonic()
        since_s = time.monotonic() - self._first_s
        if self._stall.at_s <= since_s < self._stall.at_s + self._stall.for_s:
            time.sleep(self._stall.at_s + self._stall.for_s - since_s)
        return _Response()
