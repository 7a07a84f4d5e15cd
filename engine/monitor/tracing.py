"""Spans of calls and of the steps of their decisions, for a collector of OpenTelemetry; imported if wanted.

A caller's `traceparent` is continued, and its choice whether to sample is followed; of calls without one a
share is traced. Spans are made when a call has ended, from the times that were noted on its way, and a thread
sends them. Nothing in them is about a person: ids, versions and words of the vocabulary.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from contextvars import ContextVar
from time import perf_counter
from types import TracebackType
from typing import Final, Self

import structlog
from opentelemetry import context as otel
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from engine.domain import Decision
from engine.monitor.looking import DecisionLook
from engine.monitor.metrics import FAULTS

_log = structlog.get_logger("engine.monitor.tracing")

_CURRENT: ContextVar[TracedCall | None] = ContextVar("arbiter_traced_call", default=None)
_EXPORT_S: Final = 2.0
"""How long a collector may take: what it does not take by then is lost, and no call waits for it."""
_SECURE: Final = "https://"


class Tracing:
    """Begins traces and sends them, inside the `with` block."""

    def __init__(
        self, endpoint: str, *, share: float, engine: str, draw: Callable[[], float] = random.random
    ) -> None:
        """`endpoint` is the URL of a collector's OTLP over gRPC; `share` of calls without a parent."""
        exporter = OTLPSpanExporter(
            endpoint=endpoint, insecure=not endpoint.startswith(_SECURE), timeout=_EXPORT_S
        )
        told = {"service.name": "arbiter", "service.version": engine}
        self._provider = TracerProvider(resource=Resource.create(told), shutdown_on_exit=False)
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter, schedule_delay_millis=1_000, export_timeout_millis=_EXPORT_S * 1000)
        )
        self._tracer = self._provider.get_tracer("arbiter", engine)
        self._share = share
        self._draw = draw
        self._incoming = TraceContextTextMapPropagator()

    def __enter__(self) -> Self:
        _tell_in_our_log()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()
        self._provider.shutdown()

    def begin(self, method: str, *, traceparent: str, tracestate: str = "") -> TracedCall | None:
        """The call that begins in this context, if it is to be traced; `method` as package.Service/Name."""
        parent = self._incoming.extract({"traceparent": traceparent, "tracestate": tracestate})
        found = get_current_span(parent).get_span_context()
        sampled = found.trace_flags.sampled if found.is_valid else self._draw() < self._share
        if not sampled:
            return None
        service, _, name = method.rpartition("/")
        span = self._tracer.start_span(
            method,
            context=parent,
            kind=SpanKind.SERVER,
            attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": name},
        )
        call = TracedCall(self, span)
        _CURRENT.set(call)
        return call

    def current(self) -> TracedCall | None:
        """The traced call that this context belongs to; None where it is not traced."""
        return _CURRENT.get()

    def child(self, name: str, parent: Span, began_ns: int) -> Span:
        """A span below another."""
        return self._tracer.start_span(
            name, context=set_span_in_context(parent, otel.Context()), start_time=began_ns
        )

    def flush(self) -> None:
        """Sends what has ended, as far as the collector takes it in time."""
        self._provider.force_flush(int(_EXPORT_S * 1000))


class TracedCall:
    """One call that is traced; implements `engine.monitor.looking.Traced`."""

    def __init__(self, tracing: Tracing, span: Span) -> None:
        self._tracing = tracing
        self._span = span
        self._offset_ns = time.time_ns() - int(perf_counter() * 1e9)  # from one clock to the other

    def decided(self, look: DecisionLook, decision_id: str, channel: str, decision: Decision) -> None:
        """A span for a decision and one for each of its steps."""
        span = self._tracing.child("decide", self._span, self._at_ns(look.began))
        span.set_attributes(
            {
                "arbiter.decision_id": decision_id,
                "arbiter.channel": channel,
                "arbiter.outcome": "action" if decision.actions else "no_action",
                "arbiter.rules": decision.versions.rules,
                "arbiter.models": [f"{name}/{v}" for name, v in sorted(decision.versions.models.items())],
                "arbiter.degraded_by": list(decision.degraded_by),
            }
        )
        last = look.began
        for step, ended in look.passings:
            self._tracing.child(step.value, span, self._at_ns(last)).end(self._at_ns(ended))
            last = ended
        span.end(self._at_ns(last))

    def end(self, code: str, number: int) -> None:
        """The call ended with this status code."""
        self._span.set_attribute("rpc.grpc.status_code", number)
        if code in FAULTS:
            self._span.set_status(Status(StatusCode.ERROR, code))
        self._span.end()

    def _at_ns(self, moment_s: float) -> int:
        return int(moment_s * 1e9) + self._offset_ns


class _InOurLog(logging.Handler):
    """What OpenTelemetry would write on stderr as it likes, as events of our log."""

    def emit(self, record: logging.LogRecord) -> None:
        """Tells of it."""
        _log.warning("traces.trouble", cause=record.getMessage())


def _tell_in_our_log() -> None:
    library = logging.getLogger("opentelemetry")
    library.handlers = [_InOurLog(logging.WARNING)]
    library.propagate = False
