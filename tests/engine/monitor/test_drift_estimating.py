"""Performance from outcomes, and the estimate before there are any."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from engine.monitor.drift.binning import count_scores
from engine.monitor.drift.counts import ScoreTally
from engine.monitor.drift.estimating import area, calibration_error, estimate, performance


def calibrated(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and outcomes that happen with them."""
    rng = np.random.default_rng(seed)
    scores = rng.beta(1.2, 3.0, count)
    return scores, rng.random(count) < scores


def test_the_area_is_scikit_learns_with_ties_too() -> None:
    """A tie counts half."""
    scores, labels = calibrated(2_000, 1)
    rounded = np.round(scores, 1)

    assert area(scores, labels) == pytest.approx(roc_auc_score(labels, scores))
    assert area(rounded, labels) == pytest.approx(roc_auc_score(labels, rounded))


def test_the_estimate_is_what_outcomes_then_say_where_scores_are_calibrated() -> None:
    """AUC, accuracy and share of yes, from bins alone."""
    scores, labels = calibrated(50_000, 2)
    tally = count_scores(np.zeros(len(scores), dtype=np.intp), scores, ("churn",))["churn"]

    told = estimate(tally, effective=len(scores))

    assert told is not None
    assert told.auc is not None
    assert told.auc.value == pytest.approx(area(scores, labels), abs=0.01)
    assert told.positives == pytest.approx(labels.mean(), abs=0.01)
    assert told.accuracy == pytest.approx(np.mean((scores >= 0.5) == labels), abs=0.01)


def test_the_estimate_sees_customers_who_are_harder_to_tell_apart() -> None:
    """Scores that are closer together promise a lower AUC."""
    rng = np.random.default_rng(3)
    wide = count_scores(np.zeros(5_000, dtype=np.intp), rng.beta(1, 2, 5_000), ("churn",))["churn"]
    close = count_scores(np.zeros(5_000, dtype=np.intp), rng.beta(20, 40, 5_000), ("churn",))["churn"]

    before, after = estimate(wide, effective=5_000), estimate(close, effective=5_000)

    assert before is not None and before.auc is not None  # noqa: PT018  # one question
    assert after is not None and after.auc is not None  # noqa: PT018
    assert after.auc.high < before.auc.low


def test_fewer_independent_customers_make_the_interval_wider() -> None:
    """A thousand decisions of a hundred customers say less than of a thousand."""
    scores, _ = calibrated(1_000, 4)
    tally = count_scores(np.zeros(1_000, dtype=np.intp), scores, ("churn",))["churn"]

    all_, few = estimate(tally, effective=1_000), estimate(tally, effective=300)

    assert all_ is not None and all_.auc is not None  # noqa: PT018
    assert few is not None and few.auc is not None  # noqa: PT018
    assert few.auc.high - few.auc.low > 1.5 * (all_.auc.high - all_.auc.low)


def test_nothing_is_said_of_nothing() -> None:
    """No scores, or too few of a kind."""
    tally = count_scores(np.zeros(10, dtype=np.intp), np.full(10, 0.01), ("churn",))["churn"]
    few = estimate(tally, effective=10)

    assert estimate(ScoreTally(), effective=0) is None
    assert few is not None
    assert few.auc is None
    assert performance(np.full(40, 0.5), np.arange(40) < 5) is None


def test_outcomes_give_area_and_calibration_with_intervals_that_hold() -> None:
    """The interval of the AUC holds the truth about 95 times in a hundred."""
    truth = area(*calibrated(200_000, 5))
    held = 0
    for seed in range(20):
        scores, labels = calibrated(400, 100 + seed)
        told = performance(scores, labels)
        assert told is not None
        held += told.auc.low <= truth <= told.auc.high
        assert told.ece.low <= told.ece.value <= told.ece.high

    assert held >= 17


def test_scores_that_claim_too_much_have_a_calibration_error() -> None:
    """Twice the probability that there is, against none to speak of."""
    scores, labels = calibrated(20_000, 6)

    assert calibration_error(scores, labels) < 0.02
    assert calibration_error(np.minimum(1, scores * 1.5), labels) > 0.1
