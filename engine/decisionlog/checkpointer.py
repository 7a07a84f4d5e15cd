"""Keeps checkpoints current: one thread notes how far each log is, at an interval and when a segment ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Protocol, Self

import structlog

from engine.decisionlog.errors import LogError

_TICK_S: Final = 1.0
"""How soon the end of a segment is noticed."""


class Checkpointed(Protocol):
    """A log whose heads are noted outside it."""

    @property
    def has_ended_segments(self) -> bool:
        """Whether a segment ended since the last checkpoint."""
        ...

    def vouch(self) -> None:
        """Notes what writers that died left without a checkpoint."""
        ...

    def checkpoint(self) -> None:
        """Notes the heads that moved. Raises LogError where they cannot be noted."""
        ...


class Checkpointer:
    """Writes checkpoints every `interval_s` from `start` to `close`; `failure` is the last one's error.

    `told` learns of each time whether all were written; it must neither wait nor raise.

    What is recorded does not wait for it: while checkpoints cannot be written, logs go on, and what they
    gain meanwhile is proven by the first one that succeeds.
    """

    def __init__(
        self,
        logs: Sequence[Checkpointed],
        *,
        interval_s: float,
        told: Callable[[bool], None] = lambda _well: None,
    ) -> None:
        self.failure: LogError | OSError | None = None
        self._logs = tuple(logs)
        self._interval_s = interval_s
        self._told = told
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Begins. Call it in the process that appends, after it was spawned."""
        self._thread.start()

    def close(self) -> None:
        """Ends the thread after one last checkpoint of everything."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        self._tell([log.vouch for log in self._logs])
        due_s = self._interval_s
        while not self._stop.wait(min(_TICK_S, self._interval_s)):
            due_s -= _TICK_S
            if due_s <= 0 or any(log.has_ended_segments for log in self._logs):
                self._tell([log.checkpoint for log in self._logs])
                due_s = self._interval_s
        self._tell([log.checkpoint for log in self._logs])

    def _tell(self, notes: Sequence[Callable[[], None]]) -> None:
        failure: LogError | OSError | None = None
        for note in notes:
            try:
                note()
            except (LogError, OSError) as error:  # a folder that is away cannot be read either
                failure = error
        if failure is not None and self.failure is None:
            structlog.get_logger().error("checkpoint.failed", error=str(failure))
        self.failure = failure
        self._told(failure is None)
