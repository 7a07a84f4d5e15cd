"""`arbiter status` and `arbiter top`: of a server at work, of files alone, and of what is wrong."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from arbiter_at_work import AT_RISK, REPOSITORY, RunningServer, scene
from typer.testing import Result

from engine.cli.status import duration, size
from engine.condition import Condition, MetricsCondition, concerns_of, is_low
from engine.running import RunningServer as Announced

ANY_PORT = "127.0.0.1:0"


@pytest.fixture
def served(data_dir: Path, start_server: Callable[..., RunningServer]) -> Iterator[RunningServer]:
    """A server with two workers and metrics that has decided."""
    server = start_server("--workers", "2", "--metrics", ANY_PORT)
    server.wait_for_log("server.ready", times=2)
    with server.connect() as arbiter:
        for _ in range(3):
            arbiter.decide(scene(AT_RISK))
    yield server
    server.send(signal.SIGTERM)
    server.wait()


def test_a_server_at_work_is_seen_as_a_whole_and_watched(
    served: RunningServer, data_dir: Path, run: Callable[..., Result]
) -> None:
    """It is found by its data directory; nothing is wrong with it."""
    seen = run("status", "--data-dir", data_dir, "--json")
    told = json.loads(seen.stdout)
    words = run("status", "--data-dir", data_dir)
    frame = run("top", "--data-dir", data_dir, "--once", "--every", "0.3")

    assert (seen.exit_code, told["concerns"]) == (0, [])
    assert (told["up"], told["server"]["workers"], told["address"]) == (True, 2, served.target)
    assert told["health"] == dict.fromkeys(("decisions", "outcomes", "consents", "events"), True)
    assert told["metrics"]["models"] == {"churn": 1, "propensity": 1} == told["files"]["models"]
    assert told["metrics"]["processes"] == 2
    assert told["files"]["logs"]["decisions"]["bytes"] > 0
    assert told["files"]["store_answer_ms"] < 1000
    assert words.exit_code == 0
    for expected in ("2 workers", "churn/1, propensity/1", "last checkpoint", "no alarm", "last minute"):
        assert expected in words.stdout
    assert frame.exit_code == 0
    assert "calls/s" in frame.stdout
    assert AT_RISK not in frame.stdout + words.stdout + seen.stdout


def test_a_server_that_is_down_is_told_from_its_files(data_dir: Path, run: Callable[..., Result]) -> None:
    """What is on the disk is there to be looked at, and the exit code says that nobody answers."""
    seen = run("status", "--data-dir", data_dir, "--target", "127.0.0.1:1")
    files = run("status", "--data-dir", data_dir, "--json")

    told = json.loads(files.stdout)
    assert seen.exit_code == 5
    assert "! no server answers at 127.0.0.1:1" in seen.stdout
    assert told["server"] is None
    assert told["files"]["logs"]["consents"]["bytes"] > 0
    assert told["files"]["store_answer_ms"] is not None
    assert not (data_dir / "servers").exists()


def test_looking_at_an_empty_folder_makes_nothing_in_it(tmp_path: Path, run: Callable[..., Result]) -> None:
    """A wrong --data-dir is seen by what is not there."""
    seen = run("status", "--data-dir", tmp_path)

    assert seen.exit_code != 0
    assert "there is no store in the data directory" in seen.stdout
    assert list(tmp_path.iterdir()) == []


def test_without_metrics_it_is_said_how_to_have_them(data_dir: Path, run: Callable[..., Result]) -> None:
    """Watching needs them."""
    seen = run("top", "--data-dir", data_dir, "--once")
    away = run("top", "--metrics", "127.0.0.1:1", "--once", "--every", "0.2")

    assert seen.exit_code == 3
    assert "arbiter serve --metrics 127.0.0.1:9464" in seen.stderr
    assert away.exit_code == 5
    assert "no metrics at 127.0.0.1:1" in away.stderr


def test_it_is_watched_in_a_terminal_until_a_key_is_pressed(served: RunningServer, data_dir: Path) -> None:
    """The screen is drawn, q ends it, and the terminal is as it was."""
    ours, theirs = pty.openpty()
    words = ("top", "--data-dir", str(data_dir), "--every", "0.3")
    process = subprocess.Popen(
        [sys.executable, "-m", "engine", *words],
        cwd=REPOSITORY,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm"},
        start_new_session=True,
    )
    os.close(theirs)
    drawn = _drawn_until(ours, b"calls/s")
    os.write(ours, b"xq")
    _drawn_until(ours, b"\x1b[?1049l")

    assert process.wait(timeout=30) == 0
    assert b"\x1b[?1049h" in drawn
    os.close(ours)


def _drawn_until(terminal: int, end: bytes) -> bytes:
    """What is written on a terminal up to some text."""
    drawn, deadline = b"", time.monotonic() + 60
    while end not in drawn and time.monotonic() < deadline:
        if select.select([terminal], [], [], 1.0)[0]:
            try:
                drawn += os.read(terminal, 65536)
            except OSError:  # it was closed at the other end
                break
    assert end in drawn, drawn
    return drawn


def _condition(**changes: Any) -> Condition:
    metrics: dict[str, Any] = {
        "rules": ("sha256:a",), "models": {}, "processes": 2, "in_flight": 0, "unsynced_bytes": 0,
        "store_reachable": True, "store_answer_ms": 0.1, "last_reload_successful": True,
        "last_checkpoint_successful": True, "drift_alarms": 0, "recent": {"calls": 7},
    }  # fmt: skip
    server = Announced(pid=1, address="x:1", metrics="", workers=2, started_ms=0, engine="1")
    return Condition(
        address="x:1",
        up=True,
        health={"decisions": changes.pop("decisions", True)},
        server=server,
        files=None,
        metrics=MetricsCondition(**(metrics | changes)),
    )


@pytest.mark.parametrize(
    ("changes", "concern"),
    [
        ({}, None),
        ({"decisions": False}, "decisions is not ready"),
        ({"processes": 1}, "1 of 2 workers run"),
        ({"store_reachable": False}, "the store does not answer"),
        ({"last_reload_successful": False}, "the last reload was refused: what served before goes on"),
        ({"last_checkpoint_successful": False}, "the heads of the logs cannot be noted"),
        ({"recent": {"faults": 1200}}, "1,200 calls failed in the last minute"),
        ({"recent": {"shed": 3}}, "3 calls were shed in the last minute"),
        ({"recent": {"degraded": 4}}, "4 decisions were degraded in the last minute"),
    ],
)
def test_each_thing_that_is_wrong_is_a_concern(changes: dict[str, Any], concern: str | None) -> None:
    """In words that say what it is."""
    assert concerns_of(_condition(**changes)) == ((concern,) if concern else ())


def test_a_disk_is_low_below_a_gibibyte_and_small_disks_below_a_tenth() -> None:
    """What cannot be asked is not low."""
    gib = 1 << 30
    assert is_low(gib - 1, 100 * gib)
    assert not is_low(gib, 100 * gib)
    assert not is_low(gib // 2, 2 * gib)
    assert is_low(gib // 10, 2 * gib)
    assert not is_low(None, gib)


@pytest.mark.parametrize(
    ("seconds", "told"), [(5, "5 s"), (65, "1 min 5 s"), (3_700, "1 h 1 min"), (100_000, "1 d 3 h")]
)
def test_spans_are_told_in_two_units(seconds: float, told: str) -> None:
    """Nobody needs the seconds of a day."""
    assert duration(seconds) == told


@pytest.mark.parametrize(
    ("count", "told"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 30, "3.0 GiB"), (1 << 50, "1,024.0 TiB")],
)
def test_sizes_are_told_in_the_unit_that_fits(count: int, told: str) -> None:
    """For people."""
    assert size(count) == told
