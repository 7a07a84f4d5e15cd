"""How urgent calls are, and what those are told that are refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import grpc
from grpc_status import rpc_status

from engine.api.gate import PUSHBACK_MS
from engine.api.status import status_of
from engine.errors import ArbiterError, Overloaded, ServerDraining
from engine.service.admission import Priority

PRIORITY_KEY: Final = "arbiter-priority"
"""Metadata by which a client says how urgent a call is."""
PUSHBACK_KEY: Final = "grpc-retry-pushback-ms"
"""Metadata by which grpc clients that retry by themselves are told when."""

PRIORITIES: Final[Mapping[str | bytes, Priority]] = {
    "call-centre": Priority.CALL_CENTRE,
    "web": Priority.WEB,
    "batch": Priority.BATCH,
}
WORDS: Final[Mapping[Priority, str]] = {priority: str(word) for word, priority in PRIORITIES.items()}
"""Their names in metrics."""
_OF_METHODS: Final[Mapping[str, Priority]] = {
    "/arbiter.v1.ConsentService/RecordConsent": Priority.CALL_CENTRE,
    "/arbiter.v1.DecisionService/DecideBatch": Priority.BATCH,
    "/arbiter.v1.EventService/Ingest": Priority.BATCH,
}
"""Of calls that do not say; others are WEB. What a customer wants or objects to is never put last."""

RETRY_AFTER_MS: Final[Mapping[Priority, int]] = {
    Priority.CALL_CENTRE: 100,
    Priority.WEB: 500,
    Priority.BATCH: 2_000,
}
"""When a refused call may come again: an agent talks to the customer now, a batch has all night."""

Metadata = Sequence[tuple[str, str | bytes]]


def usual_priority(method: str) -> Priority:
    """The priority of a method's calls that do not say theirs."""
    return _OF_METHODS.get(method, Priority.WEB)


def priority_of(metadata: Metadata, usual: Priority) -> Priority:
    """What a call says of its priority, where it says something that we know."""
    for key, value in metadata:
        if key == PRIORITY_KEY:
            return PRIORITIES.get(value, usual)
    return usual


def refusal(priority: Priority) -> grpc.Status:
    """What a call of a priority is told when there are too many."""
    after_ms = RETRY_AFTER_MS[priority]
    error = Overloaded(
        "more calls come than can be answered in time; try again later", retry_after_ms=after_ms
    )
    return _told(error, after_ms)


def draining(error: ServerDraining) -> grpc.Status:
    """What a call is told that comes while the server stops: when its connection will be another one."""
    return _told(error, PUSHBACK_MS)


def _told(error: ArbiterError, after_ms: int) -> grpc.Status:
    status = rpc_status.to_status(status_of(error))
    return _Told(status.code, status.details, (*status.trailing_metadata, (PUSHBACK_KEY, str(after_ms))))


class _Told(grpc.Status):
    """A status with the time after which a client may come again."""

    def __init__(self, code: grpc.StatusCode, details: str, trailing_metadata: Any) -> None:  # noqa: ANN401  # grpc's
        self.code = code
        self.details = details
        self.trailing_metadata = trailing_metadata
