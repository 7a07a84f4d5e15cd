"""Exact Shapley values of a tree ensemble, without the library that trained it.

For a leaf with value v whose path reads inputs i, with cover ratios z_i and o_i = 1 where the row's
value of i leads on to the leaf, else 0:

    phi_i = v (o_i - z_i) * integral over t in [0, 1] of prod_{j != i} (t o_j + (1 - t) z_j)

The integrand is a polynomial of degree d - 1 in t, so Gauss-Legendre with ceil(d / 2) nodes is exact.
The sum over leaves is path-dependent TreeSHAP (Lundberg et al.), LightGBM's `pred_contrib`.

What makes it fast: o_i depends on the bin of input i only. Leaves that read few inputs are put into
blocks of at most `MAX_STATES` combinations of distinguishable bins, and a block's summed phi is
tabulated for each when the model loads. One explanation is then one table row per block. Leaves that
read more inputs than a table can hold are integrated when asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from engine.models.trees import (
    Flags,
    Floats,
    Grid,
    Leaf,
    Places,
    Rows,
    Trees,
    cut_grid,
    expected_margin,
    leaf_paths,
)

MAX_STATES = 256
"""Rows of one block's table: larger means fewer look-ups and more memory."""
MAX_TABULATED = 10
"""Inputs of a leaf that is tabulated at most; its own table has 2 ** inputs rows, shared with no other."""
MAX_ROWS = 1 << 20
"""Rows of all leaves' own tables together, some 80 MB; beyond it leaves of fewer inputs are integrated."""
_CHUNK = 1 << 20  # floats of one intermediate array while tables are filled


