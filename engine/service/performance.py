"""How well models did, as outcomes come: each answer beside the probability its decision was made with.

A decision's id is its place in the log, so only decisions with an answer are read. Answered is what was
accepted or declined; who was shown an action and did neither has not answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from engine.decisionlog.errors import LogError
from engine.decisionlog.ledger import OutcomeEntry
from engine.decisionlog.record import DecisionRecord
from engine.domain import PropensitySource
from engine.models.scorer import CHURN, PROPENSITY
from engine.monitor.drift.estimating import performance
from engine.monitor.drift.report import Observed
from feature_store.state import OutcomeType

_ANSWERS: Final[Mapping[OutcomeType, bool]] = {OutcomeType.ACCEPTED: True, OutcomeType.DECLINED: False}


@dataclass(frozen=True, slots=True)
class Answered:
    """One probability and what came of it."""

    model: str
    decided_ms: int
    score: float
    label: bool


def answers(
    outcomes: Iterable[OutcomeEntry], read: Callable[[str], DecisionRecord | None], *, since_ms: int
) -> Iterator[Answered]:
    """The answers to actions that the propensity model scored, of decisions from `since_ms` on.

    An action that was accepted once is accepted, whatever was said before. Decisions that are erased or
    damaged are left out.
    """
    said: dict[tuple[str, str], bool] = {}
    for outcome in outcomes:
        if outcome.type in _ANSWERS:
            name = (outcome.decision_id, outcome.action_id)
            said[name] = said.get(name, False) or _ANSWERS[outcome.type]
    for (decision_id, action_id), label in said.items():
        try:
            record = read(decision_id)
        except LogError:
            continue
        if record is None or record.now_ms < since_ms or not record.decision.profiled:
            continue
        score = _score_of(record, action_id)
        if score is not None:
            version = record.decision.versions.models.get(PROPENSITY)
            yield Answered(f"{PROPENSITY}/{version}", record.now_ms, score, label)


def churn_answers(
    records: Iterable[DecisionRecord], churned_ms: Mapping[str, int], *, within_ms: int, now_ms: int
) -> Iterator[Answered]:
    """Who left within a time of a decision that scored churn, by customer id; who stayed that long did not.

    Decisions that are not old enough to tell are left out, unless the customer has left already.
    """
    for record in records:
        churn = record.decision.churn
        if churn is None or not record.decision.profiled:
            continue
        left_ms = churned_ms.get(record.request.customer_id)
        label = left_ms is not None and 0 <= left_ms - record.now_ms < within_ms
        if label or now_ms - record.now_ms >= within_ms:
            version = record.decision.versions.models.get(CHURN)
            yield Answered(f"{CHURN}/{version}", record.now_ms, churn.probability, label)


def _score_of(record: DecisionRecord, action_id: str) -> float | None:
    for action in record.decision.actions:
        if action.action_id == action_id and action.priority.propensity_source is PropensitySource.MODEL:
            return action.priority.propensity
    return None


def measured(answered: Iterable[Answered], *, window_ms: int) -> list[Observed]:
    """Performance by model version and window of the decision; windows with too few answers are left out."""
    groups: dict[tuple[str, int], list[Answered]] = {}
    for each in answered:
        groups.setdefault((each.model, each.decided_ms // window_ms), []).append(each)
    found: list[Observed] = []
    for (model, number), same in sorted(groups.items()):
        told = performance(
            np.array([a.score for a in same]), np.array([a.label for a in same], dtype=np.bool_)
        )
        if told is not None:
            found.append(Observed(model, number * window_ms, (number + 1) * window_ms, told))
    return found
