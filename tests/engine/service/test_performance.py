"""Outcomes beside the probabilities that their decisions were made with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from engine.bench.drift_replay import Company, company, decided, drawn
from engine.bootstrap import wall_clock_ms
from engine.decisionlog.errors import LogCorrupt
from engine.decisionlog.ledger import OutcomeEntry
from engine.decisionlog.record import DecisionRecord
from engine.monitor.drift.estimating import area
from engine.service.performance import Answered, answers, churn_answers, measured
from engine.settings import Settings
from feature_store.state import OutcomeType

NOW_MS = wall_clock_ms()
DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Company:
    """The demo company."""
    return company(Settings(data_dir=tmp_path_factory.mktemp("performance")), now_ms=NOW_MS)


@pytest.fixture(scope="module")
def records(place: Company) -> dict[str, DecisionRecord]:
    """Decisions by id."""
    found = decided(place, drawn(40, of=len(place.customers), seed=9), now_ms=NOW_MS)
    return {record.decision_id: record for record in found}


def told(record: DecisionRecord, place: int, kind: OutcomeType) -> OutcomeEntry:
    """What became of one of its actions."""
    action = record.decision.actions[place].action_id
    return OutcomeEntry(
        outcome_id=f"{record.decision_id}-{place}-{kind}",
        decision_id=record.decision_id,
        action_id=action,
        type=kind,
        at_ms=NOW_MS,
        received_at_ms=NOW_MS,
    )


def scored(records: dict[str, DecisionRecord]) -> list[tuple[DecisionRecord, int, float]]:
    """Returned actions that a model scored: the decision, their place and probability."""
    return [
        (record, i, action.priority.propensity)
        for record in records.values()
        for i, action in enumerate(record.decision.actions)
        if action.priority.propensity_source == "model"
    ]


def test_an_answer_goes_with_the_probability_of_its_action(records: dict[str, DecisionRecord]) -> None:
    """Accepted and declined; shown and clicked are no answers."""
    (a, i, p), (b, j, q), (c, k, _), *_ = scored(records)
    outcomes = [
        told(a, i, OutcomeType.SHOWN),
        told(a, i, OutcomeType.ACCEPTED),
        told(b, j, OutcomeType.DECLINED),
        told(c, k, OutcomeType.CLICKED),
    ]

    found = list(answers(outcomes, records.get, since_ms=0))

    assert found == [Answered("propensity/1", NOW_MS, p, True), Answered("propensity/1", NOW_MS, q, False)]


def test_who_accepts_after_declining_has_accepted(records: dict[str, DecisionRecord]) -> None:
    """In whatever order it was told."""
    record, i, _ = scored(records)[0]
    both = [told(record, i, OutcomeType.ACCEPTED), told(record, i, OutcomeType.DECLINED)]

    for outcomes in (both, both[::-1]):
        (found,) = answers(outcomes, records.get, since_ms=0)
        assert found.label


def test_answers_to_what_is_gone_old_or_was_not_scored_are_left_out(
    records: dict[str, DecisionRecord],
) -> None:
    """Erased, damaged, before the time asked for, not profiled, or by prior."""
    record, i, _ = scored(records)[0]
    outcome = told(record, i, OutcomeType.ACCEPTED)
    unprofiled = replace(record, decision=replace(record.decision, profiled=False))
    bare = replace(record, decision=replace(record.decision, actions=()))

    def damaged(_id: str) -> DecisionRecord:
        raise LogCorrupt(None, 0, "damaged")  # type: ignore[arg-type]  # no path here

    for read in (lambda _id: None, damaged, lambda _id: unprofiled, lambda _id: bare):
        assert list(answers([outcome], read, since_ms=0)) == []
    assert list(answers([outcome], records.get, since_ms=NOW_MS + 1)) == []


def test_who_left_in_time_has_churned_and_who_stayed_as_long_has_not(
    records: dict[str, DecisionRecord],
) -> None:
    """Of the others nothing is known yet."""
    first, second, third = [r for r in records.values() if r.decision.churn is not None][:3]
    left = {first.request.customer_id: NOW_MS + DAY_MS, second.request.customer_id: NOW_MS + 100 * DAY_MS}
    group = [first, second, third]

    def labels(now_ms: int) -> list[bool]:
        return [a.label for a in churn_answers(group, left, within_ms=90 * DAY_MS, now_ms=now_ms)]

    assert labels(NOW_MS + 2 * DAY_MS) == [True]
    assert labels(NOW_MS + 90 * DAY_MS) == [True, False, False]


def test_performance_is_told_by_model_version_and_window() -> None:
    """Where there are enough answers of both kinds."""
    rng = np.random.default_rng(1)

    def group(model: str, at_ms: int, count: int) -> Sequence[Answered]:
        return [Answered(model, at_ms, p, bool(rng.random() < p)) for p in rng.beta(2, 3, count)]

    many = group("churn/1", 10, 500)
    found = measured([*many, *group("churn/2", 10, 400), *group("churn/1", DAY_MS + 5, 20)], window_ms=DAY_MS)

    assert [(f.model, f.from_ms, f.performance.outcomes) for f in found] == [
        ("churn/1", 0, 500),
        ("churn/2", 0, 400),
    ]
    expected = area(np.array([a.score for a in many]), np.array([a.label for a in many]))
    assert found[0].performance.auc.value == pytest.approx(expected)