def leaf_shares(value: Floats, ratio: Floats, inside: Floats) -> Floats:
    """The phi of leaves: `ratio` and `inside` broadcast to (d, ...), `value` to (...); result (d, ...).

    Products over the other inputs are prefix times suffix products: nothing is divided, so a ratio of
    0 is exact.
    """
    depth = ratio.shape[0]
    t, weights = _quadrature((depth + 1) // 2)
    factor = inside[..., None] * t + ratio[..., None] * (1.0 - t)
    others = np.ones_like(factor)
    running = np.ones_like(factor[0])
    for i in range(1, depth):
        running = running * factor[i - 1]
        others[i] = running
    running = np.ones_like(factor[0])
    for i in range(depth - 2, -1, -1):
        running = running * factor[i + 1]
        others[i] *= running
    shares: Floats = value * (inside - ratio) * (others @ weights)
    return shares


@cache
def _quadrature(count: int) -> tuple[Floats, Floats]:
    """Gauss-Legendre nodes and weights on [0, 1]; found once, because it takes longer than an explanation."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return (nodes + 1.0) / 2.0, weights / 2.0


class TreeShapley:
    """Explains rows of one ensemble. Immutable after construction, so threads may share it."""

    def __init__(self, trees: Trees, *, input_count: int) -> None:
        self._input_count = input_count
        self._base = expected_margin(trees)
        self._grid = cut_grid(trees)
        leaves = leaf_paths(trees, self._grid)
        most = _most_inputs_tabulated(leaves)
        narrow = [leaf for leaf in leaves if len(leaf.places) <= most]
        wide = [leaf for leaf in leaves if len(leaf.places) > most]
        self._tables = _tabulate(narrow, self._grid) if narrow else None
        self._wide = _pad(wide, self._grid) if wide else None

    @property
    def base(self) -> float:
        """The expected margin, from which contributions start."""
        return self._base

    def contributions(self, row: Rows) -> Floats:
        """Share of each input in the margin of one row, shape (inputs + 1,), the base last.

        They add up to the margin. `row` is float32 of shape (inputs,), NaN where missing.
        """
        total = np.zeros(self._input_count + 1)
        total[-1] = self._base
        if len(self._grid.inputs):
            bins = self._grid.bins_of(row)
            if self._tables is not None:
                total[:-1] += self._tables.shares(bins, self._input_count)
            if self._wide is not None:
                total[:-1] += self._wide.shares(bins, self._input_count)
        return total


@dataclass(frozen=True, slots=True, eq=False)
class _Tables:
    """Tabulated blocks. `steps[bin, block]` adds up over the row's bins to the block's row in `phi`.

    steps: int32 (bins, blocks). starts: (blocks,) first row of each block. phi: (rows, width), a block's
    inputs left-aligned, zero where it has fewer. columns: (blocks * width,) the model inputs of those.
    """

    steps: np.ndarray[tuple[int, ...], np.dtype[np.int32]]
    starts: Places
    phi: Floats
    columns: Places

    def shares(self, bins: Places, input_count: int) -> Floats:
        """Summed phi per model input, shape (inputs,)."""
        rows = self.steps.take(bins, axis=0).sum(axis=0, dtype=np.intp) + self.starts
        found = self.phi.take(rows, axis=0)
        shares: Floats = np.bincount(self.columns, found.ravel(), input_count).astype(np.float64, copy=False)
        return shares


@dataclass(frozen=True, slots=True, eq=False)
class _WideLeaves:
    """Leaves integrated when asked, padded to one depth with inputs that change nothing (o = z = 1).

    value: (leaves,). ratio, place, low, high, missing: (depth, leaves); bins `low` to `high` lead on to
    the leaf, and so does `missing`, -1 for none. columns: (depth * leaves,) model inputs.
    """

    value: Floats
    ratio: Floats
    place: Places
    low: Places
    high: Places
    missing: Places
    columns: Places

    def shares(self, bins: Places, input_count: int) -> Floats:
        """Summed phi per model input, shape (inputs,)."""
        here = bins[self.place]
        inside = ((here >= self.low) & (here <= self.high)) | (here == self.missing)
        phi = leaf_shares(self.value, self.ratio, inside.astype(np.float64))
        shares: Floats = np.bincount(self.columns, phi.ravel(), input_count).astype(np.float64, copy=False)
        return shares


class _Block:
    """Leaves whose joint table stays small. `cells[place]` labels the bins its leaves tell apart."""

    def __init__(self) -> None:
        self.leaves: list[int] = []
        self.cells: dict[int, Places] = {}

    @property
    def sizes(self) -> dict[int, int]:
        """Number of distinguishable bins per input."""
        return {place: int(cells.max()) + 1 for place, cells in self.cells.items()}

    def accept(self, index: int, leaf: Leaf) -> bool:
        """Takes the leaf in, or leaves the block as it was where the table would be too large."""
        cells = dict(self.cells)
        for place, allowed in zip(leaf.places, leaf.allowed, strict=True):
            cells[place] = _refine(cells.get(place), allowed)
        states = 1
        for labels in cells.values():
            states *= int(labels.max()) + 1
        if states > MAX_STATES and self.leaves:
            return False
        self.leaves.append(index)
        self.cells = cells
        return True


def _refine(cells: Places | None, allowed: Flags) -> Places:
    """Labels 0, 1, ... that tell apart what `cells` or `allowed` tells apart."""
    labels = allowed.astype(np.intp) if cells is None else cells * 2 + allowed
    used = np.zeros(int(labels.max()) + 1, dtype=np.intp)
    used[labels] = 1
    compact: Places = (np.cumsum(used) - 1)[labels]
    return compact


def _blocks(leaves: list[Leaf]) -> list[_Block]:
    """Neighbouring leaves together: they share most of their path."""
    blocks = [_Block()]
    for index, leaf in enumerate(leaves):
        if not blocks[-1].accept(index, leaf):
            blocks.append(_Block())
            blocks[-1].accept(index, leaf)
    return blocks


def _most_inputs_tabulated(leaves: list[Leaf]) -> int:
    """Inputs up to which leaves are tabulated, so that the tables stay within MAX_ROWS."""
    counts = np.bincount([len(leaf.places) for leaf in leaves], minlength=1)[: MAX_TABULATED + 1]
    rows = np.cumsum(counts * 2 ** np.arange(len(counts)))
    return int(np.count_nonzero(rows <= MAX_ROWS)) - 1


def _tabulate(leaves: list[Leaf], grid: Grid) -> _Tables:
    blocks = _blocks(leaves)
    width = max(len(block.cells) for block in blocks)
    by_leaf = _leaf_tables(leaves)
    steps = np.zeros((int(grid.missing_bin[-1]) + 1, len(blocks)), dtype=np.int32)
    columns = np.zeros((len(blocks), width), dtype=np.intp)  # where a block is narrower its phi are 0
    phi = [_block_table(block, leaves, by_leaf, width) for block in blocks]
    for number, block in enumerate(blocks):
        stride = 1
        for column, (place, size) in enumerate(block.sizes.items()):
            first, last = int(grid.first_bin[place]), int(grid.missing_bin[place])
            steps[first : last + 1, number] = block.cells[place] * stride
            columns[number, column] = place
            stride *= size
    lengths = np.array([len(table) for table in phi], dtype=np.intp)
    return _Tables(
        steps=steps,
        starts=np.cumsum(lengths) - lengths,
        phi=np.concatenate(phi),
        columns=grid.inputs[columns].ravel(),
    )


def _leaf_tables(leaves: list[Leaf]) -> dict[int, Floats]:
    """For each leaf the phi of every mask of its inputs, shape (2 ** d, d); bit j is o of input j."""
    tables: dict[int, Floats] = {}
    for depth in {len(leaf.places) for leaf in leaves}:
        masks = (np.arange(2**depth) >> np.arange(depth)[:, None] & 1).astype(np.float64)
        these = [index for index, leaf in enumerate(leaves) if len(leaf.places) == depth]
        step = max(1, _CHUNK // (masks.size * depth))
        for start in range(0, len(these), step):
            chunk = these[start : start + step]
            value = np.array([leaves[index].value for index in chunk])[:, None]
            ratio = np.array([leaves[index].ratios for index in chunk]).T[:, :, None]
            phi = leaf_shares(value, ratio, masks[:, None, :])  # (d, leaves, masks)
            tables.update(zip(chunk, phi.transpose(1, 2, 0), strict=True))
    return tables


def _block_table(block: _Block, leaves: list[Leaf], by_leaf: dict[int, Floats], width: int) -> Floats:
    """Summed phi of a block's leaves for every combination of its cells, shape (states, width)."""
    sizes = block.sizes
    states = np.arange(int(np.prod(list(sizes.values()))))
    column_of, cell_of, stride = {}, {}, 1
    for column, (place, size) in enumerate(sizes.items()):
        column_of[place] = column
        cell_of[place] = states // stride % size
        stride *= size
    table = np.zeros((len(states), width))
    for index in block.leaves:
        leaf = leaves[index]
        mask = np.zeros(len(states), dtype=np.intp)
        for bit, (place, allowed) in enumerate(zip(leaf.places, leaf.allowed, strict=True)):
            inside = np.zeros(sizes[place], dtype=np.intp)
            inside[block.cells[place]] = allowed
            mask |= inside[cell_of[place]] << bit
        table[:, [column_of[place] for place in leaf.places]] += by_leaf[index][mask]
    return table


def _pad(leaves: list[Leaf], grid: Grid) -> _WideLeaves:
    shape = (max(len(leaf.places) for leaf in leaves), len(leaves))
    ratio, place = np.ones(shape), np.zeros(shape, dtype=np.intp)
    low, missing = np.zeros(shape, dtype=np.intp), np.full(shape, -1, dtype=np.intp)
    high = np.full(shape, int(grid.missing_bin[-1]), dtype=np.intp)
    for i, leaf in enumerate(leaves):
        for j, (where, allowed) in enumerate(zip(leaf.places, leaf.allowed, strict=True)):
            first = int(grid.first_bin[where])
            through = np.flatnonzero(allowed[:-1])
            ratio[j, i], place[j, i] = leaf.ratios[j], where
            low[j, i] = first + through[0] if len(through) else 0
            high[j, i] = first + through[-1] if len(through) else -1
            missing[j, i] = grid.missing_bin[where] if allowed[-1] else -1
    value = np.array([leaf.value for leaf in leaves])
    columns = grid.inputs[place].ravel()
    return _WideLeaves(value, ratio, place, low, high, missing, columns)
