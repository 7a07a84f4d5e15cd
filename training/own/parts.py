"""Which rows are learnt from, which choose and calibrate, and which test: nobody is in two places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from training.dataset import Floats, Index
from training.errors import DataRefused
from training.instants import written_instant
from training.own.labels import Instants
from training.own.plan import Split

FEWEST_ROWS: Final = 64
"""Rows of a part: the golden rows are taken from the test rows."""
FEWEST_OF_A_CLASS: Final = 20
"""Rows of each class in a part: a figure of fewer says nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """Places of rows, ascending. `words` tells people how they were made."""

    train: Index
    validation: Index
    test: Index
    words: str

    @property
    def named(self) -> dict[str, Index]:
        """The three by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}


def split_rows(
    split: Split,
    *,
    labels: Floats,
    groups: Index,
    from_ms: Instants | None,
    until_ms: Instants | None,
    seed: int,
    source: str,
) -> Parts:
    """The parts of rows whose labels and groups, (n,), are given. Raises DataRefused for parts too small.

    By time, rows whose label looks into the next part are left out: it would tell what is tested there.
    """
    if split.by == "time":
        assert from_ms is not None  # the plan asks for it
        assert until_ms is not None
        parts = _by_time(split, from_ms, until_ms)
    else:
        parts = _by_group(split, labels=labels, groups=groups, seed=seed)
    problems = []
    for name, rows in parts.named.items():
        positives = int(labels[rows].sum())
        if len(rows) < FEWEST_ROWS or min(positives, len(rows) - positives) < FEWEST_OF_A_CLASS:
            problems.append(
                f"the {name} part has {len(rows):,} rows, {positives:,} of them positive; at least "
                f"{FEWEST_ROWS} rows and {FEWEST_OF_A_CLASS} of each class are needed: bring more rows, or "
                "change `split`"
            )
    if problems:
        raise DataRefused(source, tuple(problems))
    return parts


def _by_group(split: Split, *, labels: Floats, groups: Index, seed: int) -> Parts:
    """At random by group; each part has the same share of groups with a positive row."""
    count = int(groups.max()) + 1
    has_positive = np.bincount(groups, labels, count) > 0
    order = np.random.default_rng(seed).permutation(count)
    part_of = np.zeros(count, dtype=np.intp)
    for of_class in (order[has_positive[order]], order[~has_positive[order]]):
        tested = round(len(of_class) * split.test)
        validated = round(len(of_class) * split.validation)
        part_of[of_class[:tested]] = 2
        part_of[of_class[tested : tested + validated]] = 1
    train, validation, test = (np.flatnonzero(part_of[groups] == part) for part in range(3))
    what = "groups" if split.by == "group" else "customers"
    sizes = f"{len(train)}/{len(validation)}/{len(test)}"
    return Parts(train, validation, test, f"{sizes} rows to train, validate, test; whole {what}, stratified")


def _by_time(split: Split, from_ms: Instants, until_ms: Instants) -> Parts:
    """The latest rows test, those before them validate; rows of one instant stay together."""
    ordered = np.sort(from_ms)
    test_ms = int(ordered[min(int(len(ordered) * (1 - split.test)), len(ordered) - 1)])
    validation_ms = int(ordered[int(len(ordered) * (1 - split.test - split.validation))])
    test = np.flatnonzero(from_ms >= test_ms)
    validation = np.flatnonzero((from_ms >= validation_ms) & (from_ms < test_ms) & (until_ms <= test_ms))
    train = np.flatnonzero((from_ms < validation_ms) & (until_ms <= validation_ms))
    purged = len(from_ms) - len(test) - len(validation) - len(train)
    words = (
        f"{len(train)}/{len(validation)}/{len(test)} rows to train, validate, test; by time: validation from "
        f"{written_instant(validation_ms)}, test from {written_instant(test_ms)}"
        + (f"; {purged} rows left out whose labels look into the next part" if purged else "")
    )
    return Parts(train, validation, test, words)
