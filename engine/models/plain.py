"""The explanation kernel in NumPy: what machine code does, for machines that allow none.

Some twenty times slower, and the same to the bit: the same products and sums in the same order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final

import numpy as np

from engine.models.forests import LANES, LEFT, RIGHT, Forests
from engine.models.trees import Flags, Floats, Places, Rows

_ROWS_TOGETHER: Final = 32
"""Rows worked on together: more take more memory, some 1.5 MB each, and are no faster."""


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
        states = self._go_down(rows, slots)
        given = self._come_back(states, slots)
        lanes = np.array(
            [
                [np.bincount(self._inputs_in_order, lane, self.input_count) for lane in of_row.T]
                for of_row in given[self._order].transpose(1, 0, 2)
            ]
        )
        shares: Floats = (lanes[:, 0] + lanes[:, 1]) + (lanes[:, 2] + lanes[:, 3])
        return shares

    def _go_down(self, rows: Rows, slots: Floats) -> Places:
        """From the roots: fills the slots with products; the state of each split, shape (splits, n)."""
        splits, factors = self.forests.splits, self.forests.factors
        goes_left = self._goes_left(rows)
        taken = np.ones((2 * len(splits) + 1, len(rows)), dtype=np.bool_)
        states = np.empty((len(splits), len(rows)), dtype=np.intp)
        for level in self._levels:
            is_open = taken[self._before[level]]
            left, right = goes_left[level] & is_open, ~goes_left[level] & is_open
            taken[1 + 2 * level], taken[2 + 2 * level] = left, right
            states[level] = left * LEFT + right * RIGHT
            factor = factors[level[:, None], states[level]]
            slots[self._left[level]] = slots[level] * factor[:, :, 0]
            slots[self._right[level]] = slots[level] * factor[:, :, 1]
        return states

    def _come_back(self, states: Places, slots: Floats) -> Floats:
        """From the leaves: what each split gives its input, shape (splits, n, LANES)."""
        weights = self.forests.weights
        given = np.empty((len(states), *slots.shape[1:]))
        for level in reversed(self._levels):
            left, right = slots[self._left[level]], slots[self._right[level]]
            weight = weights[level[:, None], states[level]]
            slots[level] = left + right
            given[level] = left * weight[:, :, 0] + right * weight[:, :, 1]
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
