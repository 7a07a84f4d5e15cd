"""One table from errors to gRPC status, with google.rpc details; clients never see a cause."""

from __future__ import annotations

from collections.abc import Mapping

import grpc
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from engine import errors

DOMAIN = "arbiter"
"""`google.rpc.ErrorInfo.domain` of every error."""

INTERNAL = "INTERNAL"
"""Reason of what nobody foresaw."""

CODES: Mapping[type[errors.ArbiterError], int] = {
    errors.ArbiterError: code_pb2.INTERNAL,
    errors.RequestInvalid: code_pb2.INVALID_ARGUMENT,
    errors.CustomerUnknown: code_pb2.NOT_FOUND,
    errors.IdentityAmbiguous: code_pb2.FAILED_PRECONDITION,
    errors.DecisionUnknown: code_pb2.NOT_FOUND,
    errors.DecisionUnreadable: code_pb2.DATA_LOSS,
    errors.ActionNotReturned: code_pb2.FAILED_PRECONDITION,
    errors.RequestIdReused: code_pb2.ALREADY_EXISTS,
    errors.RequestInProgress: code_pb2.ABORTED,
    errors.DecisionNotLogged: code_pb2.UNAVAILABLE,
    errors.ConsentNotRecorded: code_pb2.UNAVAILABLE,
    errors.StateUnavailable: code_pb2.UNAVAILABLE,
    errors.ServerDraining: code_pb2.UNAVAILABLE,
    errors.DeadlineExpired: code_pb2.DEADLINE_EXCEEDED,
    errors.CallUnknown: code_pb2.NOT_FOUND,
    errors.CallTaken: code_pb2.ALREADY_EXISTS,
    errors.Unauthenticated: code_pb2.UNAUTHENTICATED,
    errors.CredentialsMissing: code_pb2.UNAUTHENTICATED,
    errors.TokenInvalid: code_pb2.UNAUTHENTICATED,
    errors.TokenExpired: code_pb2.UNAUTHENTICATED,
    errors.CertificateRefused: code_pb2.UNAUTHENTICATED,
    errors.PermissionDenied: code_pb2.PERMISSION_DENIED,
    errors.Overloaded: code_pb2.RESOURCE_EXHAUSTED,
    errors.SetupInvalid: code_pb2.INTERNAL,
}

MAX_VIOLATION_BYTES = 4 << 10
"""Violations told in one status. It travels as metadata, in base64, of which clients take 8 KiB."""
_MAX_DESCRIPTION = 500
_FRAMING = 4

_GRPC_CODES: Mapping[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def reason_of(error: Exception) -> str:
    """The stable reason that clients see in ErrorInfo, and that errors are counted by."""
    return error.reason if isinstance(error, errors.ArbiterError) else INTERNAL


def status_of(error: Exception) -> status_pb2.Status:
    """The status a client gets: code, safe sentence, ErrorInfo; BadRequest where fields are wrong, RetryInfo
    where it helps to wait.
    """
    if not isinstance(error, errors.ArbiterError):
        info = error_details_pb2.ErrorInfo(reason=INTERNAL, domain=DOMAIN)
        return _status(code_pb2.INTERNAL, "an internal error; its cause is in the server's log", [_any(info)])
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=_challenge(error))
    details = [_any(info)]
    if isinstance(error, errors.RequestInvalid):
        details.append(_any(_bad_request(error)))
    if isinstance(error, errors.Overloaded):
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(error.retry_after_ms)
        details.append(_any(retry))
    return _status(CODES[type(error)], str(error), details)


def grpc_code(status: status_pb2.Status) -> grpc.StatusCode:
    """The gRPC code of a status."""
    return _GRPC_CODES[status.code]


def _status(code: int, message: str, details: list[any_pb2.Any]) -> status_pb2.Status:
    return status_pb2.Status(code=code, message=message, details=details)


def _challenge(error: errors.ArbiterError) -> Mapping[str, str]:
    """What a client does about a refusal: the challenge of RFC 6750, and the role that is missing."""
    if isinstance(error, errors.CredentialsMissing):
        return {"www-authenticate": "Bearer"}
    if isinstance(error, errors.Unauthenticated):
        return {"www-authenticate": 'Bearer error="invalid_token"'}
    if isinstance(error, errors.PermissionDenied):
        needed = {"role": error.role} if error.role else {}
        return {"www-authenticate": 'Bearer error="insufficient_scope"', **needed}
    return {}


def _bad_request(error: errors.RequestInvalid) -> error_details_pb2.BadRequest:
    """Every violation that fits; the status's message says how many there are."""
    bad, size = error_details_pb2.BadRequest(), 0
    for violation in error.violations:
        told = bad.FieldViolation(
            field=violation.field, description=_shortened(violation.description, _MAX_DESCRIPTION)
        )
        size += told.ByteSize() + _FRAMING
        if size > MAX_VIOLATION_BYTES:
            break
        bad.field_violations.append(told)
    return bad


def _shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _any(
    message: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest | error_details_pb2.RetryInfo,
) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
