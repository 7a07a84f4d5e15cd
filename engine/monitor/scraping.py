"""Reads what a server's metrics endpoint says, for commands that show it to people."""

from __future__ import annotations

import math
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from time import monotonic

from prometheus_client.parser import text_string_to_metric_families


class MetricsUnreachable(Exception):
    """Nobody answers at the address of the metrics, or not with metrics."""


@dataclass(frozen=True, slots=True)
class Point:
    """One series at one time."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True, eq=False)
class Scrape:
    """All series at one time, by their full names; `at_s` is of a clock that never steps."""

    at_s: float
    series: Mapping[str, Sequence[Point]]

    def total(self, name: str, **labels: str) -> float:
        """The sum of the series of a name that have these labels."""
        return sum(point.value for point in self._of(name, labels))

    def value(self, name: str) -> float | None:
        """The value of the one series of a name; None where there is none."""
        return next((point.value for point in self.series.get(name, ())), None)

    def by(self, label: str, name: str) -> dict[str, float]:
        """Sums of the series of a name by the value of a label, "" where a series has it not."""
        found: dict[str, float] = {}
        for point in self.series.get(name, ()):
            value = point.labels.get(label, "")
            found[value] = found.get(value, 0.0) + point.value
        return found

    def buckets(self, name: str, **labels: str) -> dict[float, float]:
        """Counts of a histogram's observations up to each limit."""
        found: dict[float, float] = {}
        for point in self._of(f"{name}_bucket", labels):
            limit = float(point.labels["le"])
            found[limit] = found.get(limit, 0.0) + point.value
        return found

    def _of(self, name: str, labels: Mapping[str, str]) -> Iterable[Point]:
        wanted = labels.items()
        return (point for point in self.series.get(name, ()) if wanted <= point.labels.items())


def scrape(address: str, *, timeout_s: float = 5.0) -> Scrape:
    """What the endpoint at HOST:PORT says now. Raises MetricsUnreachable."""
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=timeout_s) as reply:
            return read_scrape(reply.read().decode(), at_s=monotonic())
    except (OSError, HTTPException, ValueError) as error:
        raise MetricsUnreachable(f"no metrics at {address}: {error}") from error


def read_scrape(text: str, *, at_s: float) -> Scrape:
    """The series of a page in Prometheus's text form. Raises ValueError."""
    series: dict[str, list[Point]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            series.setdefault(sample.name, []).append(Point(sample.labels, sample.value))
    return Scrape(at_s, series)


def quantile(share: float, buckets: Mapping[float, float]) -> float | None:
    """The value below which a share of the observations lies, as PromQL's `histogram_quantile` says.

    None where nothing was observed. Beyond the last finite limit it is that limit.
    """
    limits = sorted(buckets)
    total = buckets[limits[-1]] if limits else 0.0
    if not total:
        return None
    rank, below, lower = share * total, 0.0, 0.0
    for limit in limits:
        count = buckets[limit]
        if count >= rank and count > below:
            return lower if math.isinf(limit) else lower + (limit - lower) * (rank - below) / (count - below)
        below, lower = count, lower if math.isinf(limit) else limit
    return lower


def since(now: Mapping[float, float], before: Mapping[float, float]) -> dict[float, float]:
    """What a histogram gained; all of it where it began anew."""
    gained = {limit: count - before.get(limit, 0.0) for limit, count in now.items()}
    return dict(now) if any(count < 0 for count in gained.values()) else gained
