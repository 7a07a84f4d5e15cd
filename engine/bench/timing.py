"""How benchmarks take time: the best of several rounds, which other work on the machine disturbs least.

A short piece of work finds an undisturbed moment more easily than a long one. So what is compared is timed in
pieces that take about as long as each other, or the slower side would seem slower still on a busy machine.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import numpy as np

T = TypeVar("T")
_LARGER_THAN_CACHES: Final = 96 << 20
_CACHE_LINE: Final = 64


def per_item_us(
    function: Callable[[T], object], items: Sequence[T], *, rounds: int = 15, at_once: int = 0
) -> float:
    """Microseconds of one call, over all items. They are timed `at_once` together, all where it is 0.

    Of each of these pieces the best of the rounds counts.
    """
    size = at_once or len(items)
    pieces = [items[start : start + size] for start in range(0, len(items), size)]
    best = [float("inf")] * len(pieces)
    for _ in range(rounds):
        for place, piece in enumerate(pieces):
            started = time.perf_counter()
            for item in piece:
                function(item)
            best[place] = min(best[place], time.perf_counter() - started)
    return sum(best) / len(items) * 1e6


def cold_us(function: Callable[[T], object], items: Sequence[T]) -> float:
    """Microseconds of one call whose tables are in no cache, as after a pause: the median."""
    elsewhere = np.ones(_LARGER_THAN_CACHES, dtype=np.uint8)
    took = []
    for item in items:
        elsewhere[::_CACHE_LINE].sum()
        started = time.perf_counter()
        function(item)
        took.append(time.perf_counter() - started)
    return statistics.median(took) * 1e6


def best_processor_s(function: Callable[[], object], *, rounds: int = 5) -> float:
    """Seconds of the processor that one call takes, in the best of the rounds.

    For work of a single thread that is too long for an undisturbed moment: where nothing else runs it is the
    time that passes, and elsewhere it leaves out the turns of others.
    """
    best = float("inf")
    for _ in range(rounds):
        started = time.process_time()
        function()
        best = min(best, time.process_time() - started)
    return best


def in_turns(*measures: Callable[[], float], turns: int) -> list[float]:
    """The best of each, measured one after the other again and again."""
    found = [[measure() for measure in measures] for _ in range(turns)]
    return [min(best) for best in zip(*found, strict=True)]


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that `percent` percent of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
