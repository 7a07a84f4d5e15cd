"""Held-out rows of a small made-up model, as known as their labels."""

from __future__ import annotations

import numpy as np
import pytest

from training.calibration import sigmoid
from training.evaluation.held_out import HeldOut

ROWS = 600


@pytest.fixture(scope="session")
def held() -> HeldOut:
    """Scores that are true, but for people of the south, who are promised too little."""
    rng = np.random.default_rng(7)
    rows = rng.normal(size=(ROWS, 3)).astype(np.float32)
    shares = rows.astype(np.float64) * np.array([1.5, 0.5, 0.0])
    region = np.where(rng.random(ROWS) < 0.4, "south", "north")
    margins = shares.sum(axis=1) - 1.0
    labels = (rng.random(ROWS) < sigmoid(margins + 1.5 * (region == "south"))).astype(np.float64)
    rows[::50, 1] = np.nan
    return HeldOut(
        labels=labels,
        probabilities=sigmoid(margins),
        uncalibrated=sigmoid(2.0 * margins),
        baseline=sigmoid(shares[:, 0] - 1.0),
        rows=rows,
        shares=shares,
        names=("spent", "<visits>", "noise"),
        groups={"region": region, "shop": np.full(ROWS, "only one")},
    )
