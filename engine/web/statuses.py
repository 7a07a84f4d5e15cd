"""Errors over HTTP: google.rpc.Status as JSON, under the HTTP status that gRPC gateways give it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from google.rpc import code_pb2, error_details_pb2, status_pb2
from starlette.responses import Response

from engine.web.json_form import MEDIA_TYPE, write_json

HTTP: Final[Mapping[int, int]] = {
    code_pb2.OK: 200,
    code_pb2.CANCELLED: 499,
    code_pb2.UNKNOWN: 500,
    code_pb2.INVALID_ARGUMENT: 400,
    code_pb2.DEADLINE_EXCEEDED: 504,
    code_pb2.NOT_FOUND: 404,
    code_pb2.ALREADY_EXISTS: 409,
    code_pb2.PERMISSION_DENIED: 403,
    code_pb2.RESOURCE_EXHAUSTED: 429,
    code_pb2.FAILED_PRECONDITION: 400,
    code_pb2.ABORTED: 409,
    code_pb2.OUT_OF_RANGE: 400,
    code_pb2.UNIMPLEMENTED: 501,
    code_pb2.INTERNAL: 500,
    code_pb2.UNAVAILABLE: 503,
    code_pb2.DATA_LOSS: 500,
    code_pb2.UNAUTHENTICATED: 401,
}


def refusal(status: status_pb2.Status, http: int | None = None) -> Response:
    """The reply for a status; `http` where the trouble is one of HTTP itself, such as its method."""
    headers = {"WWW-Authenticate": "Bearer"} if status.code == code_pb2.UNAUTHENTICATED else {}
    retry = error_details_pb2.RetryInfo()
    if any(detail.Unpack(retry) for detail in status.details):
        delay_s = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
        headers["Retry-After"] = str(math.ceil(delay_s))
    return Response(
        write_json(status), status_code=http or HTTP[status.code], media_type=MEDIA_TYPE, headers=headers
    )
