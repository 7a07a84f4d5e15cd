"""An ensemble laid out for explanations: small forests, level by level, and little to read for each split.

The sums that `engine.models.shapley` describes need, at each quadrature point and for each split, what a
row's way through it multiplies and weighs. With z the ratio of an input after a branch, h = t + (1 - t) z,
and z' and h' those of the branch before on that input (1 where there is none), the row's factor of the input
goes from h' to h where it takes the branch and to (1 - t) z where it takes the other. A branch that is taken
weighs w ((1 - z) / h - (1 - z') / h'), the other w (-1 / (1 - t) - (1 - z') / h'). Where an earlier split on
the input led elsewhere, both branches change the factor by z / z', the ratio of their covers, and weigh
nothing.

All of these could be worked out when a model loads. They would take eleven times the memory: between two
decisions a processor's caches forget that much, and reading it again takes longer than working it out.

A leaf that reads d inputs needs ceil(d / 2) quadrature points. Quadrature adds up over its points, so `LANES`
of them are done at a time, and leaves are done with others that need about as many: a forest holds the splits
above the leaves of one such class, of some trees.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.models.trees import Flags, Floats, Places, Trees, TreesInvalid, cover_ratio

LANES: Final = 4
"""Quadrature points worked on together: doubles of one AVX register, or of two of SSE or NEON."""
SPLIT: Final[np.dtype[np.void]] = np.dtype(
    [
        ("input", "<i4"),
        ("threshold", "<f4"),
        ("left", "<i4"),
        ("right", "<i4"),
        ("before", "<i4"),
        ("missing_left", "<i4"),
        ("ratio", "<f8", 2),
        ("cover", "<f8", 2),
        ("end", "<f8", 2),
    ]
)
"""A split as it is walked. `left` and `right` are slots of its forest; `before` is the branch, of its forest,
by which an earlier split on the same input is left behind, 0 for none. Of its left and its right branch:
`ratio` is z, `cover` the ratio of covers, `end` the value of a leaf, 1 above another split, 0 above leaves of
other forests."""
_TREES_TOGETHER: Final = 4
"""Trees of one forest: enough to work on some while others wait, few enough for the fastest memory."""
MAX_INPUTS: Final = 1024
"""Different inputs that a leaf may read: far beyond any model, and quadrature for it still takes no time."""
_NOBODY: Final = -1


@dataclass(frozen=True, slots=True, eq=False)
class Forests:
    """The splits of all forests, each forest's level by level with its roots first.

    A forest's split k has slot k and the branches 1 + 2k (left) and 2 + 2k (right); its leaves have the slots
    after its splits. splits: SPLIT (splits,). depth: (splits,). quadrature: (forests, 2, LANES) points t and
    their weights w. firsts: (forests + 1,) where each forest's splits begin. roots: (forests,) how many roots
    each has.
    """

    splits: npt.NDArray[np.void]
    depth: Places
    quadrature: Floats
    firsts: Places
    roots: Places

    @property
    def most_splits(self) -> int:
        """Splits of the largest forest."""
        return int(np.diff(self.firsts).max(initial=0))

    @property
    def most_slots(self) -> int:
        """Slots of the forest that has most: its splits and its leaves."""
        return int((2 * np.diff(self.firsts) + self.roots).max(initial=0))

    @property
    def size_bytes(self) -> int:
        """Memory of all arrays."""
        arrays = (self.splits, self.depth, self.quadrature, self.firsts, self.roots)
        return sum(array.nbytes for array in arrays)


def lay_out(trees: Trees) -> Forests:
    """The forests of an ensemble; none where no tree has a split.

    Raises TreesInvalid where a leaf reads more than MAX_INPUTS inputs.
    """
    ways = _ways(trees)
    parts = [part for reach in _reaches(trees, ways) for part in _parts(trees, ways, reach)]
    if not parts:
        return Forests(
            splits=np.empty(0, SPLIT),
            depth=np.empty(0, np.intp),
            quadrature=np.empty((0, 2, LANES)),
            firsts=np.zeros(1, np.intp),
            roots=np.empty(0, np.intp),
        )
    sizes = np.concatenate([np.diff(part.firsts) for part in parts])
    return Forests(
        splits=np.concatenate([part.splits for part in parts]),
        depth=np.concatenate([part.depth for part in parts]),
        quadrature=np.concatenate([part.quadrature for part in parts]),
        firsts=np.concatenate([[0], np.cumsum(sizes)]),
        roots=np.concatenate([part.roots for part in parts]),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Ways:
    """How nodes are reached; every array but `order` is by node.

    order: nodes level by level. parent, tree, depth. before: for a split, the child of the nearest earlier
    split on its input that its way goes through. ratio: for a child, the product of child by parent covers
    over its way's splits on its parent's input. inputs: how many different inputs its way reads.
    """

    order: Places
    parent: Places
    tree: Places
    depth: Places
    before: Places
    ratio: Floats
    inputs: Places


def _ways(trees: Trees) -> _Ways:
    count = len(trees.left)
    parent, tree, depth = (np.full(count, _NOBODY, dtype=np.intp) for _ in range(3))
    tree[trees.roots], depth[trees.roots] = np.arange(len(trees.roots)), 0
    levels = [trees.roots]
    while len(levels[-1]):
        above = levels[-1][trees.left[levels[-1]] >= 0]
        below = np.column_stack([trees.left[above], trees.right[above]]).ravel()
        parent[below] = np.repeat(above, 2)
        tree[below], depth[below] = tree[parent[below]], depth[parent[below]] + 1
        levels.append(below)
    order = np.concatenate(levels)
    before = _before(trees, order, parent)
    ratio, inputs = np.ones(count), np.zeros(count, dtype=np.intp)
    for level in levels[1:]:
        split = parent[level]
        earlier = before[split]
        ratio[level] = cover_ratio(trees, level, split) * np.where(earlier >= 0, ratio[earlier], 1.0)
        inputs[level] = inputs[split] + (earlier < 0)
    return _Ways(order, parent, tree, depth, before, ratio, inputs)


def _before(trees: Trees, order: Places, parent: Places) -> Places:
    """`_Ways.before`: all splits climb towards their roots until they meet their input again."""
    before = np.full(len(parent), _NOBODY, dtype=np.intp)
    climbing = order[trees.left[order] >= 0]
    here = climbing
    while len(climbing):
        above = parent[here]
        met = (above >= 0) & (trees.feature[above] == trees.feature[climbing])
        before[climbing[met]] = here[met]
        on = (above >= 0) & ~met
        climbing, here = climbing[on], above[on]
    return before


@dataclass(frozen=True, slots=True, eq=False)
class _Reach:
    """The leaves that need `passes` times LANES points; `kept`, (nodes,), are they and all above them."""

    passes: int
    kept: Flags


def _reaches(trees: Trees, ways: _Ways) -> Iterator[_Reach]:
    leaves = ways.order[(trees.left[ways.order] < 0) & (ways.parent[ways.order] >= 0)]
    most = int(ways.inputs[leaves].max(initial=0))
    if most > MAX_INPUTS:
        raise TreesInvalid(f"a leaf reads {most} different inputs, at most {MAX_INPUTS} can be explained")
    needed = -(-ways.inputs[leaves] // (2 * LANES))
    passes = 2 ** np.ceil(np.log2(needed)).astype(np.intp)  # classes by doubling: few, and hardly too many
    for each in np.unique(passes).tolist():
        kept = np.zeros(len(trees.left), dtype=np.bool_)
        below = leaves[passes == each]
        while len(below):
            kept[below] = True
            above = ways.parent[below]
            below = np.unique(above[(above >= 0) & ~kept[above]])
        yield _Reach(each, kept)


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Forests of one class of leaves at LANES of its quadrature points; as in Forests."""

    splits: npt.NDArray[np.void]
    depth: Places
    quadrature: Floats
    firsts: Places
    roots: Places


