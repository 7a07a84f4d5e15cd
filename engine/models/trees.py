"""A tree ensemble as arrays, checked, and cut into what explanations need: bins and leaf paths.

A model input matters only through the bin it falls in, between two neighbouring thresholds or
"missing". A leaf is reached where every input on its path lies in the leaf's set of allowed bins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.float32]
Places = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]


class TreesInvalid(Exception):
    """The arrays do not describe trees."""


@dataclass(frozen=True, slots=True, eq=False)
class Trees:
    """All nodes of all trees, shape (nodes,) each; a leaf has `left` -1.

    A row goes left where its input `feature` is at most `threshold`, or, where it is NaN, where
    `missing_left` says so. `cover` is the number of training rows that reached the node. `roots` has
    shape (trees,). `base` is the margin before any tree.
    """

    feature: Places
    threshold: Rows
    left: Places
    right: Places
    missing_left: Flags
    cover: Floats
    value: Floats
    roots: Places
    base: float


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """The bins of every input the trees read. Bins are numbered over all of them, one input after the other.

    `inputs` (used,) are columns of the model's input; `first_bin` and `missing_bin` (used,) their first
    and last bin. `cuts` (cuts,) are the thresholds, ascending per input, `cut_inputs` their columns, and
    `cut_starts` (used,) where each input's cuts begin.
    """

    inputs: Places
    first_bin: Places
    missing_bin: Places
    cuts: Rows
    cut_inputs: Places
    cut_starts: Places

    def bins_of(self, row: Rows) -> Places:
        """The bin each used input of a row falls in, shape (used,)."""
        above = np.add.reduceat(row[self.cut_inputs] > self.cuts, self.cut_starts, dtype=np.intp)
        return np.where(np.isnan(row[self.inputs]), self.missing_bin, self.first_bin + above)

    def bins_left_of(self, place: int, threshold: np.float32, missing_left: bool) -> Flags:
        """Which bins of the used input at `place` go left at a split, shape (bins of that input,)."""
        cuts = self.cuts_of(place)
        left = np.arange(len(cuts) + 2) <= int(np.searchsorted(cuts, threshold))
        left[-1] = missing_left
        return left

    def cuts_of(self, place: int) -> Rows:
        """The thresholds of the used input at `place`, ascending."""
        start = int(self.cut_starts[place])
        count = int(self.missing_bin[place] - self.first_bin[place]) - 1
        return self.cuts[start : start + count]


@dataclass(frozen=True, slots=True, eq=False)
class Leaf:
    """A leaf seen from the inputs on its path, each once.

    `places` point into `Grid.inputs`; `ratios` are the products of child by parent cover over the
    path's splits on that input; `allowed` are the bins of that input that lead on to this leaf.
    """

    value: float
    places: tuple[int, ...]
    ratios: tuple[float, ...]
    allowed: tuple[Flags, ...]


def read_trees(arrays: Mapping[str, npt.NDArray[np.generic]], *, input_count: int) -> Trees:
    """Trees from the arrays of `trees.npz`. Raises TreesInvalid where they describe none."""
    trees = Trees(
        feature=arrays["feature"].astype(np.intp),
        threshold=arrays["threshold"].astype(np.float32),
        left=arrays["left"].astype(np.intp),
        right=arrays["right"].astype(np.intp),
        missing_left=arrays["missing_left"].astype(np.bool_),
        cover=arrays["cover"].astype(np.float64),
        value=arrays["value"].astype(np.float64),
        roots=arrays["roots"].astype(np.intp),
        base=float(arrays["base"]),
    )
    _check(trees, input_count)
    return trees


def cut_grid(trees: Trees) -> Grid:
    """The bins of every input that some split reads."""
    splits = trees.left >= 0
    inputs = np.unique(trees.feature[splits])
    cuts = [np.unique(trees.threshold[splits & (trees.feature == i)]) for i in inputs]
    counts = np.array([len(c) for c in cuts], dtype=np.intp)
    bins = counts + 2  # one more interval than cuts, and the missing bin
    first_bin = np.cumsum(bins) - bins
    return Grid(
        inputs=inputs,
        first_bin=first_bin,
        missing_bin=first_bin + bins - 1,
        cuts=np.concatenate(cuts) if cuts else np.empty(0, np.float32),
        cut_inputs=np.repeat(inputs, counts),
        cut_starts=np.cumsum(counts) - counts,
    )


def leaf_paths(trees: Trees, grid: Grid) -> list[Leaf]:
    """Every leaf below a split, tree by tree, neighbours next to each other."""
    place_of = {int(column): place for place, column in enumerate(grid.inputs)}
    leaves: list[Leaf] = []
    for root in trees.roots:
        stack: list[tuple[int, dict[int, tuple[float, Flags]]]] = [(int(root), {})]
        while stack:
            node, path = stack.pop()
            if trees.left[node] >= 0:
                stack.extend(_step(trees, grid, place_of[int(trees.feature[node])], node, path))
            elif path:
                leaves.append(_leaf(float(trees.value[node]), path))
    return leaves


def expected_margin(trees: Trees) -> float:
    """The margin's mean over the training rows: what the model says knowing nothing of the customer."""
    total = trees.base
    for root in trees.roots:
        stack = [(int(root), 1.0)]
        while stack:
            node, weight = stack.pop()
            if trees.left[node] < 0:
                total += weight * float(trees.value[node])
                continue
            for child in (int(trees.left[node]), int(trees.right[node])):
                stack.append((child, weight * _cover_ratio(trees, child, node)))
    return total


