"""Tells Prometheus of the alarms that stand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prometheus_client.metrics_core import GaugeMetricFamily

from engine.monitor.drift.alarms import standing

METRIC: Final = "arbiter_drift_alarm"


@dataclass(frozen=True, slots=True)
class DriftAlarms:
    """The alarms that stand, as Prometheus reads them."""

    folder: Path

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """A sample for each alarm, and none where none stands."""
        family = GaugeMetricFamily(
            METRIC, "1 for each variable that drifts.", labels=("subject", "variable", "window")
        )
        for alarm in standing(self.folder).alarms:
            family.add_metric(alarm.name, 1.0)
        yield family
