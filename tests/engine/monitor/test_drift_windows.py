"""Counts on disk, baselines, and the alarms that stand."""

from __future__ import annotations

import fcntl
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import structlog
from drift_company import HOUR_MS, MODEL, Rows, demo_customers

from engine.monitor.drift.alarms import ALARMS_FILE, DriftWatch, standing
from engine.monitor.drift.counts import WindowCounts
from engine.monitor.drift.exposing import DriftAlarms
from engine.monitor.drift.windows import (
    WindowFolder,
    activate_baseline,
    decode_window,
    encode_window,
    models_of,
    read_baseline,
    remove_baseline,
)
from engine.monitor.exposition import Together, exposed
from engine.monitor.metrics import Metrics


@pytest.fixture
def folder(tmp_path: Path) -> WindowFolder:
    """A folder that is not there yet."""
    return WindowFolder(tmp_path / "drift")


@pytest.fixture
def log() -> Iterator[list[structlog.typing.EventDict]]:
    """What is logged, at any level: other tests may have set one."""
    before = structlog.get_config()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(0), cache_logger_on_first_use=False
    )
    with structlog.testing.capture_logs() as entries:
        yield entries
    structlog.configure(**before)


def window(hour: int, decisions: int = 50, *, drifts: bool = False) -> WindowCounts:
    """An hour's counts; where it drifts, everybody pays by electronic check."""

    def change(rows: Rows) -> None:
        if drifts:
            rows[:, demo_customers().place("payment_method")] = 0

    return demo_customers().window(np.random.default_rng(hour), decisions, hour=hour, change=change)


def test_a_window_comes_back_as_it_was_kept() -> None:
    """Every count."""
    kept = window(3)

    assert encode_window(decode_window(encode_window(kept))) == encode_window(kept)


def test_windows_of_several_processes_add_up(folder: WindowFolder) -> None:
    """Oldest first; a process replaces its own file."""
    folder.keep(window(1, 10), writer="1-a")
    folder.keep(window(1, 30), writer="1-a")
    folder.keep(window(1, 20), writer="2-b")
    folder.keep(window(0, 5), writer="2-b")

    found = folder.windows()

    assert [(w.from_ms, w.models[MODEL].decisions) for w in found] == [(0, 5), (HOUR_MS, 50)]
    assert models_of(found) == {MODEL: 55}
    assert [w.from_ms for w in folder.windows(since_ms=1)] == [HOUR_MS]
    assert [w.from_ms for w in folder.windows(until_ms=HOUR_MS)] == [0]
    assert not list(folder.folder.glob(".*"))


def test_a_folder_that_is_not_there_holds_nothing(folder: WindowFolder) -> None:
    """As before the first decision."""
    assert folder.windows() == []
    assert folder.remove_before(HOUR_MS) == 0
    assert read_baseline(folder.folder) is None


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"format": 2, "window": {"from_ms": 0, "until_ms": 1}}', b"\xff"]
)
def test_a_file_that_cannot_be_read_is_left_out(
    folder: WindowFolder, content: bytes, log: list[structlog.typing.EventDict]
) -> None:
    """With a warning that names it; the others are read."""
    folder.keep(window(0), writer="1-a")
    (folder.folder / f"{HOUR_MS}-2-b.json").write_bytes(content)

    assert [w.from_ms for w in folder.windows()] == [0]
    assert [entry["event"] for entry in log] == ["drift.window_unreadable"]


def test_windows_with_other_bins_are_left_out(
    folder: WindowFolder, log: list[structlog.typing.EventDict]
) -> None:
    """They do not add up, and a report is worth more than none."""
    other = window(0, 7)
    tally = other.models[MODEL].inputs["contract"]
    other.models[MODEL].inputs["contract"] = replace(tally, bins=np.zeros(9, dtype=np.int64))
    folder.keep(window(0, 50), writer="1-a")
    folder.keep(other, writer="2-b")

    assert [w.models[MODEL].decisions for w in folder.windows()] == [50]
    assert [entry["event"] for entry in log] == ["drift.windows_differ"]


def test_old_windows_go(folder: WindowFolder) -> None:
    """And nothing else in the folder does."""
    for hour in range(3):
        folder.keep(window(hour), writer="1-a")
    activate_baseline(folder.folder, window(0), actor="ds:4", now_ms=5)

    assert folder.remove_before(2 * HOUR_MS) == 2
    assert [w.from_ms for w in folder.windows()] == [2 * HOUR_MS]
    assert read_baseline(folder.folder) is not None


