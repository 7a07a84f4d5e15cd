"""The contract as JSON over HTTP: the same messages, the same use cases, by the same servicers as gRPC."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any, Final

from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from engine.api.event_servicer import EventServicer
from engine.api.interceptors import note
from engine.api.servicers import ConsentServicer, DecisionServicer, OutcomeServicer
from engine.api.status import DOMAIN, grpc_code, status_of
from engine.bootstrap import Application
from engine.errors import DeadlineExpired, RequestInvalid, Violation
from engine.security.callers import answer_as
from engine.service.watching import Watch
from engine.web.authorising import Authorise, Authorised
from engine.web.json_form import MEDIA_TYPE, read_json, write_json
from engine.web.methods import CONSENTS, DECISIONS, EVENTS, METHODS, OUTCOMES, Method
from engine.web.openapi import document
from engine.web.statuses import refusal

DEADLINE: Final = "grpc-timeout"
DEFAULT_DEADLINE_S: Final = 5.0
"""How long a request may wait for a thread where it names no deadline; who asked has given up long before."""
_TIMEOUT: Final = re.compile(r"(\d{1,8})([HMSmun])")
_SECONDS: Final = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}

Servicer = Callable[[Any, Any], Message]


def routes(application: Application, authorise: Authorise | None = None) -> list[Route]:
    """The gateway to an application; `authorise` is asked before each call, where there is one."""
    made = [_route(method, application, authorise) for method in METHODS]
    description = json.dumps(document()).encode()

    async def describe(_request: Request) -> Response:
        return Response(description, media_type=MEDIA_TYPE)

    return [*made, Route("/openapi.json", describe), Route("/v1/{rest:path}", _Nowhere())]


def _route(method: Method, application: Application, authorise: Authorise | None) -> Route:
    asked = (
        []
        if authorise is None
        else [Middleware(Authorised, authorise=authorise, method=f"/{method.full_name}")]
    )
    endpoint = _Call(
        method,
        _servicer(method, application),
        application.watch,
        max_bytes=application.settings.max_request_bytes,
    )
    return Route(method.path, endpoint, middleware=asked)


def _servicer(method: Method, application: Application) -> Servicer:
    services: Mapping[str, object] = {
        DECISIONS: DecisionServicer(application.decisions, application.explanations),
        OUTCOMES: OutcomeServicer(application.outcomes),
        CONSENTS: ConsentServicer(application.consents),
        EVENTS: EventServicer(application.intake),
    }
    handle: Servicer = getattr(services[method.service], method.name)
    return handle


class _Call:
    """The endpoint of one method: read, call, write."""

    def __init__(self, method: Method, handle: Servicer, watch: Watch, *, max_bytes: int) -> None:
        self._method = method
        self._handle = handle
        self._watch = watch
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        began_s = perf_counter()
        request = Request(scope, receive)
        try:
            response = _refused(request) or await self._answered(request, began_s)
        except ClientDisconnect:  # nobody is there to be told
            return
        await response(scope, receive, send)

    async def _answered(self, request: Request, began_s: float) -> Response:
        body = await _body(request, self._max_bytes)
        if body is None:
            words = f"the body has more than {self._max_bytes} bytes"
            return _trouble(413, code_pb2.INVALID_ARGUMENT, "REQUEST_TOO_LARGE", words)
        caller = request.scope.get("state", {}).get("caller")
        timeout = request.headers.get(DEADLINE)
        return await run_in_threadpool(answer_as, caller, self._call, body, timeout, began_s)

    def _call(self, body: bytes, timeout: str | None, began_s: float) -> Response:
        """In a thread of its own, as what it calls waits for disks and stores."""
        code = grpc_code(status_pb2.Status()).name
        try:
            if perf_counter() - began_s >= _deadline_s(timeout):
                raise DeadlineExpired("the deadline had passed before the call was begun")
            reply = self._handle(read_json(body, self._method.request), None)
            return Response(write_json(reply), media_type=MEDIA_TYPE)
        except Exception as error:
            note(self._method.full_name, error)
            status = status_of(error)
            code = grpc_code(status).name
            return refusal(status)
        finally:
            self._watch.called(self._method.full_name, code, perf_counter() - began_s)


class _Nowhere:
    """Answers what is no method of the contract, in the form of the others."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Says what there is."""
        words = "there is no such method; /openapi.json describes those there are"
        await _trouble(404, code_pb2.NOT_FOUND, "METHOD_UNKNOWN", words)(scope, receive, send)


def _refused(request: Request) -> Response | None:
    """A reply to what is not even a call: another method of HTTP, or a body of another type.

    The type is checked for safety too: without it a stranger's form could be sent here without being asked.
    """
    if request.method != "POST":
        reply = _trouble(405, code_pb2.UNIMPLEMENTED, "METHOD_NOT_ALLOWED", "send a POST")
        reply.headers["Allow"] = "POST"
        return reply
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != MEDIA_TYPE:
        words = f"send the body as Content-Type: {MEDIA_TYPE}"
        return _trouble(415, code_pb2.INVALID_ARGUMENT, "MEDIA_TYPE_UNSUPPORTED", words)
    return None


async def _body(request: Request, max_bytes: int) -> bytes | None:
    """The body; None where it is too large, of which no more is read."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > max_bytes:
            return None
        parts.append(part)
    return b"".join(parts)


def _deadline_s(timeout: str | None) -> float:
    """How long the caller waits, in the form of gRPC's own header. Raises RequestInvalid."""
    if timeout is None:
        return DEFAULT_DEADLINE_S
    said = _TIMEOUT.fullmatch(timeout)
    if said is None:
        raise RequestInvalid([Violation(DEADLINE, "is digits and one of H M S m u n, such as 50m for 50 ms")])
    return int(said[1]) * _SECONDS[said[2]]


def _trouble(http: int, code: int, reason: str, words: str) -> Response:
    status = status_pb2.Status(code=code, message=words)
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN))
    return refusal(status, http)
