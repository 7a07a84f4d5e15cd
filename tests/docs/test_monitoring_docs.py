"""docs/monitoring.md names the metrics there are, with their labels, and no others."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.samples import Sample

from engine.monitor.metrics import Metrics

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "monitoring.md").read_text(encoding="utf-8")
_ROW = re.compile(r"^\| `(arbiter_\w+)` \|([^|]*)\|", re.MULTILINE)


def there_are() -> dict[str, set[str]]:
    """Every metric to its labels, once each has been counted."""
    metrics = Metrics()
    metrics.called("arbiter.v1.DecisionService/Decide", "OK", 0.001)
    metrics.decided("web", "action")
    metrics.serving("sha256:0")
    metrics.reloaded(well=True)
    metrics.checkpointed(well=False)
    samples: list[Sample] = [sample for metric in metrics.registry.collect() for sample in metric.samples]
    return {
        re.sub(r"_(bucket|sum|count)$", "", sample.name): set(sample.labels) - {"le"} for sample in samples
    }


def test_every_metric_is_told_of_with_its_labels() -> None:
    """One row for each metric, and none that nobody counts."""
    told = {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in _ROW.findall(PAGE)}

    assert told == there_are()
