"""What is counted of decisions: fixed bins of inputs, scores and actions. Counts of two streams add up.

Nothing here is of one person: a decision leaves numbers in bins, and one in the bucket of its customer, of
which there are 1,024. The buckets tell how many different customers the decisions are of: a thousand
decisions about one customer say as much of the customers as one does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar
from zlib import crc32

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]
T = TypeVar("T")

BUCKETS: Final = 1024
PERCENTS: Final = 100
"""Bins of a score: each a hundredth wide, the last with 1."""


def buckets_of(customer_ids: Sequence[str]) -> Places:
    """The bucket of each customer, the same in every process; about one in 1,024 customers shares it.

    Ids that follow each other have checksums that spread too evenly, so their bits are mixed as MurmurHash3
    does at its end.
    """
    found = np.fromiter(map(crc32, map(str.encode, customer_ids)), np.uint32, len(customer_ids))
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        found = (found ^ (found >> np.uint32(shift))) * np.uint32(factor)
    return ((found ^ (found >> np.uint32(16))) & np.uint32(BUCKETS - 1)).astype(np.intp)


def _merged(one: dict[str, T], other: dict[str, T], add: Callable[[T, T], T]) -> dict[str, T]:
    both = {name: add(value, other[name]) if name in other else value for name, value in one.items()}
    return both | {name: value for name, value in other.items() if name not in one}


def _empty(size: int) -> Counts:
    return np.zeros(size, dtype=np.int64)


def _added(one: Counts, other: Counts) -> Counts:
    if one.shape != other.shape:
        raise ValueError(f"counts over {len(one)} and over {len(other)} bins do not add up")
    return one + other


@dataclass(slots=True, eq=False)
class Tally:
    """Values in bins, those that are missing, and those that are no value of the feature's type."""

    bins: Counts
    missing: int = 0
    unknown: int = 0

    def __add__(self, other: Tally) -> Tally:
        """Both together. Raises ValueError where their bins are not the same."""
        return Tally(
            _added(self.bins, other.bins), self.missing + other.missing, self.unknown + other.unknown
        )

    @property
    def asked(self) -> int:
        """How often the value was asked for."""
        return int(self.bins.sum()) + self.missing + self.unknown


@dataclass(slots=True, eq=False)
class ScoreTally:
    """Probabilities in bins of a hundredth, and their sum."""

    bins: Counts = field(default_factory=lambda: _empty(PERCENTS))
    total: float = 0.0

    def __add__(self, other: ScoreTally) -> ScoreTally:
        """Both together."""
        return ScoreTally(_added(self.bins, other.bins), self.total + other.total)


@dataclass(slots=True, eq=False)
class ModelCounts:
    """What one version of a model read and said. `inputs` go by feature, `scores` by target."""

    decisions: int = 0
    customers: Counts = field(default_factory=lambda: _empty(BUCKETS))
    inputs: dict[str, Tally] = field(default_factory=dict)
    scores: dict[str, ScoreTally] = field(default_factory=dict)

    def __add__(self, other: ModelCounts) -> ModelCounts:
        """Both together. Raises ValueError where their bins are not the same."""
        return ModelCounts(
            self.decisions + other.decisions,
            self.customers + other.customers,
            _merged(self.inputs, other.inputs, Tally.__add__),
            _merged(self.scores, other.scores, ScoreTally.__add__),
        )


@dataclass(slots=True, eq=False)
class ChannelCounts:
    """The action returned first on one channel, "" for none, and how often."""

    decisions: int = 0
    customers: Counts = field(default_factory=lambda: _empty(BUCKETS))
    actions: dict[str, int] = field(default_factory=dict)

    def __add__(self, other: ChannelCounts) -> ChannelCounts:
        """Both together."""
        return ChannelCounts(
            self.decisions + other.decisions,
            self.customers + other.customers,
            _merged(self.actions, other.actions, int.__add__),
        )


@dataclass(slots=True, eq=False)
class WindowCounts:
    """All that was counted in [from_ms, until_ms). `models` go by name and version, such as "churn/1".

    `uncounted` decisions came faster than they could be counted, or with what has no reference.
    """

    from_ms: int
    until_ms: int
    models: dict[str, ModelCounts] = field(default_factory=dict)
    channels: dict[str, ChannelCounts] = field(default_factory=dict)
    uncounted: int = 0

    def __add__(self, other: WindowCounts) -> WindowCounts:
        """Both together, over the time from the first to the last. Raises ValueError for other bins."""
        return WindowCounts(
            min(self.from_ms, other.from_ms),
            max(self.until_ms, other.until_ms),
            _merged(self.models, other.models, ModelCounts.__add__),
            _merged(self.channels, other.channels, ChannelCounts.__add__),
            self.uncounted + other.uncounted,
        )


def added_up(windows: Iterable[WindowCounts]) -> WindowCounts | None:
    """All of them together; None where there are none. Raises ValueError where their bins differ."""
    found: WindowCounts | None = None
    for window in windows:
        found = window if found is None else found + window
    return found


def effective(decisions: int, customers: Counts) -> float:
    """How many independent customers so many decisions are worth: n * n over the sum of squares a customer.

    Two customers in one bucket look like one; what that adds on average is taken off again. From 1 to
    `decisions`.
    """
    if not decisions:
        return 0.0
    squares = float(np.sum(customers.astype(np.float64) ** 2))
    by_chance = decisions * decisions / BUCKETS
    within = (squares - by_chance) / (1 - 1 / BUCKETS)
    return decisions * decisions / min(max(within, decisions), decisions * decisions)
