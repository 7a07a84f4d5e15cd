"""What the server does now, from the metrics that its processes add up: looked at again and again."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from engine.condition import metrics_address, server_of
from engine.monitor.scraping import MetricsUnreachable, Scrape, quantile, since
from engine.monitor.work import Work, work_between
from engine.running import RunningServer, running_servers
from engine.settings import Settings

_LEAST_S: Final = 1.0
"""Between two looks: however many people watch, the server is asked once a second."""
_KEPT: Final = 61
"""Looks that are kept: five minutes where somebody watches all the time."""
DECIDE: Final = "arbiter.v1.DecisionService/Decide"


@dataclass(frozen=True, slots=True)
class Band:
    """Calls that took so long: up to `until_ms`, None for longer than all limits."""

    until_ms: float | None
    calls: int


@dataclass(frozen=True, slots=True)
class Seen:
    """How the server stands. `work` is None before the second look; `trouble` says why nothing is known."""

    server: RunningServer | None
    work: Work | None = None
    trouble: str = ""
    latency: tuple[Band, ...] = ()
    p50_ms: float | None = None
    p99_ms: float | None = None
    over_s: float = 0.0
    rates: tuple[float, ...] = field(default=())


class Traffic:
    """Looks at the metrics of the server on a data directory. Safe for threads."""

    def __init__(
        self, settings: Settings, *, ask: Callable[[str], Scrape], clock_s: Callable[[], float]
    ) -> None:
        """`ask` scrapes the metrics at HOST:PORT. Raises MetricsUnreachable."""
        self._settings = settings
        self._ask = ask
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._looks: deque[Scrape] = deque(maxlen=_KEPT)
        self._looked_s = -math.inf
        self._address = ""

    def look(self) -> Seen:
        """How the server stands now."""
        with self._lock:
            server = server_of(running_servers(self._settings.data_dir))
            address = metrics_address(None, server, self._settings)
            if not address:
                return Seen(server, trouble="off" if server else "none")
            if address != self._address:
                self._looks.clear()
                self._address, self._looked_s = address, -math.inf
            try:
                if self._clock_s() - self._looked_s >= _LEAST_S:
                    self._looks.append(self._ask(address))
                    self._looked_s = self._clock_s()
            except MetricsUnreachable as error:
                return Seen(server, trouble=str(error))
            return _seen(server, tuple(self._looks))


def _seen(server: RunningServer | None, looks: Sequence[Scrape]) -> Seen:
    now = looks[-1]
    buckets = now.buckets("arbiter_rpc_seconds", method=DECIDE)
    over_s = 0.0
    if len(looks) > 1:
        gained = since(buckets, looks[0].buckets("arbiter_rpc_seconds", method=DECIDE))
        if any(gained.values()):  # else what there was since the server began
            buckets, over_s = gained, now.at_s - looks[0].at_s
    p50, p99 = quantile(0.5, buckets), quantile(0.99, buckets)
    pairs = list(pairwise(looks))
    return Seen(
        server=server,
        work=work_between(*pairs[-1]) if pairs else None,
        latency=_bands(buckets),
        p50_ms=None if p50 is None else p50 * 1000,
        p99_ms=None if p99 is None else p99 * 1000,
        over_s=over_s,
        rates=tuple(work_between(*pair).calls_per_s for pair in pairs),
    )


def _bands(buckets: dict[float, float]) -> tuple[Band, ...]:
    """Calls between limits, from counts up to each limit."""
    found, below = [], 0.0
    for limit in sorted(buckets):
        until_ms = None if math.isinf(limit) else limit * 1000
        found.append(Band(until_ms, round(buckets[limit] - below)))
        below = buckets[limit]
    return tuple(found)
