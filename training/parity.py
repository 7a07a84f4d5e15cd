"""The parity gate: the exported model answers as LightGBM does, also where rounding would show first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import onnxruntime

from training.boosting import log_odds
from training.candidate import Candidate
from training.dataset import Floats, Index, Rows
from training.errors import GateFailed
from training.trees import LEAF, Trees

TOLERANCE: Final = 1e-6
"""Largest allowed difference of scores, of values beyond 1 relative to them; margins must be equal."""


@dataclass(frozen=True, slots=True)
class Parity:
    """What was compared. Counts are of rows."""

    rows: int
    other_margin: int
    other_flat_margin: int
    beyond_tolerance: int
    largest_difference: float


def check_parity(candidate: Candidate, model: bytes) -> Parity:
    """Compares the ONNX model and the flat trees with LightGBM's doubles.

    On the held-out rows, on rows at every split (threshold, both float32 neighbours, NaN, both
    infinities) that otherwise reach it, and on rows of nothing but NaN or an infinity. Raises
    GateFailed with counts where one margin differs or one probability by more than 1e-6.
    """
    parity = compare(candidate, model, rows=parity_rows(candidate))
    found = {
        "rows with another margin in ONNX": parity.other_margin,
        "rows with another margin in trees.npz": parity.other_flat_margin,
        f"rows with a probability off by more than {TOLERANCE}": parity.beyond_tolerance,
    }
    failures = tuple(f"{count} of {parity.rows} {what}" for what, count in found.items() if count)
    if failures:
        raise GateFailed(candidate.task.name, failures)
    return parity


def parity_rows(candidate: Candidate) -> Rows:
    """The rows of the comparison, float32 of shape (n, inputs)."""
    test = candidate.task.test.rows
    extremes = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e30, -1e30], dtype=np.float32)
    uniform = np.repeat(extremes[:, None], test.shape[1], axis=1)
    return np.vstack([test, split_rows(candidate.trees, like=test[0]), uniform])


def compare(candidate: Candidate, model: bytes, *, rows: Rows) -> Parity:
    """Counts the rows on which the three forms of the model differ."""
    expected = log_odds(candidate.booster, rows)
    margins, scores = run_onnx(model, rows, output=candidate.calibration.output)
    linked = candidate.calibration.score(expected)
    differences = np.abs(scores - linked) / np.maximum(1.0, np.abs(linked))
    return Parity(
        rows=len(rows),
        other_margin=int((margins != expected).sum()),
        other_flat_margin=int((candidate.trees.margins(rows) != expected).sum()),
        beyond_tolerance=int((~(differences <= TOLERANCE)).sum()),
        largest_difference=float(differences.max()),
    )


def run_onnx(model: bytes, rows: Rows, *, output: str = "probability") -> tuple[Floats, Floats]:
    """Margins and scores of the exported model, as float64 of shape (n,) each."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    margins, scores = session.run(["margin", output], {"input": rows})
    return margins[:, 0].astype(np.float64), scores[:, 0].astype(np.float64)


def split_rows(trees: Trees, *, like: Rows) -> Rows:
    """Six rows for every split, which reach it, with x at the threshold, its two neighbours, NaN, +-inf.

    `like` fills the inputs that the way to the split does not ask for, float32 of shape (inputs,).
    """
    splits = np.flatnonzero(trees.left != LEAF)
    reaching = _reaching_rows(trees, like)[splits]
    threshold = trees.threshold[splits]
    infinity = np.float32(np.inf)
    tried = np.stack(
        [
            threshold,
            np.nextafter(threshold, -infinity),
            np.nextafter(threshold, infinity),
            np.full_like(threshold, np.nan),
            np.full_like(threshold, infinity),
            np.full_like(threshold, -infinity),
        ]
    )
    rows = np.broadcast_to(reaching, (len(tried), *reaching.shape)).copy()
    rows[:, np.arange(len(splits)), trees.feature[splits]] = tried
    return rows.reshape(-1, reaching.shape[1])


def _reaching_rows(trees: Trees, like: Rows) -> Rows:
    """For every node a row that gets there, float32 (nodes, inputs); parents stand before children."""
    rows = np.broadcast_to(like, (len(trees.left), len(like))).copy()
    low = np.full(rows.shape, -np.inf, dtype=np.float32)
    high = np.full(rows.shape, np.inf, dtype=np.float32)
    for node in np.flatnonzero(trees.left != LEAF):
        feature, threshold = trees.feature[node], trees.threshold[node]
        children: Index = np.array([trees.left[node], trees.right[node]], dtype=np.intp)
        rows[children], low[children], high[children] = rows[node], low[node], high[node]
        high[children[0], feature] = threshold
        low[children[1], feature] = threshold
        for child in children:
            rows[child, feature] = _between(low[child, feature], high[child, feature], like[feature])
    return rows


def _between(low: np.float32, high: np.float32, preferred: np.float32) -> np.float32:
    """A value x with low < x <= high, the preferred one if it is; NaN where only that gets there."""
    if low < preferred <= high:
        return preferred
    if np.isinf(low) and low > 0:
        return np.float32(np.nan)
    return high if np.isfinite(high) else np.nextafter(low, np.float32(np.inf))
