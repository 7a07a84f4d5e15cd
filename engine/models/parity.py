"""Whether a version's ONNX file and its flat trees are one model, where rounding would show first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from engine.models.links import relative, score_of_margin
from engine.models.loading import CALIBRATION_TOLERANCE, ServingModel
from engine.models.trees import Flags, Floats, Places, Rows, Trees

LEAF_STEP: Final = 2.0**-18
"""Leaves that are whole multiples of this add up in float32 without rounding (docs/adr/0007)."""
TRIED_SPLITS: Final = 2_000
"""Splits whose boundaries are tried; of larger models a seeded draw, as training has tried them all."""
_ROWS_A_RUN: Final = 4_096
_LEAF: Final = -1


@dataclass(frozen=True, slots=True)
class Parity:
    """What was compared. Another margin is another leaf. Differences are of scores, of values relative."""

    rows: int
    other_margin: int
    largest_difference: float


def compare_trees(model: ServingModel, trees: Trees, *, rows: Rows) -> Parity:
    """Holds the ONNX model to the flat trees on `rows`. Raises ScoringError where it gives no number."""
    other, largest = 0, 0.0
    tolerance = 0.0 if _adds_up_exactly(trees) else CALIBRATION_TOLERANCE
    for start in range(0, len(rows), _ROWS_A_RUN):
        run = rows[start : start + _ROWS_A_RUN]
        expected = tree_margins(trees, run)
        margin, score = model.session.margin_and_score(run)
        allowed = tolerance * np.maximum(1.0, np.abs(expected))
        other += int((~(np.abs(margin - expected) <= allowed)).sum())
        linked = score_of_margin(model.manifest, expected)
        largest = max(largest, float(relative(np.abs(score - linked), linked).max()))
    return Parity(rows=len(rows), other_margin=other, largest_difference=largest)


def tree_margins(trees: Trees, rows: Rows) -> Floats:
    """Log-odds by walking the flat trees, in double, shape (n,)."""
    at = np.broadcast_to(trees.roots, (len(rows), len(trees.roots))).copy()
    line = np.arange(len(rows))[:, None]
    while (inside := trees.left[at] != _LEAF).any():
        x = rows[line, trees.feature[at]]
        goes_left: Flags = np.where(np.isnan(x), trees.missing_left[at], x <= trees.threshold[at])
        at = np.where(inside, np.where(goes_left, trees.left[at], trees.right[at]), at)
    margins: Floats = trees.value[at].sum(axis=1) + trees.base
    return margins


def boundary_rows(trees: Trees, *, like: Rows, seed: int) -> Rows:
    """Rows that reach a split and stand on its threshold, on a float32 neighbour, at NaN or an infinity.

    Six rows for each of at most TRIED_SPLITS splits, float32 (n, inputs). `like` (inputs,) fills what the
    way to the split does not ask for.
    """
    splits = np.flatnonzero(trees.left != _LEAF)
    if len(splits) > TRIED_SPLITS:
        splits = np.sort(np.random.default_rng(seed).choice(splits, TRIED_SPLITS, replace=False))
    parents = _parents(trees)
    rows = [row for split in splits for row in _rows_at(trees, parents, int(split), like)]
    return np.array(rows, dtype=np.float32).reshape(-1, len(like))


def _adds_up_exactly(trees: Trees) -> bool:
    """Whether margins must be equal to the bit; else sums may round, by less than a leaf that matters."""
    steps = trees.value / LEAF_STEP
    return bool((steps == np.round(steps)).all())


def _rows_at(trees: Trees, parents: Places, split: int, like: Rows) -> Iterator[Rows]:
    reaching = _reaching(trees, parents, split, like)
    threshold, infinity = trees.threshold[split], np.float32(np.inf)
    neighbours = (np.nextafter(threshold, -infinity), np.nextafter(threshold, infinity))
    for value in (threshold, *neighbours, np.float32(np.nan), infinity, -infinity):
        row = reaching.copy()
        row[trees.feature[split]] = value
        yield row


def _reaching(trees: Trees, parents: Places, split: int, like: Rows) -> Rows:
    """A row that gets to a split: each input on the way lies in what all splits above leave of it."""
    bounds: dict[int, tuple[np.float32, np.float32]] = {}
    node = split
    while (above := int(parents[node])) != _LEAF:
        feature, threshold = int(trees.feature[above]), trees.threshold[above]
        low, high = bounds.get(feature, (np.float32(-np.inf), np.float32(np.inf)))
        went_left = int(trees.left[above]) == node
        bounds[feature] = (low, min(high, threshold)) if went_left else (max(low, threshold), high)
        node = above
    row = like.copy()
    for feature, (low, high) in bounds.items():
        row[feature] = _within(low, high, like[feature])
    return row


def _within(low: np.float32, high: np.float32, preferred: np.float32) -> np.float32:
    """A value above `low` and at most `high`; NaN where no number is."""
    if low < preferred <= high:
        return preferred
    if low == np.inf:
        return np.float32(np.nan)
    return high if np.isfinite(high) else np.nextafter(low, high)


def _parents(trees: Trees) -> Places:
    """The node above each node; -1 above roots."""
    parents = np.full(len(trees.left), _LEAF, dtype=np.intp)
    splits = np.flatnonzero(trees.left != _LEAF)
    parents[trees.left[splits]] = splits
    parents[trees.right[splits]] = splits
    return parents
