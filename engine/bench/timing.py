"""How benchmarks take time: the best of several rounds, which other work on the machine disturbs least."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def per_item_us(function: Callable[[T], object], items: Sequence[T], *, rounds: int = 15) -> float:
    """Microseconds of one call, over all items, in the best of the rounds."""
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        for item in items:
            function(item)
        best = min(best, time.perf_counter() - started)
    return best / len(items) * 1e6


def best_s(function: Callable[[], object], *, rounds: int = 3) -> float:
    """Seconds of one call, in the best of the rounds."""
    return per_item_us(lambda _: function(), (None,), rounds=rounds) / 1e6
