"""Keeps calls from waiting for a server that does not answer.

Closed, calls pass. After some failures in a row it opens: calls fail at once, for free, and one call now and
then is let through to see (half-open). The first that succeeds closes it. There is no thread and no timer:
recovery is found by the calls themselves.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

OPENS_AFTER = 5
"""Failures in a row: more than the calls that one lost connection or one slow command fails."""

PROBE_EVERY_S = 0.5
"""Time between probes; each may cost one call its timeout, and recovery is seen this soon."""


class Breaker:
    """Safe for threads."""

    def __init__(
        self,
        *,
        opens_after: int = OPENS_AFTER,
        probe_every_s: float = PROBE_EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` is in seconds and only compared with itself."""
        self._opens_after = opens_after
        self._probe_every_s = probe_every_s
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._probe_at_s = 0.0
        self._cause = ""

    @property
    def cause(self) -> str:
        """Why the last call failed that did."""
        return self._cause

    @property
    def is_open(self) -> bool:
        """Whether calls fail at once."""
        return self._failures >= self._opens_after

    def admits(self) -> bool:
        """Whether a call may try; while open that is one call for each interval."""
        if self._failures < self._opens_after:
            return True
        with self._lock:
            now_s = self._clock()
            if now_s < self._probe_at_s:
                return False
            self._probe_at_s = now_s + self._probe_every_s
            return True

    def succeeded(self) -> None:
        """An answer came, whatever it says."""
        if self._failures:
            with self._lock:
                self._failures = 0

    def failed(self, cause: str) -> None:
        """No answer came."""
        with self._lock:
            self._failures += 1
            self._cause = cause
            if self._failures == self._opens_after:
                self._probe_at_s = self._clock() + self._probe_every_s
