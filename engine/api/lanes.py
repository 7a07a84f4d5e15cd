"""The threads that answer calls, the most urgent first.

grpc hands each call to an executor, one for each priority here, and all of them to the same threads. Calls
that take long in their nature, those of batches, never have more than half of the threads.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from time import monotonic
from typing import Any, Final

from engine.service.admission import AdmissionLimit, Priority

_LAST_S: Final = 1.0
_Work = tuple[Callable[..., object], tuple[Any, ...], float, Priority]


class Lane(ThreadPoolExecutor):
    """What grpc submits the calls of one priority to; it has no threads of its own."""

    def __init__(self, lanes: Lanes, priority: Priority) -> None:
        super().__init__(1)  # starts a thread at its first call of the library's submit only
        self._lanes = lanes
        self._priority = priority

    def submit(self, fn: Callable[..., object], /, *args: Any, **_kwargs: Any) -> Any:  # noqa: ANN401  # grpc's
        """Has a call answered. grpc needs a future for `maximum_concurrent_rpcs` only, so there is none."""
        self._lanes.put((fn, args, monotonic(), self._priority))


class _Answering(threading.local):
    """What a thread answers now."""

    came_s: float | None = None


class Lanes:
    """Threads over one queue for each priority. `limit` counts the calls; nobody else tells it of any."""

    def __init__(self, limit: AdmissionLimit, *, threads: int) -> None:
        self.limit = limit
        self._of = tuple(Lane(self, priority) for priority in Priority)
        self._queues: tuple[deque[_Work], ...] = tuple(deque() for _ in Priority)
        self._to_do: SimpleQueue[bool] = SimpleQueue()  # one True for each call that a thread may take up
        self._counting = threading.Lock()
        self._slow_most = max(1, threads // 2)
        self._slow_out = 0  # batches that a thread has or may take up
        self._answering = _Answering()
        self._threads = [
            threading.Thread(target=self._work, name=f"call_{number}", daemon=True)
            for number in range(threads)
        ]

    def start(self) -> None:
        """Starts the threads."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Ends the threads once what was put is done; one that hangs ends with the process."""
        for _ in self._threads:
            self._to_do.put(False)
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(_LAST_S)

    def of(self, priority: Priority) -> Lane:
        """The executor for calls of a priority."""
        return self._of[priority]

    @property
    def came_s(self) -> float | None:
        """When the call that this thread answers came, by `monotonic`; None in other threads."""
        return self._answering.came_s

    def put(self, work: _Work) -> None:
        """Queues a call."""
        priority = work[3]
        ready = True
        self._queues[priority].append(work)
        with self._counting:
            self.limit.enter()
            if priority is Priority.BATCH:
                ready = self._slow_out < self._slow_most
                self._slow_out += 1
        if ready:
            self._to_do.put(True)

    def _work(self) -> None:
        answering = self._answering
        while self._to_do.get():
            work = self._most_urgent()
            fn, args, answering.came_s, priority = work
            try:
                fn(*args)
            finally:
                del work, fn, args  # a request is not kept until the next one comes
                self._done(priority)

    def _most_urgent(self) -> _Work:
        """There is one for every True; but another thread may be quicker to take the one just seen."""
        while True:
            for queue in self._queues:
                with contextlib.suppress(IndexError):
                    return queue.popleft()

    def _done(self, priority: Priority) -> None:
        held_back = False
        with self._counting:
            self.limit.leave(priority, monotonic())
            if priority is Priority.BATCH:
                held_back = self._slow_out > self._slow_most
                self._slow_out -= 1
        if held_back:
            self._to_do.put(True)
