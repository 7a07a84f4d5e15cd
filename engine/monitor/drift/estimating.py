"""How well a model ranks: measured where outcomes are known, estimated from its own scores before they are.

The estimate (confidence-based: CBPE) takes each score for the probability that it claims to be, so it is as
good as the calibration is, and it sees what a change of the customers does, not a change of their behaviour.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.monitor.drift.counts import PERCENTS, ScoreTally, Values

_TWO_SIDED_95: Final = 1.959964
_RESAMPLES: Final = 200
_GROUPS: Final = 10
FEWEST_OUTCOMES: Final = 30
"""Of each kind, without which nothing is said of a model's performance."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with the interval that holds the truth 95 times in a hundred."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a model's scores promise: share of yes, accuracy of saying yes from 0.5 on, and AUC."""

    decisions: int
    positives: float
    accuracy: float
    auc: Figure | None


@dataclass(frozen=True, slots=True)
class Performance:
    """What outcomes say: AUC, and the gap between probabilities and shares (ECE)."""

    outcomes: int
    positives: int
    auc: Figure
    ece: Figure


def estimate(scores: ScoreTally, *, effective: float) -> Estimate | None:
    """The estimate from a score's bins; `effective` is how many independent customers they are of.

    None where there are none. AUC is None where the scores promise too few of a kind.
    """
    decisions = int(scores.bins.sum())
    if not decisions:
        return None
    middles: Values = (np.arange(PERCENTS, dtype=np.float64) + 0.5) / PERCENTS
    promised = float(scores.bins @ middles)
    claimed: Values = np.minimum(middles * (scores.total / promised), 1.0)
    share = min(effective / decisions, 1.0)
    yes, no = scores.bins * claimed * share, scores.bins * (1 - claimed) * share
    accuracy = float(scores.bins @ np.maximum(claimed, 1 - claimed)) / decisions
    return Estimate(decisions, scores.total / decisions, accuracy, _expected_auc(yes, no))


def _expected_auc(yes: Values, no: Values) -> Figure | None:
    """Chance that a yes has the higher score, of those expected in each bin; ties count half."""
    if min(yes.sum(), no.sum()) < FEWEST_OUTCOMES:
        return None
    below = np.cumsum(no) - no
    value = float(yes @ (below + no / 2)) / float(yes.sum() * no.sum())
    return _with_interval(value, float(yes.sum()), float(no.sum()))


def performance(scores: Values, labels: npt.NDArray[np.bool_]) -> Performance | None:
    """What outcomes (n,) say of probabilities (n,); None where there are too few of a kind."""
    positives = int(labels.sum())
    if min(positives, len(labels) - positives) < FEWEST_OUTCOMES:
        return None
    auc = _with_interval(area(scores, labels), positives, len(labels) - positives)
    return Performance(len(labels), positives, auc, _ece_with_interval(scores, labels))


def area(scores: Values, labels: npt.NDArray[np.bool_]) -> float:
    """AUC: the chance that a yes has a higher score than a no; ties count half."""
    _, place, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(sizes) - (sizes - 1) / 2)[place]
    yes = int(labels.sum())
    return float((ranks[labels].sum() - yes * (yes + 1) / 2) / (yes * (len(labels) - yes)))


def _with_interval(auc: float, yes: float, no: float) -> Figure:
    """With the interval of Hanley and McNeil (1982)."""
    both_yes, both_no = auc / (2 - auc), 2 * auc * auc / (1 + auc)
    variance = auc * (1 - auc) + (yes - 1) * (both_yes - auc * auc) + (no - 1) * (both_no - auc * auc)
    half = _TWO_SIDED_95 * math.sqrt(max(variance, 0.0) / (yes * no))
    return Figure(auc, max(0.0, auc - half), min(1.0, auc + half))


def calibration_error(scores: Values, labels: npt.NDArray[np.bool_]) -> float:
    """ECE: mean gap between the mean score and the share of yes, in ten groups of equal size."""
    groups = np.array_split(np.argsort(scores, kind="stable"), _GROUPS)
    gaps = [abs(float(scores[g].mean() - labels[g].mean())) * len(g) for g in groups if len(g)]
    return sum(gaps) / len(scores)


def _ece_with_interval(scores: Values, labels: npt.NDArray[np.bool_]) -> Figure:
    """With a percentile interval of resampled outcomes, the same for the same outcomes."""
    rng = np.random.default_rng(len(scores))
    drawn = [rng.integers(0, len(scores), len(scores)) for _ in range(_RESAMPLES)]
    found = np.sort([calibration_error(scores[rows], labels[rows]) for rows in drawn])
    low, high = np.quantile(found, [0.025, 0.975])
    value = calibration_error(scores, labels)
    return Figure(value, min(float(low), value), max(float(high), value))
