"""Drift as a reason to retrain: alarms of the champion, as `arbiter drift report` tells them."""

from __future__ import annotations

from pathlib import Path

from engine.monitor.drift.examining import PREVIOUS_MS, examine
from engine.monitor.drift.report import Drifting, DriftReport
from engine.monitor.drift.windows import DAY_MS, WindowFolder
from engine.service.drifting import drift_references
from feature_store.schema import FeatureSchema
from model_registry import Root, resolve


def alarms_of(
    folder: Path, *, registry: Root, schema: FeatureSchema, model: str, since_ms: int, now_ms: int
) -> list[Drifting]:
    """What drifts for the champion since an instant; none where nothing was counted.

    Alarms of versions that no longer serve are no reason: they were answered. Raises RegistryError where
    there is no champion.
    """
    subject = f"{model}/{resolve(registry, model)}"
    windows = WindowFolder(folder).windows(since_ms=since_ms - PREVIOUS_MS - DAY_MS)
    sections = examine(windows, drift_references(registry, schema, folder), since_ms=since_ms)
    own = tuple(section for section in sections if section.subject == subject)
    return DriftReport(now_ms, since_ms, "", own, (), 0).drifting
