"""Structured logs on stderr: JSON for machines, columns for a person at a terminal."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import Final, TextIO

import structlog

from engine.calls import with_call


class _Unfailing:
    """A stream that loses a line rather than the work it tells of, e.g. on a full disk."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes if it can."""
        with contextlib.suppress(OSError, ValueError):
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flushes if it can."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


_TRACEBACKS: Final = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)
"""Without the values of variables, which may be a customer's data, a token or a key."""


def configure(level: str) -> None:
    """Sets up structlog for this process; `level` is debug, info, warning or error."""
    numbers = logging.getLevelNamesMapping()
    readable = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            with_call,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
            if readable
            else _TRACEBACKS,
            *([] if readable else [structlog.processors.JSONRenderer()]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(numbers[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=_Unfailing(sys.stderr)),  # type: ignore[arg-type]  # all it uses
        cache_logger_on_first_use=False,  # so that a later configuration, and tests, reach every logger
    )