def test_a_baseline_is_there_until_it_is_removed(
    folder: WindowFolder, log: list[structlog.typing.EventDict]
) -> None:
    """With who activated it; one that cannot be read is none, with a warning."""
    activate_baseline(folder.folder, window(0), actor="ds:4", now_ms=5)

    found = read_baseline(folder.folder)

    assert found is not None
    assert (found.actor, found.activated_at_ms, found.window.models[MODEL].decisions) == ("ds:4", 5, 50)
    assert remove_baseline(folder.folder)
    assert not remove_baseline(folder.folder)
    (folder.folder / "baseline.json").write_bytes(b"{")
    assert read_baseline(folder.folder) is None
    assert [entry["event"] for entry in log] == ["drift.baseline_unreadable"]


def watch(folder: WindowFolder) -> DriftWatch:
    """Looks at hours, compared with training."""
    return DriftWatch(folder, lambda: demo_customers().references, window_ms=HOUR_MS)


def test_an_alarm_stands_until_a_window_without_it_ends(
    folder: WindowFolder, log: list[structlog.typing.EventDict]
) -> None:
    """It is logged once when it begins and once when it ends, and Prometheus sees it meanwhile."""
    first_day = 24 * 1000
    folder.keep(window(first_day, 3_000, drifts=True), writer="1-a")
    looking = watch(folder)
    begun = looking.judge(first_day * HOUR_MS + 1)
    seen = [s for family in DriftAlarms(folder.folder).collect() for s in family.samples]
    again = looking.judge(first_day * HOUR_MS + 2)
    for hour in range(1, 25):
        folder.keep(window(first_day + hour, 1_500), writer="1-a")
    ended = looking.judge((first_day + 25) * HOUR_MS + 1)

    assert {(a.variable, a.window) for a in begun.alarms} == {
        ("payment_method", "hour"),
        ("payment_method", "day"),
    }
    assert {tuple(sorted(s.labels.items())) for s in seen} == {
        (("subject", MODEL), ("variable", "payment_method"), ("window", name)) for name in ("hour", "day")
    }
    assert again == begun
    assert [a for a in ended.alarms if a.window == "hour"] == []
    assert [(e["event"], e["window"]) for e in log if e["window"] == "hour"] == [
        ("drift.alarm", "hour"),
        ("drift.alarm.ended", "hour"),
    ]


def test_a_window_is_judged_anew_only_once_it_has_doubled(folder: WindowFolder) -> None:
    """Looking all the time would find something in the end."""
    looking = watch(folder)
    folder.keep(window(48, 1_200), writer="1-a")
    quiet = looking.judge(48 * HOUR_MS + 1)
    folder.keep(window(48, 1_900, drifts=True), writer="1-a")
    not_yet = looking.judge(48 * HOUR_MS + 2)
    folder.keep(window(48, 2_100, drifts=True), writer="1-a")
    found = looking.judge(48 * HOUR_MS + 3)

    assert quiet.alarms == not_yet.alarms == ()
    assert [a.variable for a in found.alarms if a.window == "hour"] == ["payment_method"]


def test_one_process_looks_and_the_others_do_not(folder: WindowFolder) -> None:
    """Whoever has the lock; each asks at most every few seconds."""
    folder.keep(window(48, 3_000, drifts=True), writer="1-a")
    first, second = watch(folder), watch(folder)
    with (folder.folder / "alarms.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        first.look(48 * HOUR_MS + 1)
        while_locked = (folder.folder / ALARMS_FILE).exists()
    first.look(48 * HOUR_MS + 1)
    too_soon = (folder.folder / ALARMS_FILE).exists()
    second.look(48 * HOUR_MS + 1)

    assert (while_locked, too_soon) == (False, False)
    assert standing(folder.folder).alarms


def test_prometheus_reads_alarms_beside_what_processes_counted(folder: WindowFolder) -> None:
    """At the one endpoint of a server."""
    folder.keep(window(48, 3_000, drifts=True), writer="1-a")
    watch(folder).judge(48 * HOUR_MS + 1)
    metrics = Metrics()
    metrics.decided("web", "action")

    told = Together((metrics.registry, DriftAlarms(folder.folder)))
    with (
        exposed(told, host="127.0.0.1", port=0) as port,
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply,
    ):
        text = reply.read().decode()

    assert 'arbiter_decisions_total{channel="web",outcome="action"} 1.0' in text
    assert f'arbiter_drift_alarm{{subject="{MODEL}",variable="payment_method",window="hour"}} 1.0' in text


def test_alarms_that_cannot_be_read_are_none(folder: WindowFolder) -> None:
    """The next look writes them anew."""
    folder.folder.mkdir()
    (folder.folder / ALARMS_FILE).write_bytes(b"{")

    assert standing(folder.folder).alarms == ()
