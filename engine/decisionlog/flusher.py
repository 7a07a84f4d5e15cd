"""Group fsync: one thread makes what was appended durable, a few times a second."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

import structlog

from engine.decisionlog.errors import LogUnavailable


class Flushable(Protocol):
    """A log whose appends become durable on `flush`."""

    def flush(self) -> None:
        """Makes everything appended so far survive a power cut. Raises LogUnavailable."""
        ...


class Flusher:
    """Flushes logs every `interval_ms` from `start` to `close`; `failure` is the last flush's error."""

    def __init__(self, logs: Sequence[Flushable], *, interval_ms: int) -> None:
        if interval_ms <= 0:
            raise ValueError("interval_ms must be positive; a log with interval 0 syncs by itself")
        self.failure: LogUnavailable | None = None
        self._logs = tuple(logs)
        self._interval_s = interval_ms / 1000
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log-flusher", daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Begins flushing. Call it in the process that appends, after it was spawned."""
        self._thread.start()

    def close(self) -> None:
        """Ends the thread after one last flush of everything."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            self._flush_all()
        self._flush_all()

    def _flush_all(self) -> None:
        failure = None
        for log in self._logs:
            try:
                log.flush()
            except LogUnavailable as error:
                failure = error
        if failure is not None and self.failure is None:
            structlog.get_logger().error("log.fsync_failed", error=str(failure))
        self.failure = failure
