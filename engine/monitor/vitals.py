"""How a server process is, told every few seconds: memory, work, what its log still owes the disk.

Gauges are set by a thread rather than read when Prometheus asks, because it asks another process.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from prometheus_client import Counter, Gauge

from engine.monitor.metrics import Metrics

LOOK_S: Final = 2.0
"""Time between looks, far below the interval at which Prometheus asks; one costs about 0.3 ms."""
RECENT_S: Final = 60.0
"""What counts as recent, for people who look at a server without a Prometheus."""

_STATM: Final = Path("/proc/self/statm")


class Vitals:
    """Tells of this process in the metrics; its thread runs inside the `with` block."""

    def __init__(self, metrics: Metrics, *, unsynced_bytes: Callable[[], int]) -> None:
        registry = metrics.registry
        self._metrics = metrics
        self._unsynced_bytes = unsynced_bytes
        self._resident = Gauge(
            "arbiter_process_resident_bytes",
            "Memory that a server process holds.",
            registry=registry,
            multiprocess_mode="liveall",
        )
        self._cpu = Gauge(
            "arbiter_process_cpu_seconds",
            "Processor time that a server process has used since its start.",
            registry=registry,
            multiprocess_mode="liveall",
        )
        self._began = Gauge(
            "arbiter_process_start_time_seconds",
            "When a server process began, in seconds since the epoch.",
            registry=registry,
            multiprocess_mode="liveall",
        )
        self._collections = Counter(
            "arbiter_gc_collections",
            "Collections of Python's garbage collector.",
            ["generation"],
            registry=registry,
        )
        self._in_flight = Gauge(
            "arbiter_rpc_in_flight",
            "Calls that are being handled.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._unsynced = Gauge(
            "arbiter_log_unsynced_bytes",
            "Bytes of the decision log that a power cut could still lose.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._recent = Gauge(
            "arbiter_recent_calls",
            "Calls, faults, calls shed and degraded decisions of the last minute.",
            ["what"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._collected = [0, 0, 0]
        self._totals: deque[tuple[float, Mapping[str, float]]] = deque()
        self._began.set(time.time())
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="vitals", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def look(self, now_s: float) -> None:
        """Sets what is true now; `now_s` is of a clock that never steps."""
        self._resident.set(_resident_bytes())
        self._cpu.set(time.process_time())
        self._in_flight.set(self._metrics.in_flight)
        self._unsynced.set(self._unsynced_bytes())
        for generation, stats in enumerate(gc.get_stats()):
            done = stats["collections"]
            self._collections.labels(str(generation)).inc(done - self._collected[generation])
            self._collected[generation] = done
        self._tell_recent(now_s, self._metrics.totals())

    def _tell_recent(self, now_s: float, totals: Mapping[str, float]) -> None:
        """What was counted since a minute ago."""
        self._totals.append((now_s, totals))
        while len(self._totals) > 1 and self._totals[1][0] <= now_s - RECENT_S:
            self._totals.popleft()
        earliest_s, earliest = self._totals[0]
        is_first = earliest_s > now_s - RECENT_S  # the process is younger: all it did is recent
        for what, total in totals.items():
            self._recent.labels(what).set(total if is_first else total - earliest[what])

    def _run(self) -> None:
        while not self._stop.is_set():
            self.look(time.monotonic())
            self._stop.wait(LOOK_S)


def _resident_bytes() -> int:
    """Memory of this process, as the kernel counts it; 0 where it does not say."""
    try:
        return int(_STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
