"""From errors to statuses: a whole table, and nothing internal on the wire."""

from __future__ import annotations

import errno
import inspect
import io
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
import structlog
from arbiter_at_work import LOYAL, connect, failure_of, reason_of, scene
from google.rpc import code_pb2, error_details_pb2

from engine import errors
from engine._pb.arbiter.v1 import (
    decision_service_pb2,
    decision_service_pb2_grpc,
)
from engine.api.gate import CallGate
from engine.api.interceptors import ErrorsToStatus, note
from engine.api.status import CODES, DOMAIN, grpc_code, status_of
from engine.service.watching import UNWATCHED

ALL_ERRORS = [
    kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.ArbiterError)
]


def test_every_error_has_a_status() -> None:
    """A new error without an entry in the table fails here."""
    assert set(CODES) == set(ALL_ERRORS)


def test_every_error_has_a_reason_of_its_own() -> None:
    """Clients act on the reason, so no two errors share one."""
    reasons = [kind.reason for kind in ALL_ERRORS]

    assert len(set(reasons)) == len(reasons)


@pytest.mark.parametrize("kind", ALL_ERRORS, ids=lambda kind: kind.__name__)
def test_status_carries_code_text_and_reason(kind: type[errors.ArbiterError]) -> None:
    """The table's code, the error's own sentence, ErrorInfo first."""
    arguments: dict[type, tuple[object, ...]] = {
        errors.RequestInvalid: ([errors.Violation("limit", "is 0")],),
        errors.IdentityAmbiguous: ("phone", 2),
    }
    error = kind(*arguments.get(kind, ("a sentence",)))

    status = status_of(error)

    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (status.code, status.message) == (CODES[kind], str(error))
    assert (info.reason, info.domain) == (kind.reason, DOMAIN)
    assert grpc_code(status).value[0] == status.code


def test_unexpected_exception_says_nothing_about_the_inside() -> None:
    """INTERNAL with a fixed sentence, whatever was raised."""
    status = status_of(KeyError("/srv/secret.py: customer C0001"))

    assert status.code == code_pb2.INTERNAL
    assert "secret" not in str(status)
    assert "C0001" not in str(status)


class _Broken(decision_service_pb2_grpc.DecisionServiceServicer):
    """A servicer with a bug."""

    def Decide(  # noqa: N802  # named by the contract
        self, request: decision_service_pb2.DecideRequest, context: grpc.ServicerContext
    ) -> decision_service_pb2.DecideResponse:
        raise ZeroDivisionError(f"internal detail about {request.customer_id}")


def test_bug_in_a_servicer_reaches_the_client_as_internal(capfd: pytest.CaptureFixture[str]) -> None:
    """The client learns that it was us, the log learns what it was."""
    server = grpc.server(ThreadPoolExecutor(1), interceptors=[ErrorsToStatus(CallGate(), UNWATCHED)])
    decision_service_pb2_grpc.add_DecisionServiceServicer_to_server(_Broken(), server)
    port = server.add_insecure_port("localhost:0")
    server.start()
    try:
        with connect(f"localhost:{port}") as remote:
            failure = failure_of(lambda: remote.decide(scene(LOYAL)))
    finally:
        server.stop(None).wait()

    assert failure.code == "INTERNAL"
    assert reason_of(failure) == ("INTERNAL", "arbiter")
    assert "internal detail" not in str(failure.status)


class _FullDisk(io.StringIO):
    """A log file on a disk without space."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_log_that_cannot_be_written_changes_no_answer() -> None:
    """With the log's disk full as well, noting a failure does not replace the client's status."""
    refusal = errors.DecisionNotLogged("a sentence")
    refusal.__cause__ = OSError("the cause")
    structlog.configure(logger_factory=structlog.WriteLoggerFactory(file=_FullDisk()))

    try:
        noted = [note("Decide", error) for error in (refusal, ValueError("a bug"))]
    finally:
        structlog.reset_defaults()

    assert noted == [None, None]


@pytest.mark.parametrize(
    ("kind", "level"),
    [(errors.DecisionUnknown, "debug"), (errors.TokenInvalid, "debug"), (errors.StateUnavailable, "error")],
)
def test_log_does_not_quote_what_callers_send(kind: type[errors.ArbiterError], level: str) -> None:
    """The cause of a caller's error holds what was sent: a number, say, or half a token. Ours is told."""
    refusal = kind("a sentence")
    refusal.__cause__ = ValueError("'+41790000001' is no decision id")

    with structlog.testing.capture_logs() as told:
        note("Explain", refusal)

    assert [entry["log_level"] for entry in told] == [level]
    assert ("+4179" in str(told)) is (level == "error")
