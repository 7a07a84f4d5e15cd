"""Which call a line of the log belongs to: ids of the request, the decision and the trace, and nothing else.

A call pays for a note of where its ids can be found; they are looked up when something is logged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, MutableMapping
from contextvars import ContextVar
from typing import Any, Final

Ids = Callable[[], Mapping[str, str]]
"""Gives the ids of a call by the name they have in the log; "" for one it has not."""

_IDS: ContextVar[Ids | None] = ContextVar("arbiter_call_ids", default=None)
_DECISION: ContextVar[str] = ContextVar("arbiter_decision_id", default="")

UNFIT: Final = "not-an-id"
"""Stands for a text that a client sent as an id and that could be anything, such as a phone number."""
_MADE: Final = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"  # UUID
    r"|(?=[0-9a-f]*[a-f])[0-9a-f]{20,64}"  # random bytes in hex
    r"|[0-7][0-9a-hjkmnp-tv-z]{25}",  # ULID
    re.ASCII | re.IGNORECASE,
)
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?", re.ASCII)


def begin_call(ids: Ids) -> None:
    """What is logged from now on, in this context, belongs to a call with these ids."""
    _IDS.set(ids)
    _DECISION.set("")


def decided(decision_id: str) -> None:
    """The call has made this decision."""
    _DECISION.set(decision_id)


def fit_id(text: str) -> str:
    """An id as it may be logged: as it is where a machine made it, for nobody knows what people put there."""
    return text if not text or _MADE.fullmatch(text) else UNFIT


def trace_id(traceparent: str) -> str:
    """The trace in a W3C traceparent; "" where it is none."""
    found = _TRACEPARENT.fullmatch(traceparent)
    return found[1] if found else ""


def with_call(
    _logger: Any,  # noqa: ANN401  # structlog's
    _method: str,
    event: MutableMapping[str, Any],
) -> MutableMapping[str, Any]:
    """A processor of structlog: adds the ids of the call, where a line belongs to one and does not say."""
    ids = _IDS.get()
    found = {} if ids is None else dict(ids())
    made = _DECISION.get()
    if made:
        found["decision_id"] = made
    for name, value in found.items():
        if value:
            event.setdefault(name, value)
    return event
