"""The latest decisions and their outcomes, kept at a glance for pictures and lists."""

from __future__ import annotations

import threading
from typing import Final

from engine.bootstrap import Application
from engine.decisionlog.latest import Latest
from engine.logfiles import DECISIONS, ERASED, OUTCOMES, log_directory
from engine.service.erased import ErasedCustomers
from engine.service.glancing import Glance, GlancedOutcome, read_glance, read_outcome

KEPT: Final = 2_000
"""Decisions that pictures are made of; some 4 MB, and enough for shares to be steady to two points."""
_OUTCOMES_KEPT: Final = 8_000


class Recent:
    """Looks at the logs of a data directory, again and again. Safe for threads."""

    def __init__(self, application: Application) -> None:
        settings = application.settings
        self.decision_log = log_directory(settings, DECISIONS)
        self._decisions = Latest(self.decision_log, read_glance, keep=KEPT)
        self._outcomes = Latest(log_directory(settings, OUTCOMES), read_outcome, keep=_OUTCOMES_KEPT)
        self._erased = ErasedCustomers(log_directory(settings, ERASED))
        self._lock = threading.Lock()
        self._register = self._erased.now()

    def decisions(self) -> tuple[Glance, ...]:
        """The latest decisions, the last one first. Raises LogError."""
        self._without_erased()
        return self._decisions.look()

    def outcomes(self) -> tuple[GlancedOutcome, ...]:
        """The latest outcomes. Raises LogError."""
        return self._outcomes.look()

    def _without_erased(self) -> None:
        """What was read of customers before they were erased is read anew, where it no longer is."""
        register = self._erased.now()
        with self._lock:
            if register is not self._register:
                self._register = register
                self._decisions.forget()
                self._outcomes.forget()
