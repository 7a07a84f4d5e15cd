"""Calls Arbiter in this process, on the same data directory; it fails as a server would."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import grpc

from engine.api.event_servicer import EventServicer
from engine.api.servicers import ConsentServicer, DecisionServicer, OutcomeServicer
from engine.api.status import status_of
from engine.client.errors import failure
from engine.errors import ArbiterError

Request = TypeVar("Request", contravariant=True)
Response = TypeVar("Response", covariant=True)


class LocalArbiter:
    """Arbiter in this process; what the servicers raise becomes the status a client would get."""

    def __init__(
        self,
        decision: DecisionServicer,
        outcome: OutcomeServicer,
        consent: ConsentServicer,
        event: EventServicer,
    ) -> None:
        self.decide = _locally(decision.Decide)
        self.explain = _locally(decision.Explain)
        self.record_outcome = _locally(outcome.RecordOutcome)
        self.record_consent = _locally(consent.RecordConsent)
        self.get_consents = _locally(consent.GetConsents)
        self.ingest = _locally(event.Ingest)


def _locally(
    method: Callable[[Request, grpc.ServicerContext | None], Response],
) -> Callable[[Request], Response]:
    def call(request: Request) -> Response:
        try:
            return method(request, None)
        except ArbiterError as error:
            raise failure(status_of(error)) from error

    return call
