"""Whether models are quick enough to be asked; pure, so times come in.

A model that got slow, by a bad version or a worn-out machine, must not make every caller wait. Nothing can
stop it while it runs, so after some slow decisions the next ones are made by rules and priors, and now and
then one tries the models again. Where decisions are no quicker without, the models are not to blame.
"""

from __future__ import annotations

import threading
from typing import Final

import structlog

_log = structlog.get_logger("engine.service.patience")

BUDGET_S: Final = 0.02
"""Processor time of one decision: twenty times what a usual one takes, and half of what callers wait for."""
SLOW_IN_A_ROW: Final = 5
"""One or two may be slow by chance, as when a new model's memory is touched first."""
PAUSE_MS: Final = 5_000
LONGEST_PAUSE_MS: Final = 60_000
"""Between trials: twice as long after each that failed."""


class Patience:
    """Safe for threads."""

    def __init__(self, *, budget_s: float = BUDGET_S) -> None:
        self._budget_s = budget_s
        self._slow = 0
        self._slow_without = 0
        self._pause_ms = 0  # 0 while models are asked
        self._next_ms = 0  # when they are tried again, or may be found slow again
        self._changing = threading.Lock()

    def scores(self, now_ms: int) -> bool:
        """Whether models are to be asked in a decision made now; where not, one now and then tries."""
        if not self._pause_ms:
            return True
        with self._changing:
            if now_ms < self._next_ms:
                return False
            self._next_ms = now_ms + self._pause_ms
            return True

    def took(self, seconds: float, *, scored: bool, now_ms: int) -> None:
        """A profiled decision took so much processor time, with models or without."""
        if seconds <= self._budget_s and scored and not self._pause_ms:
            self._slow = 0
            return
        with self._changing:
            if scored:
                self._judge(slow=seconds > self._budget_s, now_ms=now_ms)
            else:
                self._slow_without = self._slow_without + 1 if seconds > self._budget_s else 0
                if self._slow_without >= SLOW_IN_A_ROW:
                    later_ms = now_ms + LONGEST_PAUSE_MS
                    self._ask_again("decisions are as slow without them", not_before_ms=later_ms)

    def _judge(self, *, slow: bool, now_ms: int) -> None:
        if not slow:
            self._ask_again("they are quick again", not_before_ms=now_ms)
            return
        self._slow += 1
        if self._slow >= SLOW_IN_A_ROW and (self._pause_ms or now_ms >= self._next_ms):
            self._pause_ms = min(2 * self._pause_ms or PAUSE_MS, LONGEST_PAUSE_MS)
            self._next_ms = now_ms + self._pause_ms
            self._slow_without = 0
            _log.error("models.too_slow", budget_ms=self._budget_s * 1000, pause_ms=self._pause_ms)

    def _ask_again(self, why: str, *, not_before_ms: int) -> None:
        if self._pause_ms:
            _log.warning("models.asked_again", why=why)
        self._slow = self._slow_without = self._pause_ms = 0
        self._next_ms = not_before_ms