def _parts(trees: Trees, ways: _Ways, reach: _Reach) -> Iterator[_Part]:
    """One for each LANES quadrature points of the class; they differ in nothing else."""
    chosen = ways.order[reach.kept[ways.order] & (trees.left[ways.order] >= 0)]
    _, rank = np.unique(ways.tree[chosen], return_inverse=True)
    forest = rank // _TREES_TOGETHER
    sorting = np.argsort(forest, kind="stable")
    chosen, forest = chosen[sorting], forest[sorting]
    firsts = np.searchsorted(forest, np.arange(forest[-1] + 2))
    place = np.full(len(trees.left), _NOBODY, dtype=np.intp)
    place[chosen] = np.arange(len(chosen)) - firsts[forest]
    children = np.column_stack([trees.left[chosen], trees.right[chosen]])
    splits = _splits(trees, ways, chosen, place, _slots(children, place, forest, firsts))
    splits["ratio"] = ways.ratio[children]
    splits["cover"] = cover_ratio(trees, children, chosen[:, None])
    splits["end"] = np.where(
        place[children] >= 0, 1.0, np.where(reach.kept[children], trees.value[children], 0.0)
    )
    roots = np.bincount(forest[ways.parent[chosen] < 0], minlength=len(firsts) - 1)
    points, weights = _quadrature(reach.passes * LANES)
    for start in range(0, len(points), LANES):
        lanes = np.stack([points[start : start + LANES], weights[start : start + LANES]])
        yield _Part(splits, ways.depth[chosen], np.tile(lanes, (len(roots), 1, 1)), firsts, roots)


def _slots(children: Places, place: Places, forest: Places, firsts: Places) -> Places:
    """Slots of left and right children, shape (splits, 2): splits have their place, leaves come after."""
    found = place[children]
    leaf = (found < 0).ravel()
    before: Places = np.cumsum(leaf) - leaf  # leaves up to here
    offset = np.append(before, leaf.sum())[2 * firsts[:-1]]
    after = before - np.repeat(offset[forest], 2) + np.repeat(np.diff(firsts)[forest], 2)
    return np.where(found < 0, after.reshape(found.shape), found)


def _splits(trees: Trees, ways: _Ways, chosen: Places, place: Places, slots: Places) -> npt.NDArray[np.void]:
    splits = np.zeros(len(chosen), dtype=SPLIT)
    splits["input"], splits["threshold"] = trees.feature[chosen], trees.threshold[chosen]
    splits["left"], splits["right"] = slots[:, 0], slots[:, 1]
    splits["missing_left"] = trees.missing_left[chosen]
    through = ways.before[chosen]
    earlier = ways.parent[through]
    branch = 1 + 2 * place[earlier] + (trees.right[earlier] == through)
    splits["before"] = np.where(through >= 0, branch, 0)
    return splits


def _quadrature(count: int) -> tuple[Floats, Floats]:
    """Gauss-Legendre points and weights on [0, 1], exact for polynomials of degree 2 count - 1."""
    points, weights = np.polynomial.legendre.leggauss(count)
    return (points + 1.0) / 2.0, weights / 2.0
