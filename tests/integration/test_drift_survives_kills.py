"""Counting for drift in a real server: workers add up, and a killed one loses seconds."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from arbiter_at_work import AT_RISK, LOYAL, RunningServer, scene

from engine.monitor.drift.counts import added_up
from engine.monitor.drift.windows import WindowFolder

Start = Callable[..., RunningServer]


def counted(data_dir: Path) -> int:
    """Decisions on disk, of all windows and processes."""
    window = added_up(WindowFolder(data_dir / "drift").windows())
    return 0 if window is None else sum(mix.decisions for mix in window.channels.values())


def once_counted(data_dir: Path, decisions: int) -> int:
    """What is on disk, once it is as much as expected or has had all its time."""
    deadline = time.monotonic() + 30.0
    while counted(data_dir) < decisions and time.monotonic() < deadline:
        os.sched_yield()
    return counted(data_dir)


def decide(server: RunningServer, times: int) -> None:
    """Decisions over several channels, so that several workers get some."""
    with ExitStack() as stack:
        remotes = [stack.enter_context(server.connect()) for _ in range(4)]
        for number in range(times):
            remotes[number % 4].decide(scene((AT_RISK, LOYAL)[number % 2]))


@pytest.mark.slow
def test_what_workers_counted_adds_up_and_survives_their_end(data_dir: Path, start_server: Start) -> None:
    """Killed without a chance to tidy up, then started again, then drained."""
    first = start_server("--workers", "2")
    decide(first, 40)
    before = once_counted(data_dir, 40)
    first.kill()
    after = counted(data_dir)
    second = start_server()
    decide(second, 10)
    second.send(signal.SIGTERM)
    code = second.wait()

    assert (before, after, code) == (40, 40, 0)
    assert counted(data_dir) == 50
    models = added_up(WindowFolder(data_dir / "drift").windows()).models  # type: ignore[union-attr]
    assert models["churn/1"].inputs["tenure_months"].asked == models["churn/1"].decisions > 0


def test_a_server_that_is_told_not_to_counts_nothing(data_dir: Path, start_server: Start) -> None:
    """ARBITER_DRIFT=false."""
    server = start_server(ARBITER_DRIFT="false")
    decide(server, 3)
    server.send(signal.SIGTERM)
    server.wait()

    assert not (data_dir / "drift").exists()
