"""The explanation kernel in NumPy: what machine code does, for machines that allow none.

Some twenty times slower, and the same to the bit: the same products and sums in the same order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final

import numpy as np

from engine.models.forests import LANES, Forests
from engine.models.trees import Flags, Floats, Places, Rows

_ROWS_TOGETHER: Final = 32
"""Rows worked on together: more take more memory, some 2 MB each, and are no faster."""


@dataclass(frozen=True, slots=True, eq=False)
class _Splits:
    """Some splits at some rows, in the words of `engine.models.forests`; each (splits, n or 1, LANES or 1).

    `left_out` is -1 / (1 - t). `h`, `inverse` 1 / h and `weight` (1 - z) / h are of the branch that is taken.
    """

    is_open: Flags
    shares: Floats
    rest: Floats
    left_out: Floats
    ratio: tuple[Floats, ...]
    cover: tuple[Floats, ...]
    end: tuple[Floats, ...]
    h: Floats
    inverse: Floats
    weight: Floats


@dataclass(frozen=True, eq=False)
class PlainKernel:
    """Walks all forests at once, level by level."""

    forests: Forests
    input_count: int

    @property
    def size_bytes(self) -> int:
        """Memory of the forests."""
        return self.forests.size_bytes

    def explain(self, rows: Rows, found: Floats) -> None:
        """Puts the share of each input into all but the last column of `found`."""
        for start in range(0, len(rows), _ROWS_TOGETHER):
            some = slice(start, start + _ROWS_TOGETHER)
            found[some, :-1] = self._of_some(rows[some])

    def _of_some(self, rows: Rows) -> Floats:
        """The shares of some rows, shape (n, inputs)."""
        slots = np.ones((self._slots, len(rows), LANES))
        weights = self._go_down(rows, slots)
        given = self._come_back(weights, slots)
        lanes = np.array(
            [
                [np.bincount(self._inputs_in_order, lane, self.input_count) for lane in of_row.T]
                for of_row in given[self._order].transpose(1, 0, 2)
            ]
        )
        shares: Floats = (lanes[:, 0] + lanes[:, 1]) + (lanes[:, 2] + lanes[:, 3])
        return shares

    def _go_down(self, rows: Rows, slots: Floats) -> Floats:
        """From the roots: fills the slots with products; what branches weigh, shape (splits, 2, n, LANES)."""
        count = len(self.forests.splits)
        goes_left = self._goes_left(rows)
        taken = np.ones((2 * count + 1, len(rows)), dtype=np.bool_)
        behind = np.empty((count + 1, 2, len(rows), LANES))  # of a branch that was taken: 1 / h, (1 - z) / h
        behind[0, 0], behind[0, 1] = 1.0, 0.0  # of no split
        weights = np.empty((count, 2, len(rows), LANES))
        for level in self._levels:
            left = goes_left[level]
            is_open = taken[self._before[level]]
            taken[1 + 2 * level], taken[2 + 2 * level] = left & is_open, ~left & is_open
            inverse, weight = np.moveaxis(behind[(self._before[level] + 1) // 2], 1, 0)
            at = self._at(level, left, is_open)
            behind[level + 1, 0], behind[level + 1, 1] = at.inverse, at.weight
            for side, goes in enumerate((left, ~left)):
                mine = goes[:, :, None]
                weighs = at.shares * (np.where(mine, at.weight, at.left_out) - weight)
                weights[level, side] = np.where(at.is_open, weighs, 0.0)
                change = np.where(mine, at.h, at.rest * at.ratio[side]) * inverse
                factor = np.where(at.is_open, change, at.cover[side]) * at.end[side]
                slots[(self._left, self._right)[side][level]] = slots[level] * factor
        return weights

    def _at(self, level: Places, left: Flags, is_open: Flags) -> _Splits:
        """What the splits of a level come to for rows that go left there or right."""
        splits, lanes = self.forests.splits[level], self.forests.quadrature[self._forest[level]][:, :, None]
        points, shares = lanes[:, 0], lanes[:, 1]
        rest = 1.0 - points
        ratio = tuple(splits["ratio"].T[:, :, None, None])
        taken = np.where(left[:, :, None], ratio[0], ratio[1])
        h = points + rest * taken
        inverse = 1.0 / h
        return _Splits(
            is_open=is_open[:, :, None],
            shares=shares,
            rest=rest,
            left_out=-1.0 / rest,
            ratio=ratio,
            cover=tuple(splits["cover"].T[:, :, None, None]),
            end=tuple(splits["end"].T[:, :, None, None]),
            h=h,
            inverse=inverse,
            weight=(1.0 - taken) * inverse,
        )

    def _come_back(self, weights: Floats, slots: Floats) -> Floats:
        """From the leaves: what each split gives its input, shape (splits, n, LANES)."""
        given = np.empty((len(weights), *slots.shape[1:]))
        for level in reversed(self._levels):
            left, right = slots[self._left[level]], slots[self._right[level]]
            slots[level] = left + right
            given[level] = left * weights[level, 0] + right * weights[level, 1]
        return given

    def _goes_left(self, rows: Rows) -> Flags:
        """Whether each row goes left at each split, shape (splits, n)."""
        splits = self.forests.splits
        values = rows.T[splits["input"]]
        missing = np.isnan(values) & (splits["missing_left"] == 1)[:, None]
        goes_left: Flags = (values <= splits["threshold"][:, None]) | missing
        return goes_left

    @cached_property
    def _forest(self) -> Places:
        """The forest of each split, shape (splits,)."""
        return np.repeat(np.arange(len(self.forests.roots)), np.diff(self.forests.firsts))

    @cached_property
    def _left(self) -> Places:
        return self._slot("left")

    @cached_property
    def _right(self) -> Places:
        return self._slot("right")

    def _slot(self, side: str) -> Places:
        """Slots among those of all forests: all splits first, then all leaves."""
        firsts, sizes = self.forests.firsts[:-1], np.diff(self.forests.firsts)
        leaves = sizes + self.forests.roots
        first_leaf = len(self.forests.splits) + np.cumsum(leaves) - leaves
        slot = self.forests.splits[side].astype(np.intp)
        is_leaf = slot >= sizes[self._forest]
        return slot + np.where(is_leaf, (first_leaf - sizes)[self._forest], firsts[self._forest])

    @cached_property
    def _slots(self) -> int:
        """Slots of all forests."""
        return 2 * len(self.forests.splits) + int(self.forests.roots.sum())

    @cached_property
    def _before(self) -> Places:
        """Branches among those of all forests; 0 stays the one of nobody."""
        before = self.forests.splits["before"].astype(np.intp)
        shifted: Places = np.where(before > 0, before + 2 * self.forests.firsts[self._forest], 0)
        return shifted

    @cached_property
    def _levels(self) -> list[Places]:
        depth = self.forests.depth
        return [np.flatnonzero(depth == level) for level in range(int(depth.max()) + 1)]

    @cached_property
    def _order(self) -> Places:
        """The order in which machine code comes back: forest by forest, the last split first."""
        firsts = self.forests.firsts
        runs = [np.arange(end - 1, start - 1, -1) for start, end in pairwise(firsts.tolist())]
        return np.concatenate(runs)

    @cached_property
    def _inputs_in_order(self) -> Places:
        return self.forests.splits["input"][self._order].astype(np.intp)
