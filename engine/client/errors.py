"""Why a call has no answer.

CallFailed
+-- RequestRefused      it will never be right as it is: wrong fields, a reused id, an action not returned
+-- NotFound            no such customer, decision or action
+-- AccessDenied        the caller is unknown, or may not do this
+-- NotAnswered         not now: do without, or ask again later
|   +-- Unavailable     nobody there, or it cannot decide now
|   +-- DeadlinePassed  there was no answer in time; the call may have been carried out
|   +-- Overloaded      the server sheds load; `retry_after_s` may say when to come back
+-- ServerFailed        an error of the server's own; its log says which
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Protocol

import grpc
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2

_DETAILS: Final = "grpc-status-details-bin"
"""Trailing metadata in which gRPC carries a google.rpc.Status."""


class CallFailed(Exception):
    """A call that Arbiter refused or could not answer; `status` says why, as google.rpc.Status."""

    def __init__(self, status: status_pb2.Status) -> None:
        super().__init__(status.message)
        self.status = status

    @property
    def code(self) -> str:
        """Name of the status code, e.g. "NOT_FOUND"."""
        name: str = code_pb2.Code.Name(self.status.code)
        return name

    @property
    def message(self) -> str:
        """A sentence that may be shown: no personal data in it."""
        text: str = self.status.message
        return text

    @property
    def reason(self) -> str:
        """The stable code to act on, e.g. "CUSTOMER_UNKNOWN"; empty where the server was not reached."""
        info = error_details_pb2.ErrorInfo()
        found: str = info.reason if any(detail.Unpack(info) for detail in self.status.details) else ""
        return found

    @property
    def unavailable(self) -> bool:
        """Whether the server was not reached or cannot answer now."""
        return isinstance(self, NotAnswered)

    @property
    def violations(self) -> list[tuple[str, str]]:
        """Field and description of each violation."""
        bad = error_details_pb2.BadRequest()
        for detail in self.status.details:
            if detail.Unpack(bad):
                return [(v.field, v.description) for v in bad.field_violations]
        return []

    @property
    def retry_after_s(self) -> float | None:
        """When to come back, where the server says so."""
        retry = error_details_pb2.RetryInfo()
        if not any(detail.Unpack(retry) for detail in self.status.details):
            return None
        return float(retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9)


class RequestRefused(CallFailed):
    """It will never be right as it is."""


class NotFound(CallFailed):
    """No such customer, decision or action."""


class AccessDenied(CallFailed):
    """The caller is unknown, or may not do this."""


class NotAnswered(CallFailed):
    """Not now: do without, or ask again later."""


class Unavailable(NotAnswered):
    """Nobody is there, or it cannot decide now."""


class DeadlinePassed(NotAnswered):
    """There was no answer in time; the call may have been carried out."""


class Overloaded(NotAnswered):
    """The server sheds load."""


class ServerFailed(CallFailed):
    """An error of the server's own."""


_KINDS: Final[Mapping[int, type[CallFailed]]] = {
    code_pb2.INVALID_ARGUMENT: RequestRefused,
    code_pb2.OUT_OF_RANGE: RequestRefused,
    code_pb2.ALREADY_EXISTS: RequestRefused,
    code_pb2.FAILED_PRECONDITION: RequestRefused,
    code_pb2.NOT_FOUND: NotFound,
    code_pb2.UNAUTHENTICATED: AccessDenied,
    code_pb2.PERMISSION_DENIED: AccessDenied,
    code_pb2.UNAVAILABLE: Unavailable,
    code_pb2.ABORTED: Unavailable,
    code_pb2.CANCELLED: Unavailable,
    code_pb2.DEADLINE_EXCEEDED: DeadlinePassed,
    code_pb2.RESOURCE_EXHAUSTED: Overloaded,
}


class _FailedCall(Protocol):
    """What gRPC raises, of threads and of asyncio alike."""

    def code(self) -> grpc.StatusCode:
        """The status code."""
        ...

    def details(self) -> str | None:
        """Its text."""
        ...

    def trailing_metadata(self) -> Iterable[tuple[str, str | bytes]] | None:
        """What came with it."""
        ...


def failure(status: status_pb2.Status) -> CallFailed:
    """The error for a status."""
    return _KINDS.get(status.code, ServerFailed)(status)


def failure_of(call: _FailedCall) -> CallFailed:
    """The error for a failed call; from code and text where the server sent no status."""
    code: int = call.code().value[0]
    for name, value in call.trailing_metadata() or ():
        if name == _DETAILS and isinstance(value, bytes):
            try:
                status = status_pb2.Status.FromString(value)
            except DecodeError:  # of a proxy, perhaps; the code says enough
                continue
            if status.code == code:
                return failure(status)
    return failure(status_pb2.Status(code=code, message=call.details() or ""))
