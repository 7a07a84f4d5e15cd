"""Ids of a call for the log: those that the request and its metadata carry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import grpc

from engine.calls import fit_id, trace_id
from engine.decisionlog.errors import InvalidDecisionId
from engine.decisionlog.identifiers import decode_id

TRACEPARENT: Final = "traceparent"
"""Metadata that names the trace a call belongs to, as W3C writes it."""


def ids_of(request: Any, context: grpc.ServicerContext | None) -> Mapping[str, str]:  # noqa: ANN401  # any message
    """The ids of a call by their names in the log."""
    return {
        "request_id": fit_id(getattr(request, "request_id", "")),
        "decision_id": _decision_id(getattr(request, "decision_id", "")),
        "trace_id": trace_id(traceparent(context)),
    }


def traceparent(context: grpc.ServicerContext | None) -> str:
    """What the metadata of a call says of its trace; "" where it says nothing."""
    metadata = () if context is None else context.invocation_metadata()
    return next((str(value) for name, value in metadata if name == TRACEPARENT), "")


def _decision_id(text: str) -> str:
    """A decision id that Arbiter made, or what stands for one that it did not."""
    if not text:
        return ""
    try:
        decode_id(text)
    except InvalidDecisionId:
        return fit_id(text)
    return text
