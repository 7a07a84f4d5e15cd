"""What a published model is checked and watched against: golden rows and reference distributions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

import numpy as np

from training.boosting import contributions, log_odds
from training.candidate import Candidate
from training.dataset import Floats, Rows
from training.parity import split_rows
from training.trees import npz_bytes

GOLDEN_ROWS: Final = 64
_WITH_HOLES: Final = 16
_AT_SPLITS: Final = 8
_DECILES: Final = np.arange(0.1, 0.95, 0.1)


def golden_npz(candidate: Candidate) -> bytes:
    """`golden.npz`: rows and the answers that every serving host must give on them.

    rows float32 (64, inputs), complete: targets set, hidden inputs NaN. margin, probability (of other kinds
    their own score) float64 (64,). contributions float64 (64, inputs + 1): Shapley values of the margin, base
    last.
    """
    rows = golden_rows(candidate)
    margin = log_odds(candidate.booster, rows)
    return npz_bytes(
        {
            "rows": rows,
            "margin": margin,
            candidate.calibration.output: candidate.calibration.score(margin),
            "contributions": contributions(candidate.booster, rows),
        }
    )


def golden_rows(candidate: Candidate) -> Rows:
    """Held-out rows, some with random holes, and some that lie on a split, float32 (64, inputs)."""
    rng = np.random.default_rng(candidate.seed)
    test = candidate.task.test.rows
    plain = test[rng.choice(len(test), GOLDEN_ROWS - _AT_SPLITS, replace=False)]
    features = [place for place, i in enumerate(candidate.task.inputs) if i.source == "feature"]
    holes = np.zeros(plain.shape, dtype=np.bool_)
    holes[:_WITH_HOLES, features] = rng.random((_WITH_HOLES, len(features))) < 0.3
    at_splits = split_rows(candidate.trees, like=plain[-1])
    chosen = at_splits[rng.choice(len(at_splits), _AT_SPLITS, replace=False)]
    rows = np.vstack([np.where(holes, np.float32(np.nan), plain), chosen])
    return np.ascontiguousarray(rows, dtype=np.float32)


def histograms_json(candidate: Candidate) -> bytes:
    """`histograms.json`: how inputs and scores were distributed, for drift.

    {"format": 1, "rows": n, "inputs": {feature: histogram}, "scores": {target or kind: histogram}};
    a histogram is {"edges": [...], "counts": [...], "missing": n}. counts[i] are the values with
    edges[i-1] <= x < edges[i], the first and last bin being open: numpy.searchsorted(edges, x, "right").
    Inputs are those of the training customers (each once). Scores are those of the held-out rows; of a
    target only those who do not own it where the label is ownership, since they are who is asked.
    """
    task = candidate.task
    _, first = np.unique(task.seen.customers, return_index=True)
    inputs = {
        model_input.name: histogram(_known_column(candidate, column)[first].astype(np.float64))
        for column, model_input in enumerate(task.inputs)
        if model_input.source == "feature"
    }
    content = {"format": 1, "rows": len(first), "inputs": inputs, "scores": _score_histograms(candidate)}
    return json.dumps(content, indent=1).encode() + b"\n"


def _known_column(candidate: Candidate, column: int) -> Rows:
    """One input per row of `seen`, with what is hidden for the row's target taken from another row."""
    seen = candidate.task.seen
    values = seen.rows[:, column]
    known = np.flatnonzero(~np.isnan(values))
    by_customer = np.full(seen.customers.max() + 1, np.nan, dtype=np.float32)
    by_customer[seen.customers[known]] = values[known]
    return by_customer[seen.customers]


def _score_histograms(candidate: Candidate) -> dict[str, Mapping[str, object]]:
    task = candidate.task
    scores = candidate.score(task.test.rows)
    if not task.targets:
        return {task.kind: histogram(scores)}
    owning = (task.test.labels > 0) & task.label_is_ownership
    return {t: histogram(scores[(task.test.targets == i) & ~owning]) for i, t in enumerate(task.targets)}


def histogram(values: Floats) -> dict[str, object]:
    """Counts between deciles, or of each value where there are ten or fewer; NaN counted apart."""
    known = values[~np.isnan(values)]
    distinct = np.unique(known)
    if len(distinct) <= 10:
        edges = (distinct[1:] + distinct[:-1]) / 2
    else:
        edges = np.unique(np.quantile(known, _DECILES))
    counts = np.bincount(np.searchsorted(edges, known, "right"), minlength=len(edges) + 1)
    return {
        "edges": [float(f"{edge:.9g}") for edge in edges],
        "counts": counts.tolist(),
        "missing": int(len(values) - len(known)),
    }
