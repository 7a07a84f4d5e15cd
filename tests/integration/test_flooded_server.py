"""Waves of more calls than a real server on one core can answer."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from arbiter_at_work import RunningServer

from loadtest.overload import SLO_MS, Scene, Wave, peak_of, wave
from loadtest.profiles import load_profile
from loadtest.running import cpu_s
from loadtest.sending import Senders

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def flooded(
    demo_company: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[tuple[float, bool], list[Wave]]]:
    """Three waves of 2 and of 5 times the peak, from clients that send all and from such that throttle."""
    data_dir = shutil.copytree(demo_company, tmp_path_factory.mktemp("flooded") / "data")
    settings = {"ARBITER_LOG_LEVEL": "warning", "ARBITER_ADMISSION_WAIT_MS": "25"}
    server = RunningServer(data_dir, (), settings)
    os.sched_setaffinity(server.process.pid, {0})  # before it starts threads, which inherit it
    server.wait_until_serving()
    profile, folder = load_profile("company")
    cores = tuple(range(1, os.cpu_count() or 1))
    with Senders(server.target, processes=1, channels=4, cores=cores) as senders:
        scene = Scene(senders, profile, folder, np.random.default_rng(1))
        scene.send([(100.0, 3.0)])
        peak = peak_of(scene, start=200.0, told=lambda *_: None)
        yield {
            (times, throttled): [
                wave(scene, peak=peak, times=times, seconds=3.0, throttled=throttled) for _ in range(3)
            ]
            for times in (2.0, 5.0)
            for throttled in (False, True)
        }
    server.kill()
    assert peak > 0.0


@pytest.mark.parametrize(
    ("times", "throttled", "least"), [(2.0, False, 0.8), (5.0, False, 0.5), (5.0, True, 0.7)]
)
def test_answers_go_on_in_a_flood(
    flooded: dict[tuple[float, bool], list[Wave]], times: float, throttled: bool, least: float
) -> None:
    """Nearly as many as at the peak shortly before, but for what refusing costs."""
    assert np.median([each.of_peak for each in flooded[times, throttled]]) >= least


def test_no_call_is_lost_and_the_urgent_are_refused_least(
    flooded: dict[tuple[float, bool], list[Wave]],
) -> None:
    """Whoever is not answered is told, and by priority."""
    for waves in flooded.values():
        for each in waves:
            shares = list(each.refused_by_priority.values())
            assert each.lost <= 0.01 * each.offered
            assert shares == sorted(shares)


def test_who_is_let_in_is_answered_in_time_and_who_is_not_is_told_at_once(
    flooded: dict[tuple[float, bool], list[Wave]],
) -> None:
    """By the best of three waves, as others may use the machine."""
    for times in (2.0, 5.0):
        waves = flooded[times, False]
        assert min(each.admitted_p99_ms for each in waves) <= SLO_MS
        assert min(each.refusal_p50_ms for each in waves) <= 5.0
        assert min(each.recovered_s for each in waves) <= 0.5


def test_server_is_ready_after_little_work(start_server: Callable[[], RunningServer]) -> None:
    """About 2.3 s of the processor: imports, rules, models and their golden rows."""
    server = start_server()

    used_s = cpu_s(server.process.pid)

    assert used_s is not None
    assert used_s < 5.0
