"""Figures with their intervals, against other ways to the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from training.evaluation.held_out import HeldOut
from training.evaluation.measures import auc_gain_of, auc_of, gains_of, rate_of


@given(
    labels=st.lists(st.booleans(), min_size=4, max_size=60),
    seed=st.integers(0, 2**16),
    levels=st.integers(1, 8),
)
@settings(max_examples=60, deadline=None)
def test_the_area_is_that_of_scikit_learn(labels: list[bool], seed: int, levels: int) -> None:
    """Also with ties, and it lies in its interval."""
    truth = np.array([0.0, 1.0, *labels])
    scores = np.random.default_rng(seed).integers(0, levels, len(truth)).astype(np.float64)

    found = auc_of(truth, scores)

    assert found.value == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    assert found.low <= found.value <= found.high


def test_the_interval_holds_the_true_area_as_often_as_it_says() -> None:
    """Normal scores one deviation apart have an area of 0.7602."""
    rng = np.random.default_rng(3)
    labels = np.repeat([0.0, 1.0], [120, 80])
    samples = [auc_of(labels, rng.normal(size=200) + labels) for _ in range(400)]

    covered = np.mean([sample.low <= 0.7602 <= sample.high for sample in samples])

    assert 0.92 <= covered <= 0.98


def test_a_gain_over_equal_scores_is_nothing_and_over_noise_is_sure(held: HeldOut) -> None:
    """Paired: the same rows are easy or hard for both."""
    noise = np.random.default_rng(1).random(len(held.labels))

    same = auc_gain_of(held.labels, held.probabilities, 3.0 * held.probabilities)
    better = auc_gain_of(held.labels, held.probabilities, noise)

    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    assert better.low > 0.0


def test_gains_end_at_all_and_lift_averages_to_one(held: HeldOut) -> None:
    """Ten parts of sixty rows each."""
    found = gains_of(held.labels, held.probabilities)

    assert found.found[0] == 0.0
    assert found.found[-1] == pytest.approx(1.0)
    assert found.lift.mean() == pytest.approx(1.0)
    assert found.lift[0] > 1.5 > found.lift[-1]


def test_a_rate_of_nothing_is_not_certainly_nothing() -> None:
    """Wilson's interval of 0 in 20 reaches to 0.161."""
    rate = rate_of(0, 20)

    assert (rate.value, rate.low) == (0.0, pytest.approx(0.0, abs=1e-12))
    assert rate.high == pytest.approx(0.1611, abs=1e-4)


def test_held_out_rows_of_one_label_are_refused(held: HeldOut) -> None:
    """Nothing can be measured on them."""
    with pytest.raises(ValueError, match="all alike"):
        HeldOut(
            labels=np.zeros(2),
            probabilities=np.zeros(2),
            uncalibrated=np.zeros(2),
            baseline=None,
            rows=held.rows[:2],
            shares=held.shares[:2],
            names=held.names,
        )


def test_held_out_arrays_of_other_lengths_are_refused(held: HeldOut) -> None:
    """A mix-up of rows would give figures that look right."""
    with pytest.raises(ValueError, match="do not fit"):
        HeldOut(
            labels=held.labels,
            probabilities=held.probabilities[1:],
            uncalibrated=held.uncalibrated,
            baseline=None,
            rows=held.rows,
            shares=held.shares,
            names=held.names,
        )
