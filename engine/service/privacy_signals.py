"""Keeps what a privacy signal said, where the consent rules want it to last."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from engine.core.consent import GPC
from engine.decisionlog.record import DecisionRecord
from engine.errors import ArbiterError
from engine.service.consents import ConsentSubmission, RecordedConsent
from engine.service.live import LiveSnapshot
from feature_store.state import ANY_CHANNEL, ConsentState

_log = structlog.get_logger("engine.service.privacy_signals")


class LastingObjections:
    """Records the objections that Global Privacy Control made in a decision, if the rules say they last."""

    def __init__(self, *, live: LiveSnapshot, record: Callable[[ConsentSubmission], RecordedConsent]) -> None:
        self._live = live
        self._record = record

    def keep(self, decided: DecisionRecord) -> None:
        """Appends an objection on every channel for each purpose that only the signal objected to.

        The decision obeyed the signal already. So where an objection cannot be recorded, that is logged and
        the answer goes out: the next request of the same browser brings the signal again.
        """
        if not (decided.request.global_privacy_control and self._live.current.rulebook.consent.gpc_lasts):
            return
        for purpose in [used.purpose for used in decided.decision.consents if used.signal == GPC]:
            try:
                self._record(_objection(decided, purpose))
            except ArbiterError as error:
                _log.error(
                    "consent.signal_not_recorded",
                    decision_id=decided.decision_id,
                    purpose=purpose,
                    cause=str(error),
                )


def _objection(decided: DecisionRecord, purpose: str) -> ConsentSubmission:
    return ConsentSubmission(
        customer_id=decided.request.customer_id,
        purpose=purpose,
        channel=ANY_CHANNEL,
        state=ConsentState.OBJECTED,
        recorded_at_ms=decided.now_ms,
        source=f"{GPC}:{decided.request.channel}",
        actor="customer",
        evidence=f"decision:{decided.decision_id}",
    )
