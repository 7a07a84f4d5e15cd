"""What was measured of how cost grows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Point:
    """One size of one dimension. `per_s` is of servers, the latencies of decisions in this process."""

    name: str
    size: int
    cpu_us: float
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    per_s: float = 0.0


def of_dimension(points: Sequence[Point], name: str) -> list[Point]:
    """The points of a dimension, as they were measured: from small to large."""
    return [point for point in points if point.name == name]


def exponents(points: Sequence[Point], name: str) -> list[float]:
    """How cost grows between neighbours of a dimension: 0 not at all, 1 in proportion."""
    return [
        math.log(after.cpu_us / before.cpu_us) / math.log(after.size / before.size)
        for before, after in pairwise(of_dimension(points, name))
    ]
