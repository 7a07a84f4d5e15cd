"""How near predicted amounts are to actual ones, and how well they rank customers by worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.stats import rankdata

from training.dataset import Floats
from training.evaluation.measures import DECILES, Estimate

DRAWS: Final = 400
_ENDS: Final = (0.025, 0.975)


@dataclass(frozen=True, slots=True)
class Tenth:
    """A tenth of the customers, the highest predictions first; `captured` is of the whole value, so far."""

    rows: int
    predicted: float
    actual: float
    captured: float

    @property
    def ratio(self) -> float:
        """Predicted over actual sum; NaN where nothing was actual."""
        return self.predicted / self.actual if self.actual > 0.0 else float("nan")


@dataclass(frozen=True, slots=True)
class Errors:
    """Distances of predictions from amounts, in the currency; `mape` is of positive amounts, a share."""

    mae: float
    rmse: float
    mape: float


def errors_of(amounts: Floats, predicted: Floats) -> Errors:
    """The usual three. `mape` is NaN where no amount is positive."""
    gaps = np.abs(predicted - amounts)
    positive = amounts > 0.0
    mape = float((gaps[positive] / amounts[positive]).mean()) if positive.any() else float("nan")
    return Errors(mae=float(gaps.mean()), rmse=float(np.sqrt(np.square(gaps).mean())), mape=mape)


def rank_correlation(amounts: Floats, predicted: Floats) -> float:
    """Spearman's; 0 where one of the two is the same for all."""
    first, second = rankdata(amounts), rankdata(predicted)
    if np.ptp(first) == 0.0 or np.ptp(second) == 0.0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def lorenz(amounts: Floats, scores: Floats) -> tuple[Floats, Floats]:
    """Shares of customers, the highest scores first, and of the value they hold; 0 to 1, ties together."""
    return _captured(amounts, scores, np.ones(len(amounts)))


def gini_of(amounts: Floats, scores: Floats) -> float:
    """How far the curve of value captured lies above chance, as a share of the best possible curve."""
    return _gini(amounts, scores, np.ones(len(amounts)))


def gini_gain(amounts: Floats, scores: Floats, rival: Floats, *, seed: int) -> tuple[Estimate, Estimate]:
    """The Gini coefficient, and how much larger it is than the rival's, with paired bootstrap intervals."""
    found = []
    for counts in (np.ones(len(amounts)), *_draws(len(amounts), seed)):
        own, other = _gini(amounts, scores, counts), _gini(amounts, rival, counts)
        found.append((own, own - other))
    values = np.array(found)
    low, high = np.quantile(values[1:], _ENDS, axis=0)
    first, second = (Estimate(float(values[0, i]), float(low[i]), float(high[i])) for i in range(2))
    return first, second


def total_ratio(amounts: Floats, predicted: Floats, *, seed: int) -> Estimate:
    """Predicted over actual total, with the interval that a few large customers leave open."""
    drawn = [
        float(counts @ predicted) / max(float(counts @ amounts), np.finfo(float).tiny)
        for counts in _draws(len(amounts), seed)
    ]
    low, high = np.quantile(drawn, _ENDS)
    return Estimate(float(predicted.sum() / amounts.sum()), float(low), float(high))


def tenths_of(amounts: Floats, predicted: Floats) -> tuple[Tenth, ...]:
    """Sums of tenths of equally many customers."""
    order = np.argsort(-predicted, kind="stable")
    captured = 0.0
    found = []
    for part in np.array_split(order, DECILES):
        actual = float(amounts[part].sum())
        captured += actual / float(amounts.sum())
        found.append(Tenth(len(part), float(predicted[part].sum()), actual, captured))
    return tuple(found)


def _draws(count: int, seed: int) -> list[Floats]:
    rng = np.random.default_rng(seed)
    return [
        np.bincount(rng.integers(count, size=count), minlength=count).astype(np.float64) for _ in range(DRAWS)
    ]


def _gini(amounts: Floats, scores: Floats, counts: Floats) -> float:
    area, best = (_area(*_captured(amounts, each, counts)) for each in (scores, amounts))
    return area / best if best > 0.0 else 0.0


def _area(shares: Floats, captured: Floats) -> float:
    """Between a curve and the diagonal."""
    return float((np.diff(shares) * (captured[1:] + captured[:-1]) / 2.0).sum() - 0.5)


def _captured(amounts: Floats, scores: Floats, counts: Floats) -> tuple[Floats, Floats]:
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0.0, True))
    rows = np.cumsum(counts[order])[ends]
    value = np.cumsum((counts * amounts)[order])[ends]
    shares = np.concatenate([[0.0], rows / rows[-1]])
    return shares, np.concatenate([[0.0], value / max(value[-1], np.finfo(float).tiny)])
