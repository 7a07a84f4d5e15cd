"""Figures of scores on held-out rows, and how far chance could have moved them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from engine.models.trees import Floats, Places
from engine.promotion.judgement import Interval

ECE_BINS: Final = 10
_SMALLEST: Final = 1e-7
"""Probabilities are held this far from 0 and 1 in the log loss, about what float32 can tell apart."""
_MIDDLE: Final = (2.5, 97.5)


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Scores of one model on held-out rows, prepared so that a resample costs no sorting."""

    labels: Floats
    probabilities: Floats
    order: Places
    ties: Places
    losses: Floats

    @classmethod
    def of(cls, probabilities: Floats, labels: Floats) -> Scored:
        """Prepares probabilities (n,) and labels of 0 and 1 (n,)."""
        order = np.argsort(probabilities, kind="stable")
        ranked = probabilities[order]
        ties = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))
        held = np.clip(probabilities, _SMALLEST, 1.0 - _SMALLEST)
        losses = -np.where(labels > 0, np.log(held), np.log1p(-held))
        return cls(labels, probabilities, order, ties, losses)

    def auc(self, weights: Floats) -> float:
        """Area under the ROC curve of weighted rows; NaN where one label is missing."""
        weighted, labels = weights[self.order], self.labels[self.order]
        positive = np.add.reduceat(weighted * labels, self.ties)
        negative = np.add.reduceat(weighted * (1.0 - labels), self.ties)
        pairs = positive.sum() * negative.sum()
        below = np.cumsum(negative) - negative
        return float((positive * (below + 0.5 * negative)).sum() / pairs) if pairs > 0 else float("nan")

    def log_loss(self, weights: Floats) -> float:
        """Mean negative log likelihood of weighted rows."""
        return float((weights * self.losses).sum() / weights.sum())

    def ece(self) -> float:
        """Expected calibration error: mean |rate - promise| over ten bins of equally many rows."""
        off = (self.labels - self.probabilities)[self.order]
        gaps = [abs(part.sum()) for part in np.array_split(off, ECE_BINS)]
        return float(sum(gaps) / len(off))


def resampled(count: int, *, groups: Places | None, resamples: int, seed: int) -> Iterator[Floats]:
    """Weights (n,) of bootstrap samples: how often each row was drawn.

    With `groups` (n,) whole groups are drawn, such as the rows of one customer, which depend on each other.
    """
    rng = np.random.default_rng(seed)
    members = np.arange(count) if groups is None else np.unique(groups, return_inverse=True)[1]
    drawn = int(members.max()) + 1
    for _ in range(resamples):
        times = np.bincount(rng.integers(0, drawn, drawn), minlength=drawn)
        yield times[members].astype(np.float64)


@dataclass(frozen=True, slots=True)
class Compared:
    """AUC and log loss of each model, and of the candidate minus the champion on the same resamples."""

    auc: tuple[Interval, Interval]
    log_loss: tuple[Interval, Interval]
    auc_gain: Interval
    log_loss_gain: Interval


def compare(
    candidate: Scored, champion: Scored, *, groups: Places | None, resamples: int, seed: int
) -> Compared:
    """Paired bootstrap: both models are measured on the same drawn rows, so what rows share cancels."""
    whole = np.ones(len(candidate.labels))
    drawn = resampled(len(whole), groups=groups, resamples=resamples, seed=seed)
    measured = np.array([_both(candidate, champion, weights) for weights in drawn])
    seen = np.array(_both(candidate, champion, whole))
    auc, loss = measured[:, :2], measured[:, 2:]
    return Compared(
        auc=(_interval(seen[0], auc[:, 0]), _interval(seen[1], auc[:, 1])),
        log_loss=(_interval(seen[2], loss[:, 0]), _interval(seen[3], loss[:, 1])),
        auc_gain=_interval(seen[0] - seen[1], auc[:, 0] - auc[:, 1]),
        log_loss_gain=_interval(seen[2] - seen[3], loss[:, 0] - loss[:, 1]),
    )


def _both(one: Scored, other: Scored, weights: Floats) -> tuple[float, float, float, float]:
    return one.auc(weights), other.auc(weights), one.log_loss(weights), other.log_loss(weights)


def _interval(value: float, drawn: Floats) -> Interval:
    """The middle 95 % of what resamples gave; those with one label only give nothing."""
    low, high = np.nanpercentile(drawn, _MIDDLE)
    return Interval(float(value), float(low), float(high))
