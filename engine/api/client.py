"""Calls Arbiter over gRPC."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import grpc
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from engine._pb.arbiter.v1 import (
    consent_service_pb2,
    consent_service_pb2_grpc,
    decision_service_pb2,
    decision_service_pb2_grpc,
    event_service_pb2,
    event_service_pb2_grpc,
    outcome_service_pb2,
    outcome_service_pb2_grpc,
)

Request = TypeVar("Request", contravariant=True)
Response = TypeVar("Response", covariant=True)
_UNAVAILABLE = (code_pb2.UNAVAILABLE, code_pb2.DEADLINE_EXCEEDED)


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
    def unavailable(self) -> bool:
        """Whether the server was not reached or cannot answer now."""
        return self.status.code in _UNAVAILABLE

    @property
    def violations(self) -> list[tuple[str, str]]:
        """Field and description of each violation."""
        bad = error_details_pb2.BadRequest()
        for detail in self.status.details:
            if detail.Unpack(bad):
                return [(v.field, v.description) for v in bad.field_violations]
        return []


class Arbiter(Protocol):
    """The six calls. Each raises CallFailed."""

    def decide(self, request: decision_service_pb2.DecideRequest) -> decision_service_pb2.DecideResponse:
        """DecisionService.Decide."""
        ...

    def explain(self, request: decision_service_pb2.ExplainRequest) -> decision_service_pb2.ExplainResponse:
        """DecisionService.Explain."""
        ...

    def record_outcome(
        self, request: outcome_service_pb2.RecordOutcomeRequest
    ) -> outcome_service_pb2.RecordOutcomeResponse:
        """OutcomeService.RecordOutcome."""
        ...

    def record_consent(
        self, request: consent_service_pb2.RecordConsentRequest
    ) -> consent_service_pb2.RecordConsentResponse:
        """ConsentService.RecordConsent."""
        ...

    def get_consents(
        self, request: consent_service_pb2.GetConsentsRequest
    ) -> consent_service_pb2.GetConsentsResponse:
        """ConsentService.GetConsents."""
        ...

    def ingest(self, request: event_service_pb2.IngestRequest) -> event_service_pb2.IngestResponse:
        """EventService.Ingest."""
        ...


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach a protected server, in PEM but for the token; without authorities, in the clear."""

    authorities: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)


class RemoteArbiter:
    """Arbiter behind a gRPC address; made by `connect`."""

    def __init__(self, channel: grpc.Channel, timeout_s: float, token: str | None = None) -> None:
        self._timeout_s = timeout_s
        self._metadata = () if token is None else (("authorization", f"Bearer {token}"),)
        decisions = decision_service_pb2_grpc.DecisionServiceStub(channel)
        outcomes = outcome_service_pb2_grpc.OutcomeServiceStub(channel)
        consents = consent_service_pb2_grpc.ConsentServiceStub(channel)
        self.decide = self._calls(decisions.Decide)
        self.explain = self._calls(decisions.Explain)
        self.record_outcome = self._calls(outcomes.RecordOutcome)
        self.record_consent = self._calls(consents.RecordConsent)
        self.get_consents = self._calls(consents.GetConsents)
        self.ingest = self._calls(event_service_pb2_grpc.EventServiceStub(channel).Ingest)
        self._check_health = health_pb2_grpc.HealthStub(channel).Check

    def wait_until_serving(self, timeout_s: float) -> None:
        """Returns when the server is ready. Raises CallFailed where it is not in time."""
        request = health_pb2.HealthCheckRequest()
        try:
            self._check_health(request, timeout=timeout_s, wait_for_ready=True)
        except grpc.RpcError as error:
            raise CallFailed(_status(error)) from error

    def _calls(
        self, method: grpc.UnaryUnaryMultiCallable[Request, Response]
    ) -> Callable[[Request], Response]:
        def call(request: Request) -> Response:
            try:
                return method(request, timeout=self._timeout_s, metadata=self._metadata)
            except grpc.RpcError as error:
                raise CallFailed(_status(error)) from error

        return call


@contextmanager
def connect(target: str, *, timeout_s: float = 5.0, access: Access | None = None) -> Iterator[RemoteArbiter]:
    """Arbiter at an address such as "localhost:50051"; each call waits `timeout_s` at most."""
    given = access or Access()
    with _channel(target, given) as channel:
        yield RemoteArbiter(channel, timeout_s, given.token)


def _channel(target: str, access: Access) -> grpc.Channel:
    if access.authorities is None:
        return grpc.insecure_channel(target)
    credentials = grpc.ssl_channel_credentials(access.authorities, access.key, access.certificate)
    return grpc.secure_channel(target, credentials)


def _status(error: grpc.RpcError) -> status_pb2.Status:
    """The rich status of a failed call; built from code and text where the server sent none."""
    rich = rpc_status.from_call(error)  # type: ignore[arg-type]  # a failed call is a Call as well
    if rich is not None:
        return rich
    code: int = error.code().value[0]
    return status_pb2.Status(code=code, message=error.details() or "", details=list[any_pb2.Any]())
