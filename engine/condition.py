"""How a server stands, gathered from wherever it can be seen: its metrics, its health checks, its files."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final

from engine.logfiles import DRIFT, PROVEN, ROLLOUTS, checkpoints_of, log_directory
from engine.monitor.datadir import disk_of, last_change_s, log_files
from engine.monitor.drift.alarms import standing
from engine.monitor.scraping import Scrape
from engine.processes import ProcessStates
from engine.ruleset.servers import ServerStates
from engine.running import RunningServer
from engine.service.following_models import ModelServer
from engine.settings import EMBEDDED, Settings
from engine.stores import open_store
from feature_store.errors import StoreError

LOW_DISK_BYTES: Final = 1 << 30
"""Room for about a million decisions; below it somebody should look."""
LOW_DISK_SHARE: Final = 0.1
_NOBODY: Final = "arbiter:nobody"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogCondition:
    """One log: its size, and when its head was last noted outside it."""

    bytes: int
    files: int
    checkpointed_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesCondition:
    """What the data directory says, whether a server runs on it or not.

    `refused` holds what processes were to serve and do not, with the cause: a version, or "rules".
    """

    rules: tuple[str, ...]
    models: Mapping[str, int]
    shares: Mapping[str, float]
    refused: Mapping[str, str]
    logs: Mapping[str, LogCondition]
    disk_free_bytes: int | None
    disk_size_bytes: int | None
    drift_alarms: tuple[str, ...]
    store: str
    store_answer_ms: float | None
    store_trouble: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsCondition:
    """What the metrics say; `recent` is of the last minute."""

    rules: tuple[str, ...]
    models: Mapping[str, int]
    processes: int
    in_flight: int
    unsynced_bytes: int
    store_reachable: bool
    store_answer_ms: float
    last_reload_successful: bool
    last_checkpoint_successful: bool
    drift_alarms: int
    recent: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """Everything seen of a server; `concerns` are what somebody should look at, the worst first.

    `health` says of each service whether it is ready; empty where no server answers.
    """

    address: str
    up: bool
    health: Mapping[str, bool]
    server: RunningServer | None
    files: FilesCondition | None
    metrics: MetricsCondition | None
    metrics_trouble: str = ""
    concerns: tuple[str, ...] = field(default=())


def seen_in_files(settings: Settings) -> FilesCondition | None:
    """What the data directory says; None where there is none here, as for a server elsewhere."""
    if not settings.data_dir.is_dir():
        return None
    ruled = ServerStates(settings.data_dir / "rulesets" / "servers").running()
    models = ProcessStates(settings.data_dir / ROLLOUTS / "servers", ModelServer).running()
    refused = {state.serving: state.last_error for state in ruled if state.last_error}
    refused |= {version: cause for server in models for version, cause in server.refused.items()}
    refused |= {version: cause for state in ruled for version, cause in state.refused.items()}
    disk = disk_of(settings.data_dir)
    answer_ms, trouble = _store_answer(settings)
    return FilesCondition(
        rules=tuple(sorted({state.serving for state in ruled})),
        models={name: version for server in models for name, version in server.models.items()},
        shares={version: share for server in models for version, share in server.percents.items()},
        refused=refused,
        logs={log: _log_condition(settings, log) for log in PROVEN},
        disk_free_bytes=None if disk is None else disk.free,
        disk_size_bytes=None if disk is None else disk.size,
        drift_alarms=tuple(" ".join(alarm.name) for alarm in standing(settings.data_dir / DRIFT).alarms),
        store=settings.store if settings.store == EMBEDDED else "redis",
        store_answer_ms=answer_ms,
        store_trouble=trouble,
    )


def _log_condition(settings: Settings, log: str) -> LogCondition:
    held = log_files(log_directory(settings, log))
    noted_s = last_change_s(checkpoints_of(settings, log).path)
    noted_ms = None if noted_s is None else int(noted_s * 1000)
    return LogCondition(bytes=held.bytes, files=held.files, checkpointed_ms=noted_ms)


def _store_answer(settings: Settings) -> tuple[float | None, str]:
    """How long the store takes to answer a read, in ms; None and why where it does not."""
    if settings.store == EMBEDDED and not (settings.data_dir / "store").is_dir():
        return None, "there is no store in the data directory"  # and looking makes none
    try:
        store = open_store(settings)
    except StoreError as error:
        return None, str(error)
    try:
        store.read(_NOBODY)  # connects, or brings pages into memory
        began = perf_counter()
        store.read(_NOBODY)
        return (perf_counter() - began) * 1000, ""
    except StoreError as error:
        return None, str(error)
    finally:
        store.close()


def seen_in_metrics(scrape: Scrape) -> MetricsCondition:
    """What a scrape says."""
    models = [point.labels for point in scrape.series.get("arbiter_models_info", ())]
    return MetricsCondition(
        rules=tuple(sorted(scrape.by("version", "arbiter_rules_info"))),
        models={labels["model"]: int(labels["version"]) for labels in models},
        processes=len(scrape.series.get("arbiter_process_start_time_seconds", ())),
        in_flight=int(scrape.total("arbiter_rpc_in_flight")),
        unsynced_bytes=int(scrape.total("arbiter_log_unsynced_bytes")),
        store_reachable=scrape.value("arbiter_store_reachable") != 0,
        store_answer_ms=(scrape.value("arbiter_store_answer_seconds") or 0.0) * 1000,
        last_reload_successful=scrape.value("arbiter_rules_last_reload_successful") != 0,
        last_checkpoint_successful=scrape.value("arbiter_last_checkpoint_successful") != 0,
        drift_alarms=len(scrape.series.get("arbiter_drift_alarm", ())),
        recent={what: int(n) for what, n in scrape.by("what", "arbiter_recent_calls").items()},
    )


def concerns_of(condition: Condition) -> tuple[str, ...]:
    """What is wrong, each in a line, the worst first."""
    found = [] if condition.up else [f"no server answers at {condition.address}"]
    found += [f"{service or 'the server'} is not ready" for service, ok in condition.health.items() if not ok]
    if condition.metrics is not None:
        found += _wrong_in_metrics(condition.metrics, condition.server)
    if condition.files is not None:
        found += _wrong_in_files(condition.files)
    return tuple(dict.fromkeys(found))


def _wrong_in_metrics(metrics: MetricsCondition, server: RunningServer | None) -> list[str]:
    found = []
    if server is not None and metrics.processes < server.workers:
        found.append(f"{metrics.processes} of {server.workers} workers run")
    if not metrics.store_reachable:
        found.append("the store does not answer")
    if not metrics.last_reload_successful:
        found.append("the last reload was refused: what served before goes on")
    if not metrics.last_checkpoint_successful:
        found.append("the heads of the logs cannot be noted")
    for what, words in (("faults", "calls failed"), ("shed", "calls were shed")):
        if metrics.recent.get(what):
            found.append(f"{metrics.recent[what]:,} {words} in the last minute")
    if metrics.recent.get("degraded"):
        found.append(f"{metrics.recent['degraded']:,} decisions were degraded in the last minute")
    return found


def _wrong_in_files(files: FilesCondition) -> list[str]:
    found = [f"the store cannot be read: {files.store_trouble}"] if files.store_trouble else []
    found += [f"{version} is refused: {cause}" for version, cause in files.refused.items()]
    if is_low(files.disk_free_bytes, files.disk_size_bytes):
        found.append(f"the disk has {(files.disk_free_bytes or 0) >> 20:,} MiB left")
    if files.drift_alarms:
        found.append(f"{len(files.drift_alarms)} variables drift")
    return found


def is_low(free: int | None, size: int | None) -> bool:
    """Whether a disk is nearly full."""
    if free is None or size is None:
        return False
    return free < min(LOW_DISK_BYTES, size * LOW_DISK_SHARE)


def server_of(servers: ProcessStates[RunningServer]) -> RunningServer | None:
    """The server of a data directory that started last; None where none runs."""
    return max(servers.running(), key=lambda server: server.started_ms, default=None)


def up_for(server: RunningServer) -> float:
    """Seconds since a server began."""
    return time.time() - server.started_ms / 1000


def metrics_address(given: str | None, server: RunningServer | None, settings: Settings) -> str:
    """Where to ask for metrics: what was said, what the server said, the settings say; "" for nowhere."""
    if given:
        return given
    if server is not None:
        return server.metrics
    return "" if settings.metrics_address is None else settings.metrics