def _step(
    trees: Trees, grid: Grid, place: int, node: int, path: dict[int, tuple[float, Flags]]
) -> list[tuple[int, dict[int, tuple[float, Flags]]]]:
    """Both children of a split with their paths, the right one first: the stack turns them round."""
    goes_left = grid.bins_left_of(place, trees.threshold[node], bool(trees.missing_left[node]))
    ratio, allowed = path.get(place, (1.0, np.ones_like(goes_left)))
    children = ((int(trees.right[node]), ~goes_left), (int(trees.left[node]), goes_left))
    return [
        (child, {**path, place: (ratio * _cover_ratio(trees, child, node), allowed & side)})
        for child, side in children
    ]


def _leaf(value: float, path: dict[int, tuple[float, Flags]]) -> Leaf:
    return Leaf(
        value=value,
        places=tuple(path),
        ratios=tuple(ratio for ratio, _ in path.values()),
        allowed=tuple(allowed for _, allowed in path.values()),
    )


def _cover_ratio(trees: Trees, child: int, parent: int) -> float:
    """Share of the parent's rows that went to the child; 0 where no row reached the parent."""
    reached = float(trees.cover[parent])
    return float(trees.cover[child]) / reached if reached > 0.0 else 0.0


def _check(trees: Trees, input_count: int) -> None:
    nodes = len(trees.left)
    same_length = (trees.feature, trees.threshold, trees.right, trees.missing_left, trees.cover, trees.value)
    if any(array.shape != (nodes,) for array in same_length) or trees.roots.ndim != 1:
        raise TreesInvalid("the node arrays have different lengths")
    splits = trees.left >= 0
    for name, found, limit in (
        ("feature", trees.feature[splits], input_count),
        ("left", trees.left[splits], nodes),
        ("right", trees.right[splits], nodes),
        ("roots", trees.roots, nodes),
    ):
        if ((found < 0) | (found >= limit)).any():
            raise TreesInvalid(f"`{name}` points outside 0 to {limit - 1}")
    reached = np.concatenate([trees.left[splits], trees.right[splits], trees.roots])
    if len(np.unique(reached)) != len(reached):
        raise TreesInvalid("a node has two parents, so this is no tree")
    if np.isnan(trees.threshold[splits]).any() or not np.isfinite(trees.value[~splits]).all():
        raise TreesInvalid("a threshold or leaf value is not a number")
    if not (np.isfinite(trees.cover[splits]).all() and (trees.cover >= 0.0).all()):
        raise TreesInvalid("a cover is negative or not a number")
