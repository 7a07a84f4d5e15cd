"""Scores one row for many askers in one walk down the trees: what a decision asks of a model.

A decision asks a propensity model about the same customer for each target. The rows differ in the few inputs
that name the target or are hidden for it, so most branches lead all askers the same way. The walk goes down a
tree with all of them at once and parts only where such an input does; a leaf adds its value for all, or for
those who came. onnxruntime goes down every tree again for each row.

The sums are those of onnxruntime to the bit, as leaves are such that no order of adding rounds
(docs/adr/0007); where they are not, nothing walks and onnxruntime scores. The steps from the margin to the
score stay onnxruntime's. Why: docs/adr/0030-scores-by-one-walk.md.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from engine.models.machine_code import MachineCode, machine_code
from engine.models.onnx_parts import Ensemble
from engine.models.trees import Flags, Floats, Places, Rows

MAX_ASKERS: Final = 64
"""Askers of one walk: bits of a word."""
_MAX_DEPTH: Final = 255
"""Branches above a leaf, for each of which the walk may have one to come back to."""
_LEAF_STEP: Final = 2.0**-18
_EXACT_SUM: Final = 2.0**6
"""A float32 holds whole multiples of the step exactly up to here."""
_NOBODY: Final = -1
_BRANCH: Final[np.dtype[np.void]] = np.dtype(
    [
        ("input", "<i4"),
        ("threshold", "<f4"),
        ("left", "<i4"),
        ("right", "<i4"),
        ("if_left", "<u8"),
        ("if_right", "<u8"),
        ("missing_left", "<u8"),
    ]
)
"""`if_left` are the askers who go left where the row's own value does, `if_right` those where it does not."""


class Walk:
    """The way of a model's askers down its trees. Immutable and without buffers, so threads share it."""

    def __init__(self, code: MachineCode, ensemble: Ensemble, templates: Rows) -> None:
        """`templates` (askers, inputs) are as `PropensityScoring` has them; see `walk_of`."""
        self._askers = len(templates)
        self._everybody = (1 << self._askers) - 1
        self._run = code.walk
        self._branches = _branches(ensemble, templates)
        self._values = ensemble.value[ensemble.left == _NOBODY].astype(np.float64)
        self._roots = _places(ensemble)[ensemble.roots].astype(np.int64)
        arrays = (self._branches, self._values, self._roots)
        self._walk = np.array([*(array.ctypes.data for array in arrays), len(self._roots)], dtype=np.int64)
        self._walk_at = self._walk.ctypes.data
        self._width = templates.shape[1]

    def margins(self, row: Rows, asked: Flags | None = None) -> Floats:
        """What the trees add up to for those asked, all where it is None, in their order, shape (n,).

        `row` is float32 of shape (inputs,), with 0 where a template says what is read.
        """
        if row.shape != (self._width,) or row.dtype != np.float32:
            raise ValueError(f"the row is {row.dtype} {row.shape}; the model reads ({self._width},)")
        who = self._everybody
        if asked is not None:
            who = int.from_bytes(np.packbits(asked, bitorder="little").tobytes(), "little")
        sums = np.zeros(MAX_ASKERS + 1)
        if who:
            row = np.ascontiguousarray(row)
            self._run(self._walk_at, row.ctypes.data, who, sums.ctypes.data)
        alone = sums[: self._askers] if asked is None else sums[: self._askers][asked]
        margins: Floats = alone + sums[MAX_ASKERS]
        return margins


def walk_of(ensemble: Ensemble, templates: Rows, *, own_columns: Places) -> Walk | None:
    """The walk for some askers; None where onnxruntime must score.

    An asker's row is the customer's plus its template (askers, inputs): 0 for the customer's own value, which
    only the columns in `own_columns` have, NaN for a hidden one, or a value of the asker.
    """
    code = machine_code()
    if code is None or len(templates) > MAX_ASKERS or not adds_up_exactly(ensemble) or _is_deep(ensemble):
        return None
    given = ~np.isnan(templates) & (templates != 0.0)
    if given[:, own_columns].any() or int(ensemble.feature.max(initial=0)) >= templates.shape[1]:
        return None
    return Walk(code, ensemble, templates)


def adds_up_exactly(ensemble: Ensemble) -> bool:
    """Whether the leaves' sums are exact in float32 in any order."""
    steps = ensemble.value / _LEAF_STEP
    tree = np.searchsorted(ensemble.roots, np.arange(len(steps)), side="right") - 1
    largest = np.zeros(len(ensemble.roots))
    np.maximum.at(largest, tree, np.abs(ensemble.value))
    return bool(np.isfinite(steps).all() and (steps == np.round(steps)).all() and largest.sum() <= _EXACT_SUM)


def _is_deep(ensemble: Ensemble) -> bool:
    level = ensemble.roots
    for _ in range(_MAX_DEPTH):
        level = level[ensemble.left[level] != _NOBODY]
        if not len(level):
            return False
        level = np.concatenate([ensemble.left[level], ensemble.right[level]])
    return True


def _places(ensemble: Ensemble) -> Places:
    """Where the walk finds each node: its number among the branches, or, below 0, among the leaves."""
    is_leaf = ensemble.left == _NOBODY
    return np.where(is_leaf, ~(np.cumsum(is_leaf) - 1), np.cumsum(~is_leaf) - 1)


def _branches(ensemble: Ensemble, templates: Rows) -> npt.NDArray[np.void]:
    split = np.flatnonzero(ensemble.left != _NOBODY)
    places = _places(ensemble)
    branches = np.zeros(len(split), dtype=_BRANCH)
    feature, threshold, missing_left = (
        ensemble.feature[split], ensemble.threshold[split], ensemble.missing_left[split],
    )  # fmt: skip
    branches["input"], branches["threshold"], branches["missing_left"] = feature, threshold, missing_left
    branches["left"], branches["right"] = places[ensemble.left[split]], places[ensemble.right[split]]
    said = templates[:, feature]  # (askers, branches)
    hidden = np.isnan(said)
    always = np.where(hidden, missing_left, (said != 0.0) & (said <= threshold))
    own = ~hidden & (said == 0.0)
    bits = (np.uint64(1) << np.arange(len(templates), dtype=np.uint64))[:, None]
    branches["if_left"] = np.where(own | always, bits, np.uint64(0)).sum(axis=0, dtype=np.uint64)
    branches["if_right"] = np.where(always, bits, np.uint64(0)).sum(axis=0, dtype=np.uint64)
    return branches
