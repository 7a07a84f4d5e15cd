"""Decisions that the log did not take, kept in memory until it does.

Only what a contract needs is answered without a record, so none of them is needed to prove a consent. They
are logged late, under ids that nobody was told, so that what was done stands there too.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import structlog

from engine.decisionlog.errors import LogUnavailable
from engine.decisionlog.log import DecisionLog
from engine.decisionlog.record import DecisionRecord
from engine.service.late_writes import Writing
from engine.service.watching import UNWATCHED, Watch

_log = structlog.get_logger("engine.service.unrecorded")

MOST: Final = 1_000
"""Kept at a time: about 20 MB, and a few seconds of a busy server."""
_AT_ONCE: Final = 10
"""Logged after one decision that could be: it must not wait for all of them."""


class Unrecorded:
    """Keeps the newest. Safe for threads."""

    def __init__(
        self,
        log: DecisionLog,
        watch: Watch = UNWATCHED,
        *,
        told: Callable[[DecisionRecord], None] = lambda _record: None,
        most: int = MOST,
    ) -> None:
        """`told` gets each one once it is logged; it must neither wait nor raise."""
        self._log = log
        self._watch = watch
        self._told = told
        self._most = most
        self._kept: deque[tuple[DecisionRecord, Writing]] = deque()
        self._changing = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, record: DecisionRecord, writing: Writing, *, cause: str) -> None:
        """Keeps a record for later; the oldest goes where there are too many."""
        with self._changing:
            first, full = not self._kept, len(self._kept) == self._most
            if full:
                self._kept.popleft()
            self._kept.append((record, writing))
        if first:
            _log.error("decisions.unrecorded", cause=cause, going_on="what contracts need")
        if full:
            self._watch.unrecorded("lost")
        self._watch.unrecorded("answered")
        for by in record.decision.degraded_by:
            self._watch.degraded(by)

    def write_out(self, most: int = _AT_ONCE) -> None:
        """Logs what is kept, as far as the log takes it now."""
        while self._kept and most:
            most -= 1
            with self._changing:
                if not self._kept:
                    return
                record, writing = self._kept.popleft()
            try:
                self._write(record, writing)
            except LogUnavailable:
                with self._changing:
                    self._kept.appendleft((record, writing))
                return
            self._watch.unrecorded("logged")
            if not self._kept:
                _log.warning("decisions.recorded_again")

    def _write(self, record: DecisionRecord, writing: Writing) -> None:
        with self._log.next(now_ms=record.now_ms) as slot:
            record = replace(record, decision_id=slot.decision_id)
            slot.write(record)
        if not writing.took_back(record.request.customer_id, slot.position):
            self._told(record)
