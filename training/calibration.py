"""Calibration, by a line or by steps, and how far probabilities are from the rates they promise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import numpy as np
import numpy.typing as npt
from sklearn.isotonic import IsotonicRegression

from training.dataset import Floats

ECE_BINS: Final = 10
_NEWTON_STEPS: Final = 50
_SETTLED: Final = 1e-9
MAX_KNOTS: Final = 30
"""Most knots of an isotonic map: more would be noise, and work for every score."""
ROWS_A_KNOT: Final = 50
"""Fewest rows that a knot's rate is of."""
_FOLDS: Final = 5
_SUREST: Final = 1e-6

Method = Literal["auto", "platt", "isotonic"]


@dataclass(frozen=True, slots=True)
class Platt:
    """probability = sigmoid(slope * margin + intercept); both are exactly representable in float32."""

    output: ClassVar[str] = "probability"
    slope: float
    intercept: float

    def score(self, margins: Floats) -> Floats:
        """What the model says: the probability."""
        return self.probability(margins)

    def probability(self, margins: Floats) -> Floats:
        """Calibrated probabilities in double."""
        return sigmoid(self.slope * margins + self.intercept)


@dataclass(frozen=True, slots=True)
class Isotonic:
    """A non-decreasing piecewise linear map from margin to probability, flat beyond its ends.

    `margins` ascend strictly; both are exactly representable in float32.
    """

    output: ClassVar[str] = "probability"
    margins: tuple[float, ...]
    probabilities: tuple[float, ...]

    def score(self, margins: Floats) -> Floats:
        """What the model says: the probability."""
        return self.probability(margins)

    def probability(self, margins: Floats) -> Floats:
        """Calibrated probabilities in double."""
        return np.asarray(np.interp(margins, self.margins, self.probabilities), dtype=np.float64)


Calibration = Platt | Isotonic


def sigmoid(log_odds: Floats) -> Floats:
    """Probability of log-odds, without overflow at either end."""
    small = np.exp(-np.abs(log_odds))
    return np.where(log_odds >= 0, 1.0, small) / (1.0 + small)


def fit_platt(*, margins: Floats, labels: Floats) -> Platt:
    """The logistic regression of labels on margins, by Newton's method; no penalty, two parameters.

    Where a margin parts the labels cleanly the line would be infinitely steep: then labels count as a
    little less sure, as Platt does it, one row of each class in so many.
    """
    design = np.column_stack([margins, np.ones_like(margins)])
    parameters = _newton(design, labels)
    if parameters is None:
        parameters = _damped(design, _less_sure(labels))
    slope, intercept = parameters.astype(np.float32)
    return Platt(slope=float(slope), intercept=float(intercept))


def _newton(design: Floats, labels: Floats) -> Floats | None:
    """The parameters of largest likelihood; None where there are none that are finite."""
    parameters = np.array([1.0, 0.0])
    step = parameters
    for _ in range(_NEWTON_STEPS):
        expected = sigmoid(design @ parameters)
        weights = expected * (1.0 - expected)
        try:
            step = np.linalg.solve(design.T @ (design * weights[:, None]), design.T @ (labels - expected))
        except np.linalg.LinAlgError:
            return None
        parameters = parameters + step
        if np.abs(step).max() < 1e-12:
            break
    return parameters if np.abs(step).max() < _SETTLED else None


def _less_sure(labels: Floats) -> Floats:
    """Platt's targets: (n + 1) / (n + 2) for the n positives, 1 / (m + 2) for the m others."""
    positives = labels.sum()
    sure, unsure = (positives + 1.0) / (positives + 2.0), 1.0 / (len(labels) - positives + 2.0)
    return np.asarray(np.where(labels > 0, sure, unsure), dtype=np.float64)


