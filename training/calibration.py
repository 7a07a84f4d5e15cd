"""Platt calibration, and how far probabilities are from the rates they promise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from training.dataset import Floats

ECE_BINS: Final = 10
_NEWTON_STEPS: Final = 50


@dataclass(frozen=True, slots=True)
class Platt:
    """probability = sigmoid(slope * margin + intercept); both are exactly representable in float32."""

    slope: float
    intercept: float

    def probability(self, margins: Floats) -> Floats:
        """Calibrated probabilities in double."""
        return sigmoid(self.slope * margins + self.intercept)


def sigmoid(log_odds: Floats) -> Floats:
    """Probability of log-odds, without overflow at either end."""
    small = np.exp(-np.abs(log_odds))
    return np.where(log_odds >= 0, 1.0, small) / (1.0 + small)


def fit_platt(*, margins: Floats, labels: Floats) -> Platt:
    """The logistic regression of labels on margins, by Newton's method; no penalty, two parameters."""
    design = np.column_stack([margins, np.ones_like(margins)])
    parameters = np.array([1.0, 0.0])
    for _ in range(_NEWTON_STEPS):
        expected = sigmoid(design @ parameters)
        weights = expected * (1.0 - expected)
        step = np.linalg.solve(design.T @ (design * weights[:, None]), design.T @ (labels - expected))
        parameters = parameters + step
        if np.abs(step).max() < 1e-12:
            break
    slope, intercept = parameters.astype(np.float32)
    return Platt(slope=float(slope), intercept=float(intercept))


def calibration_error(*, probabilities: Floats, labels: Floats) -> float:
    """Expected calibration error: mean |rate - promise| over ten bins of equally many rows."""
    order = np.argsort(probabilities, kind="stable")
    bins = np.array_split(order, ECE_BINS)
    gaps = [abs(labels[b].mean() - probabilities[b].mean()) * len(b) for b in bins if len(b)]
    return float(sum(gaps) / len(labels))
