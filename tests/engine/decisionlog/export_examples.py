"""Logs to export, and masks to do it with."""

from dataclasses import replace

from decision_examples import NOW_MS, decision_record

from engine.decisionlog.ledger import OutcomeEntry, outcome_log
from engine.decisionlog.log import DecisionLog
from engine.decisionlog.masking import Mask, MaskingPolicy
from feature_store.state import OutcomeType

DAY_MS = 86_400_000
FEATURES = [f"feature_{n}" for n in range(30)]


def mask(policy=None, key=b"key"):
    return Mask(policy or MaskingPolicy(), key=key, feature_names=lambda _versions: FEATURES)


def log_decisions(directory, count, start=0, days_apart=1):
    """Decisions of three customers, each a day after the one before; their ids."""
    ids = []
    with DecisionLog(directory) as log:
        for n in range(start, start + count):
            now_ms = NOW_MS + n * days_apart * DAY_MS
            with log.next(now_ms=now_ms) as slot:
                made = decision_record(slot.decision_id, now_ms=now_ms, customer_id=f"c-{n % 3}")
                versions = replace(made.decision.versions, feature_schema=made.state.features.schema_version)
                slot.write(replace(made, decision=replace(made.decision, versions=versions)))
            ids.append(slot.decision_id)
    return ids


def log_outcomes(directory, decision_ids):
    with outcome_log(directory) as log:
        for n, decision_id in enumerate(decision_ids):
            log.append(
                OutcomeEntry(
                    outcome_id=f"o-{n}",
                    decision_id=decision_id,
                    action_id="best_1",
                    type=OutcomeType.CLICKED,
                    at_ms=NOW_MS + n,
                    received_at_ms=NOW_MS + n,
                )
            )