def _damped(design: Floats, targets: Floats) -> Floats:
    """The parameters of largest likelihood of targets inside (0, 1), by steps that never make it smaller."""

    def loss(parameters: Floats) -> float:
        margins = design @ parameters
        return float(np.sum(np.logaddexp(0.0, margins) - targets * margins))

    parameters = np.array([1.0, 0.0])
    for _ in range(4 * _NEWTON_STEPS):
        expected = sigmoid(design @ parameters)
        curve = design.T @ (design * (expected * (1.0 - expected))[:, None]) + 1e-9 * np.eye(2)
        step = np.linalg.solve(curve, design.T @ (targets - expected))
        while loss(parameters + step) > loss(parameters) and np.abs(step).max() > _SETTLED:
            step = step / 2.0
        parameters = parameters + step
        if np.abs(step).max() <= _SETTLED:
            break
    return np.asarray(parameters, dtype=np.float64)


def fit_isotonic(*, margins: Floats, labels: Floats) -> Isotonic:
    """Rates of bins of equally many rows, made to rise; each stands at the mean margin of its rows.

    Each rate leans on the overall one by one row, so that no probability is 0 or 1 for want of rows.
    """
    bins = np.array_split(
        np.argsort(margins, kind="stable"), max(2, min(MAX_KNOTS, len(margins) // ROWS_A_KNOT))
    )
    weights = np.array([len(b) for b in bins], dtype=np.float64)
    places = np.array([margins[b].mean() for b in bins])
    rates = np.array([(labels[b].sum() + labels.mean()) / (len(b) + 1) for b in bins])
    rising = IsotonicRegression().fit_transform(np.arange(len(bins)), rates, sample_weight=weights)
    levels, level_of = np.unique(rising, return_inverse=True)
    centres = np.bincount(level_of, places * weights) / np.bincount(level_of, weights)
    knots = dict(zip(centres.astype(np.float32).tolist(), levels.astype(np.float32).tolist(), strict=True))
    if len(knots) == 1:  # one rate for all: a flat line
        ((_, rate),) = knots.items()
        knots = {-1.0: rate, 1.0: rate}
    return Isotonic(margins=tuple(knots), probabilities=tuple(knots.values()))


def fit_calibration(*, margins: Floats, labels: Floats, method: Method, seed: int) -> Calibration:
    """The calibration asked for; `auto` takes the one with the smaller log loss in cross-validation.

    Platt's two parameters stay where the two are equal.
    """
    if method == "auto":
        folds = np.random.default_rng(seed).permutation(len(labels)) % _FOLDS
        losses = {
            "platt": _log_loss_across(margins, labels, folds, "platt"),
            "isotonic": _log_loss_across(margins, labels, folds, "isotonic"),
        }
        method = "isotonic" if losses["isotonic"] < losses["platt"] else "platt"
    fit = fit_isotonic if method == "isotonic" else fit_platt
    return fit(margins=margins, labels=labels)


def _log_loss_across(
    margins: Floats, labels: Floats, folds: npt.NDArray[np.intp], method: Literal["platt", "isotonic"]
) -> float:
    """Mean log loss of rows by a calibration that was fitted without their fold."""
    return log_loss_of(
        probabilities=calibrated_across(margins, labels, folds, method=method, seed=0), labels=labels
    )


def calibrated_across(
    margins: Floats, labels: Floats, folds: npt.NDArray[np.intp], *, method: Method, seed: int
) -> Floats:
    """Probabilities of rows, each by a calibration fitted on the rows of the other folds, shape (n,)."""
    probabilities = np.zeros(len(labels))
    for fold in np.unique(folds):
        own, others = folds == fold, folds != fold
        fitted = fit_calibration(margins=margins[others], labels=labels[others], method=method, seed=seed)
        probabilities[own] = fitted.probability(margins[own])
    return probabilities


def log_loss_of(*, probabilities: Floats, labels: Floats) -> float:
    """Mean negative log likelihood; a probability counts as at least 1e-6 from 0 and 1."""
    sure = np.clip(probabilities, _SUREST, 1.0 - _SUREST)
    return float(-np.mean(labels * np.log(sure) + (1.0 - labels) * np.log1p(-sure)))


def calibration_error(*, probabilities: Floats, labels: Floats) -> float:
    """Expected calibration error: mean |rate - promise| over ten bins of equally many rows."""
    order = np.argsort(probabilities, kind="stable")
    bins = np.array_split(order, ECE_BINS)
    gaps = [abs(labels[b].mean() - probabilities[b].mean()) * len(b) for b in bins if len(b)]
    return float(sum(gaps) / len(labels))
