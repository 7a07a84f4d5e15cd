"""What a process tells of itself, what is recent, and what a data directory holds."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from engine.monitor.datadir import DataDirectory, disk_of, last_change_s, log_files
from engine.monitor.metrics import Metrics
from engine.monitor.vitals import Vitals
from engine.running import announced, running_servers
from engine.settings import Settings

DECIDE = "arbiter.v1.DecisionService/Decide"


def value(registry: CollectorRegistry, name: str, **labels: str) -> float:
    """The value of a series that is there."""
    found = registry.get_sample_value(name, labels)
    assert found is not None, name
    return found


def test_a_process_tells_its_memory_work_and_start() -> None:
    """In bytes and seconds, as the kernel knows them."""
    metrics = Metrics()

    Vitals(metrics, unsynced_bytes=lambda: 77).look(0.0)

    registry = metrics.registry
    assert value(registry, "arbiter_process_resident_bytes") > 10 << 20
    assert 0 < value(registry, "arbiter_process_cpu_seconds") <= time.process_time()
    assert value(registry, "arbiter_process_start_time_seconds") <= time.time()
    assert value(registry, "arbiter_log_unsynced_bytes") == 77
    assert value(registry, "arbiter_gc_collections_total", generation="0") >= 0


def test_calls_in_flight_are_those_that_have_started_and_not_ended() -> None:
    """A call that was never said to have started does not count below nothing."""
    metrics = Metrics()
    for _ in range(3):
        metrics.started(0.0)
    metrics.called(DECIDE, "OK", 0.001)

    Vitals(metrics, unsynced_bytes=lambda: 0).look(0.0)
    for _ in range(5):
        metrics.called(DECIDE, "OK", 0.001)

    assert value(metrics.registry, "arbiter_rpc_in_flight") == 2
    assert metrics.in_flight == 0


def test_recent_is_what_happened_within_a_minute() -> None:
    """Of a young process all it did, then what came since a minute ago."""
    metrics = Metrics()
    vitals = Vitals(metrics, unsynced_bytes=lambda: 0)
    counts = []
    for now_s in range(0, 150, 10):
        metrics.called(DECIDE, "OK", 0.001)
        vitals.look(float(now_s))
        counts.append(value(metrics.registry, "arbiter_recent_calls", what="calls"))

    assert counts == [1, 2, 3, 4, 5, 6, *[6] * 9]


def test_recent_tells_faults_sheds_and_degradations_apart() -> None:
    """A caller's mistake is no fault of ours."""
    metrics = Metrics()
    for code in ("OK", "INVALID_ARGUMENT", "UNAVAILABLE", "INTERNAL"):
        metrics.called(DECIDE, code, 0.001)
    metrics.shed("batch", "queue_full")
    metrics.degraded("model:churn")

    Vitals(metrics, unsynced_bytes=lambda: 0).look(0.0)

    told = {
        what: value(metrics.registry, "arbiter_recent_calls", what=what)
        for what in ("calls", "faults", "shed", "degraded")
    }
    assert told == {"calls": 4, "faults": 2, "shed": 1, "degraded": 1}


def test_a_data_directory_tells_sizes_of_logs_and_times_of_checkpoints(tmp_path: Path) -> None:
    """A log that is not there yet has no bytes, and a checkpoint that is not there no time."""
    log, noted = tmp_path / "decisions", tmp_path / "decisions.checkpoints"
    log.mkdir()
    (log / "1.seg").write_bytes(b"x" * 100)
    (log / "2.seg").write_bytes(b"x" * 23)
    noted.touch()
    os.utime(noted, (1_000, 1_000))
    registry = CollectorRegistry()

    registry.register(
        DataDirectory(
            tmp_path,
            logs={"decisions": log, "shadow": tmp_path / "nowhere"},
            checkpoints={"decisions": noted, "consents": tmp_path / "none"},
        )
    )

    assert value(registry, "arbiter_log_bytes", log="decisions") == 123
    assert value(registry, "arbiter_log_bytes", log="shadow") == 0
    assert value(registry, "arbiter_last_checkpoint_time_seconds", log="decisions") == 1_000
    assert registry.get_sample_value("arbiter_last_checkpoint_time_seconds", {"log": "consents"}) is None
    assert 0 < value(registry, "arbiter_disk_free_bytes") <= value(registry, "arbiter_disk_size_bytes")


def test_folders_that_are_away_are_told_as_nothing(tmp_path: Path) -> None:
    """A scrape never fails because a disk does."""
    away = tmp_path / "away"

    assert (log_files(away).files, last_change_s(away), disk_of(away)) == (0, None, None)
    assert [f.name for f in DataDirectory(away, {"decisions": away}, {}).collect()] == [
        "arbiter_log_bytes",
        "arbiter_last_checkpoint_time_seconds",
    ]


def test_a_server_is_known_in_its_data_directory_while_it_runs(tmp_path: Path) -> None:
    """Where it listens, and where its metrics are."""
    servers = running_servers(tmp_path)

    with announced(Settings(data_dir=tmp_path, workers=2), port=50051, metrics="127.0.0.1:9464"):
        (told,) = servers.running()

    assert (told.pid, told.address, told.metrics, told.workers) == (
        os.getpid(), "127.0.0.1:50051", "127.0.0.1:9464", 2,
    )  # fmt: skip
    assert servers.running() == ()


def test_that_a_server_cannot_be_announced_does_not_stop_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder that cannot be made is told of in the log."""
    (tmp_path / "servers").write_text("a file")

    with announced(Settings(data_dir=tmp_path), port=1, metrics=""):
        pass

    assert not running_servers(tmp_path).running()
