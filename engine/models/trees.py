"""A tree ensemble as arrays, checked: what the file of a published version says."""

from __future__ import annotations

import math
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


def expected_margin(trees: Trees) -> float:
    """The margin's mean over the training rows: what the model says knowing nothing of the customer.

    Summed exactly, so that it is the same on every machine. Raises TreesInvalid where it is no number.
    """
    shares = [np.array([trees.base])]
    reached, weight = trees.roots, np.ones(len(trees.roots))
    while len(reached):
        leaf = trees.left[reached] < 0
        shares.append(weight[leaf] * trees.value[reached[leaf]])
        above, share = reached[~leaf], weight[~leaf]
        below = (trees.left[above], trees.right[above])
        weight = np.concatenate([share * cover_ratio(trees, child, above) for child in below])
        reached = np.concatenate(below)
    try:
        return math.fsum(np.concatenate(shares).tolist())
    except (OverflowError, ValueError) as error:
        raise TreesInvalid("covers and leaf values add up to no number") from error


def cover_ratio(trees: Trees, child: Places, parent: Places) -> Floats:
    """Shares of the parents' rows that went to the children; 0 where no row reached the parent."""
    reached = trees.cover[parent]
    ratio: Floats = trees.cover[child] / np.where(reached > 0.0, reached, np.inf)
    return ratio


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
    if not (np.isfinite(trees.cover).all() and (trees.cover >= 0.0).all()):
        raise TreesInvalid("a cover is negative or not a number")
