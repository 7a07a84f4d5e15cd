"""What customers said to proposals: held for as long as it can be undone, then recorded for good.

The log of outcomes is appended to and never taken back from, and contact policies, budgets and rollouts
count what is in it at once. So a slip of the finger must not get there: an answer waits here until undo has
run out, or the agent goes on to something that needs it counted.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import structlog

from engine.errors import (
    ArbiterError,
    DecisionNotLogged,
    Overloaded,
    StateUnavailable,
)
from engine.service.outcomes import OutcomeReport
from feature_store.state import OutcomeType

UNDO_S: Final = 10.0
"""Long enough to see a slip and press undo, short enough that a process that dies loses next to nothing."""
_PASSES: Final = (StateUnavailable, DecisionNotLogged, Overloaded)
"""What is tried again, as it passes."""

_log = structlog.get_logger("engine.web.pop")


@dataclass(frozen=True, slots=True)
class Said:
    """What a customer said to one proposal of a decision; `until_s` is when it can no longer be undone."""

    decision_id: str
    action_id: str
    outcome: OutcomeType
    reason: str
    at_ms: int
    until_s: float


class Answers:
    """Answers that wait to be recorded. Safe for threads."""

    def __init__(self, *, record: Callable[[OutcomeReport], bool], clock_s: Callable[[], float]) -> None:
        """`record` is the use case; it raises an ArbiterError where it cannot."""
        self._record = record
        self._clock_s = clock_s
        self._guard = threading.Lock()
        self._waiting: list[Said] = []

    def say(self, decision_id: str, action_id: str, outcome: OutcomeType, reason: str = "") -> Said:
        """An answer that can be undone for a while."""
        now_s = self._clock_s()
        said = Said(decision_id, action_id, outcome, reason, int(now_s * 1000), now_s + UNDO_S)
        with self._guard:
            self._waiting.append(said)
        return said

    def undo(self, said: Said) -> bool:
        """Takes an answer back; False where it was recorded already."""
        with self._guard:
            if said not in self._waiting:
                return False
            self._waiting.remove(said)
            return True

    def waits(self, said: Said) -> bool:
        """Whether an answer is not recorded yet."""
        with self._guard:
            return said in self._waiting

    def settle(self, decision_id: str | None = None) -> None:
        """Records those that can no longer be undone; of one decision all, at once."""
        now_s = self._clock_s()
        with self._guard:
            due = [s for s in self._waiting if s.decision_id == decision_id or now_s >= s.until_s]
            self._waiting = [s for s in self._waiting if s not in due]
        self._write(due)

    def settle_all(self) -> None:
        """Records every one, as the process ends."""
        with self._guard:
            due, self._waiting = self._waiting, []
        self._write(due)

    def _write(self, due: list[Said]) -> None:
        """Those that pass troubles keep from being recorded wait on."""
        for said in due:
            try:
                for report in _reports(said):
                    self._record(report)
            except _PASSES as error:
                _log.warning("pop.answer_waits", decision_id=said.decision_id, reason=error.reason)
                with self._guard:
                    self._waiting.append(said)
            except ArbiterError as error:  # the customer was erased meanwhile, say: nothing may be kept
                _log.warning("pop.answer_refused", decision_id=said.decision_id, reason=error.reason)


def _reports(said: Said) -> tuple[OutcomeReport, OutcomeReport]:
    """That the customer heard of it, which whoever answers has, and what they said."""
    heard = OutcomeReport(
        outcome_id=_id(said, OutcomeType.SHOWN),
        decision_id=said.decision_id,
        action_id=said.action_id,
        outcome=OutcomeType.SHOWN,
        at_ms=said.at_ms,
    )
    answered = replace(heard, outcome_id=_id(said, said.outcome), outcome=said.outcome, reason=said.reason)
    return heard, answered


def _id(said: Said, outcome: OutcomeType) -> str:
    """The same for the same answer, so that it counts once however often it is sent."""
    told = f"{said.decision_id} {said.action_id} {outcome}"
    return f"pop-{hashlib.blake2b(told.encode(), digest_size=16).hexdigest()}"
