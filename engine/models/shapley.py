"""Exact Shapley values of a tree ensemble, without the library that trained it.

For a leaf with value v whose way reads inputs i, with cover ratios z_i and o_i = 1 where the row's value of i
leads on to the leaf, else 0:

    phi_i = v (o_i - z_i) * integral over t in [0, 1] of prod_{j != i} h_j(t),   h_j(t) = t o_j + (1 - t) z_j

The integrand is a polynomial of degree d - 1 in t, so Gauss-Legendre with ceil(d / 2) points is exact. The
sum over leaves is path-dependent TreeSHAP (Lundberg et al.), LightGBM's `pred_contrib`.

What makes it fast: leaves share their ways. At one point t, going down from the root, the product of all h_j
so far is kept at each branch; coming back, the products of the leaves below it, times v, are added up to S. A
branch on input i then gives phi_i the sum over points of w S (o_i - z_i) / h_i, less the same for the split
on i before it, as for these leaves its z_i and o_i no longer hold. What a split needs for that are a few
numbers (`engine.models.forests`), and one division for all points.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from engine.models.forests import lay_out
from engine.models.machine_code import MachineKernel, machine_code
from engine.models.plain import PlainKernel
from engine.models.trees import Floats, Rows, Trees, expected_margin
from model_registry.manifest import Baseline

BASELINE: Final = Baseline(name="training-expectation", version=1)
"""What contributions compare a customer with: the margin expected of the training rows, who follow the trees'
covers where an input is not known. A manifest that names none means this one, version 1."""


class TreeShapley:
    """Explains rows of one ensemble. Immutable after construction, so threads may share it."""

    def __init__(self, trees: Trees, *, input_count: int, compiled: bool = True) -> None:
        """`compiled` False explains without machine code, as where the machine allows none."""
        self._input_count = input_count
        self._base = expected_margin(trees)
        forests = lay_out(trees)
        self._kernel: MachineKernel | PlainKernel | None = None
        if len(forests.splits):
            code = machine_code() if compiled else None
            self._kernel = (
                PlainKernel(forests, input_count)
                if code is None
                else MachineKernel(code, forests, input_count=input_count)
            )

    @property
    def base(self) -> float:
        """The expected margin, from which contributions start."""
        return self._base

    @property
    def size_bytes(self) -> int:
        """Memory of all that is kept to explain this ensemble."""
        return 0 if self._kernel is None else self._kernel.size_bytes

    def contributions(self, row: Rows) -> Floats:
        """Share of each input in the margin of one row, shape (inputs + 1,), the base last.

        They add up to the margin. `row` is float32 of shape (inputs,), NaN where missing.
        """
        found: Floats = self.contributions_of_many(row[None, :])[0]
        return found

    def contributions_of_many(self, rows: Rows) -> Floats:
        """The contributions of each row, shape (n, inputs + 1); a row's are the same in any company."""
        if rows.ndim != 2 or rows.shape[1] != self._input_count:
            raise ValueError(f"rows have shape {rows.shape}; the model reads (n, {self._input_count})")
        found = np.zeros((len(rows), self._input_count + 1))
        found[:, -1] = self._base
        if self._kernel is not None:
            self._kernel.explain(rows, found)
        return found
