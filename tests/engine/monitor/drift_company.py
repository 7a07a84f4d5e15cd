"""Streams of customers to count: the demo's own, drawn with and without a change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from engine.monitor.drift.binning import InputBinning, ModelReference
from engine.monitor.drift.counts import BUCKETS, ModelCounts, WindowCounts, buckets_of
from engine.monitor.drift.examining import References
from engine.service.drifting import reference_of
from engine.settings import Settings
from feature_store.loading import load_customers
from feature_store.schema import FeatureSchema, load_schema

Rows = npt.NDArray[np.float32]
Change = Callable[[Rows], None]
MODEL = "churn/1"
HOUR_MS = 3_600_000


@dataclass(frozen=True)
class Customers:
    """The demo company's customers, their values (n, features), and the churn model's reference."""

    schema: FeatureSchema
    names: tuple[str, ...]
    values: Rows
    reference: ModelReference

    @property
    def references(self) -> References:
        """What windows are compared with: training alone."""
        numeric = frozenset(f.name for f in self.schema.feature if f.type in ("int", "double"))
        return References(lambda _model: self.reference, numeric)

    def place(self, name: str) -> int:
        """Where a feature is in a row."""
        return self.schema.index[name]

    def window(
        self, rng: np.random.Generator, decisions: int, *, hour: int = 0, change: Change | None = None
    ) -> WindowCounts:
        """What is counted of decisions in an hour, each for any of the customers."""
        chosen = rng.integers(0, len(self.values), decisions)
        rows = self.values[chosen]
        if change is not None:
            change(rows)
        return self.counted(rows, [self.names[i] for i in chosen], hour=hour)

    def counted(self, rows: Rows, names: list[str], *, hour: int = 0) -> WindowCounts:
        """The counts of rows and their customers."""
        binning = InputBinning({MODEL: self.reference}, self.schema)
        inputs = binning.count(rows, {MODEL: np.ones(len(rows), dtype=np.bool_)})[MODEL]
        customers = np.bincount(buckets_of(names), minlength=BUCKETS)
        counts = ModelCounts(len(rows), customers, inputs)
        return WindowCounts(hour * HOUR_MS, (hour + 1) * HOUR_MS, {MODEL: counts})


@cache
def demo_customers() -> Customers:
    """Loaded once."""
    settings = Settings()
    schema = load_schema(settings.feature_schema)
    path = settings.feature_schema.parent / "customers.csv.gz"
    loaded = load_customers(path, schema=schema, as_of_ms=0)
    reference = reference_of(settings.registry, "churn", 1)
    assert reference is not None
    values = np.stack([vector.values for _, vector in loaded])
    return Customers(schema, tuple(name for name, _ in loaded), values, reference)
