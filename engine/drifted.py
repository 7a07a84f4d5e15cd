"""The drift report of a data directory: what was counted beside what is normal."""

from __future__ import annotations

from engine.logfiles import DRIFT, log_directory
from engine.monitor.drift.examining import PREVIOUS_MS, examine
from engine.monitor.drift.report import DriftReport, moment
from engine.monitor.drift.windows import DAY_MS, WindowFolder, read_baseline
from engine.service.drifting import drift_references
from engine.settings import Settings
from feature_store.schema import load_schema


def drift_report(settings: Settings, *, since_ms: int, now_ms: int) -> DriftReport | None:
    """Windows from `since_ms` on, without what outcomes say; None where nothing was counted.

    Raises SchemaError.
    """
    folder = log_directory(settings, DRIFT)
    schema = load_schema(settings.feature_schema)
    windows = WindowFolder(folder).windows(since_ms=since_ms - PREVIOUS_MS - DAY_MS)
    if not windows:
        return None
    active = read_baseline(folder)
    told = ""
    if active is not None:
        counted = f"{moment(active.window.from_ms)} to {moment(active.window.until_ms)}"
        told = f"{counted}, by {active.actor} at {moment(active.activated_at_ms)}"
    sections = examine(windows, drift_references(settings.registry, schema, folder), since_ms=since_ms)
    uncounted = sum(w.uncounted for w in windows if w.until_ms > since_ms)
    return DriftReport(now_ms, since_ms, told, tuple(sections), (), uncounted)
