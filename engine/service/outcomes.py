"""Records what happened after a decision; contact policies count it from the next decision on."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from engine.core.supply import hold_key
from engine.decisionlog.errors import LogUnavailable
from engine.decisionlog.ledger import OutcomeEntry, OutcomeLog
from engine.decisionlog.log import DecisionLog
from engine.decisionlog.record import DecisionRecord
from engine.domain import Action
from engine.errors import (
    ActionNotReturned,
    DecisionNotLogged,
    DecisionUnknown,
    RequestInvalid,
    StateUnavailable,
    Violation,
)
from engine.service.decisions import NO_SUCH_DECISION, Clock, read_decision
from engine.service.late_writes import NOBODY_ERASED, LateWrites
from engine.service.live import LiveSnapshot
from engine.service.requests import RequestCheck
from engine.service.settling import Settling, settle_budgets
from engine.service.uses import consent_use
from feature_store.errors import StoreError
from feature_store.state import ContactEvent, OutcomeType
from feature_store.store import OnlineStore

OUTCOMES = "outcomes"
"""Name of the log of outcomes among the logs."""
MAX_AHEAD_MS = 5 * 60_000
"""How far a client's clock may be ahead of ours."""
REASON: Final = re.compile("[a-z0-9_]{0,64}")
"""A code, so that nobody's words end in a log that is kept for good."""


@dataclass(frozen=True, slots=True)
class OutcomeReport:
    """An outcome as it came in; `at_ms` None is now, `outcome` None is no known type.

    `reason` is a code of the client's own for why, "" where nobody said.
    """

    outcome_id: str
    decision_id: str
    action_id: str
    outcome: OutcomeType | None
    at_ms: int | None
    reason: str = ""


class Outcomes:
    """Counts outcomes. Safe for threads."""

    def __init__(
        self,
        *,
        live: LiveSnapshot,
        store: OnlineStore,
        decisions: DecisionLog,
        log: OutcomeLog,
        clock: Clock,
        late: LateWrites = NOBODY_ERASED,
        counted: Callable[[DecisionRecord, OutcomeType], None] = lambda _decision, _outcome: None,
    ) -> None:
        """`counted` gets every outcome that counts, with its decision; it must neither wait nor raise."""
        self._counted = counted
        self._live = live
        self._store = store
        self._decisions = decisions
        self._log = log
        self._clock = clock
        self._late = late

    def record(self, report: OutcomeReport) -> bool:
        """Logs and counts an outcome once; False where its id was counted before.

        The log comes first and may hold an outcome twice after a retry; readers go by `outcome_id`.
        """
        now_ms = self._clock()
        outcome, at_ms = _checked(report, now_ms)
        writing = self._late.begin(OUTCOMES)
        decision = read_decision(self._decisions, report.decision_id)
        if writing.is_erased(decision.request.customer_id):
            raise DecisionUnknown(NO_SUCH_DECISION)
        if at_ms < decision.now_ms - MAX_AHEAD_MS:
            raise RequestInvalid([Violation("occur_time", "is before the decision")])
        returned = next((a for a in decision.decision.actions if a.action_id == report.action_id), None)
        if returned is None:
            raise ActionNotReturned("the decision did not return this action")
        entry = OutcomeEntry(
            outcome_id=report.outcome_id,
            decision_id=report.decision_id,
            action_id=report.action_id,
            type=outcome,
            at_ms=at_ms,
            received_at_ms=now_ms,
            use=consent_use(
                decision,
                self._catalogue().get(report.action_id),
                profiling_purpose=self._live.current.rulebook.consent.profiling_purpose,
            ),
            reason=report.reason,
        )
        try:
            position = self._log.append(entry)
        except LogUnavailable as error:
            raise DecisionNotLogged("the outcome cannot be logged, so it is not counted") from error
        try:
            new = self._count(entry, decision)
        except StoreError as error:
            raise StateUnavailable("the outcome cannot be counted now; send it again") from error
        finally:
            erased = writing.took_back(decision.request.customer_id, position)
        if erased:
            raise DecisionUnknown(NO_SUCH_DECISION)
        if new:
            self._counted(decision, outcome)
        return new

    def _count(self, entry: OutcomeEntry, decision: DecisionRecord) -> bool:
        """Counts the contact, and settles what the decision held for it; False where it was counted."""
        customer_id, event = decision.request.customer_id, self._event(entry, decision)
        held = next((held for held in decision.held if held.action_id == entry.action_id), None)
        if held is None:
            return self._store.record_contact(customer_id, event, key=entry.outcome_id)
        key = hold_key(decision.hold_key, entry.action_id)
        settle_budgets(self._store, held, entry.type, key=key, now_ms=entry.received_at_ms)
        if held.reserved_until_ms is None:
            return self._store.record_contact(customer_id, event, key=entry.outcome_id)
        settling = Settling(event, key=entry.outcome_id, reserved_as=key, now_ms=entry.received_at_ms)
        self._store.update([customer_id], settling.change)
        return settling.counted

    def _event(self, entry: OutcomeEntry, decision: DecisionRecord) -> ContactEvent:
        """The contact to count. An action gone from the catalogue counts for itself and its channel."""
        action = self._catalogue().get(entry.action_id)
        return ContactEvent(
            at_ms=entry.at_ms,
            action_id=entry.action_id,
            group="" if action is None else action.group,
            channel=decision.request.channel,
            purpose="" if action is None else action.purpose,
            outcome=entry.type,
        )

    def _catalogue(self) -> dict[str, Action]:
        return {action.id: action for action in self._live.current.rulebook.actions}


def _checked(report: OutcomeReport, now_ms: int) -> tuple[OutcomeType, int]:
    """Type and time of the outcome. Raises RequestInvalid with every violation that needs no decision."""
    check = RequestCheck()
    for name in ("outcome_id", "decision_id", "action_id"):
        check.identifier(getattr(report, name), name)
    at_ms = now_ms if report.at_ms is None else report.at_ms
    check.require(at_ms <= now_ms + MAX_AHEAD_MS, "occur_time", "is more than 5 minutes ahead")
    check.require(
        REASON.fullmatch(report.reason) is not None,
        "reason",
        "is a code of at most 64 lower-case letters, digits and underscores",
    )
    if report.outcome in (None, OutcomeType.RESERVED):  # only decisions reserve
        check.fail("type", "is required; one of the values of OutcomeType")
        raise RequestInvalid(check.violations)
    check.done()
    return report.outcome, at_ms
