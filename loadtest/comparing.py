"""Two runs side by side: what became slower or faster, beyond what chance explains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from hdrh.histogram import HdrHistogram

from loadtest.results import Result, Step, latency_ms

COMPARED: Final = (50.0, 99.0, 99.9)
_DRAWS: Final = 400
_BLOCKS_LEAST: Final = 5


@dataclass(frozen=True, slots=True)
class Change:
    """One figure of a rate before and after. `ratio` is after over before, with its 95 % interval.

    The interval is from seconds drawn with replacement, as calls of one second share their fate; it is None
    where a step is too short for it. `clear` where the interval leaves 1 out.
    """

    rate: float
    figure: str
    before: float
    after: float
    ratio: float
    interval: tuple[float, float] | None

    @property
    def clear(self) -> bool:
        """Whether chance is no good explanation."""
        return self.interval is not None and not self.interval[0] <= 1.0 <= self.interval[1]


def changes(before: Result, after: Result, *, seed: int = 1) -> tuple[Change, ...]:
    """Latencies and answers of every rate that both runs tried, by rate."""
    earlier = {step.rate: step for step in before.steps}
    return tuple(
        change
        for step in after.steps
        if step.rate in earlier
        for change in _of_rate(earlier[step.rate], step, seed=seed)
    )


def _of_rate(before: Step, after: Step, *, seed: int) -> list[Change]:
    found = []
    first, second = before.latencies(), after.latencies()
    for percentile in COMPARED:
        interval = _interval(before, after, percentile, seed=seed) if percentile < 99.9 else None
        found.append(
            _change(
                after.rate, f"p{percentile:g}_ms", _at(first, percentile), _at(second, percentile), interval
            )
        )
    found.append(_change(after.rate, "answered_rate", before.answered_rate, after.answered_rate, None))
    return found


def _change(
    rate: float, figure: str, before: float, after: float, interval: tuple[float, float] | None
) -> Change:
    return Change(rate, figure, before, after, after / before if before else float("inf"), interval)


def _at(histogram: HdrHistogram, percentile: float) -> float:
    return latency_ms(histogram, percentile)


def _interval(before: Step, after: Step, percentile: float, *, seed: int) -> tuple[float, float] | None:
    """Of the ratio of mean figures of seconds."""
    name = f"p{percentile:g}_ms"
    parts = [_of_seconds(step, name) for step in (before, after)]
    if min(map(len, parts)) < _BLOCKS_LEAST or not all(map(np.all, parts)):
        return None
    rng = np.random.default_rng(seed)
    first, second = (rng.choice(part, (_DRAWS, len(part))).mean(axis=1) for part in parts)
    low, high = np.quantile(second / first, (0.025, 0.975))
    return float(low), float(high)


def _of_seconds(step: Step, name: str) -> Sequence[float]:
    return [getattr(second, name) for second in step.over_time if second.calls > second.failed]
