"""docs/monitoring.md names the metrics there are, with their labels, and no others."""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from prometheus_client.samples import Sample

from engine.monitor.datadir import DataDirectory
from engine.monitor.drift.alarms import ALARMS_FILE, Alarm, Standing
from engine.monitor.drift.exposing import DriftAlarms
from engine.monitor.exposition import SharedValues
from engine.monitor.metrics import Metrics
from engine.monitor.vitals import Vitals
from engine.monitor.webhooks import Sending, WebhookMetrics

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "monitoring.md").read_text(encoding="utf-8")
_ROW = re.compile(r"^\| (`arbiter_\w+`(?:, `arbiter_\w+`)*) \|([^|]*)\|", re.MULTILINE)
SENDING = Sending(senders=1, attempts={"delivered": 1}, dead=0, waiting=1, waiting_since_ms=1, done_ms=1)


def there_are() -> dict[str, set[str]]:
    """Every metric to its labels, once each has been counted."""
    metrics = Metrics()
    metrics.called("arbiter.v1.DecisionService/Decide", "OK", 0.001)
    metrics.decided("web", "action")
    metrics.degraded("log")
    metrics.unrecorded("answered")
    metrics.serving("sha256:0")
    metrics.reloaded(well=True)
    metrics.checkpointed(well=False)
    metrics.scoring({"churn": 1})
    metrics.models_switched()
    metrics.model_refused("churn")
    metrics.shadow_scored("churn", "scored")
    metrics.rollout_changed("churn", "step_up")
    metrics.started(0.001)
    metrics.refused("arbiter.v1.DecisionService/Decide", "INTERNAL")
    metrics.ready("DecisionService", ready=True)
    metrics.store_asked(0.001)
    Vitals(metrics, unsynced_bytes=lambda: 0).look(0.0)
    metrics.shed("batch", "queue_full")
    metrics.degraded("model:churn")
    metrics.security_reread("roles", well=False)
    metrics.certified(until_s=0.0)
    metrics.exposed(open_to_all=True)
    with TemporaryDirectory() as folder:
        alarm = Alarm("churn/1", "tenure_months", "day", 0, ("psi",), 0.1, 0.05)
        (Path(folder) / ALARMS_FILE).write_bytes(msgspec.json.encode(Standing((alarm,))))
        directory = DataDirectory(Path(folder), {"decisions": Path(folder)}, {"decisions": Path(folder)})
        families = [
            *metrics.registry.collect(), *DriftAlarms(Path(folder)).collect(), *directory.collect(),
            *SharedValues(Path(folder)).collect(), *WebhookMetrics(lambda: SENDING).collect(),
        ]  # fmt: skip
    samples: list[Sample] = [sample for family in families for sample in family.samples]
    return {
        re.sub(r"_(bucket|sum|count)$", "", sample.name): set(sample.labels) - {"le"} for sample in samples
    }


def test_every_metric_is_told_of_with_its_labels() -> None:
    """One row for each metric, and none that nobody counts."""
    told = {
        name: set(re.findall(r"`(\w+)`", labels)) - {"pid"}  # which the library adds for several processes
        for names, labels in _ROW.findall(PAGE)
        for name in re.findall(r"arbiter_\w+", names)
    }

    assert told == there_are()
