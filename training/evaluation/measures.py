"""How good scores are, with the interval that so few rows leave open."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
from scipy.stats import rankdata

from training.dataset import Floats

DECILES: Final = 10
_TWO_SIDED: Final = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True, slots=True, eq=False)
class Gains:
    """Rows from the highest score down, in `DECILES` parts of equally many.

    targeted, found: (deciles + 1,) shares of all rows and of all positives, from 0 to 1. lift: (deciles,)
    each part's rate over the rate of all.
    """

    targeted: Floats
    found: Floats
    lift: Floats


def auc_of(labels: Floats, scores: Floats) -> Estimate:
    """Area under the ROC curve with DeLong's interval. Needs both labels."""
    area, by_positive, by_negative = _placements(labels, scores)
    spread = _TWO_SIDED * np.sqrt(_variance(by_positive) + _variance(by_negative))
    return Estimate(area, max(0.0, area - spread), min(1.0, area + spread))


def auc_gain_of(labels: Floats, scores: Floats, reference: Floats) -> Estimate:
    """How much larger the area of `scores` is than that of `reference`, of the same rows (DeLong, paired)."""
    area, by_positive, by_negative = _placements(labels, scores)
    other, other_positive, other_negative = _placements(labels, reference)
    variance = _variance(by_positive - other_positive) + _variance(by_negative - other_negative)
    spread = _TWO_SIDED * np.sqrt(variance)
    gain = area - other
    return Estimate(gain, gain - spread, gain + spread)


def rate_of(successes: float, count: float) -> Estimate:
    """A share with Wilson's interval."""
    share = successes / count
    square = _TWO_SIDED**2
    middle = (share + square / (2 * count)) / (1 + square / count)
    spread = (
        _TWO_SIDED * np.sqrt(share * (1 - share) / count + square / (4 * count**2)) / (1 + square / count)
    )
    return Estimate(share, float(middle - spread), float(middle + spread))


def gains_of(labels: Floats, scores: Floats) -> Gains:
    """Cumulative gains and lift by decile."""
    order = np.argsort(-scores, kind="stable")
    parts = np.array_split(labels[order], DECILES)
    found = np.cumsum([0.0, *(part.sum() for part in parts)]) / labels.sum()
    targeted = np.cumsum([0.0, *(len(part) for part in parts)]) / len(labels)
    rates = np.array([part.mean() if len(part) else np.nan for part in parts])
    return Gains(targeted=targeted, found=found, lift=rates / labels.mean())


def _placements(labels: Floats, scores: Floats) -> tuple[float, Floats, Floats]:
    """The area, and for each positive (negative) the share of the others it stands above (below)."""
    positive = labels > 0.5
    above, below = scores[positive], scores[~positive]
    together = rankdata(np.concatenate([above, below]))
    by_positive = (together[: len(above)] - rankdata(above)) / len(below)
    by_negative = 1.0 - (together[len(above) :] - rankdata(below)) / len(above)
    return float(by_positive.mean()), by_positive, by_negative


def _variance(placements: Floats) -> float:
    """Variance of the mean; 0 of a single row, which tells nothing of it."""
    return float(placements.var(ddof=1) / len(placements)) if len(placements) > 1 else 0.0
