"""What a run found, and whether it kept what was promised."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from loadtest.comparing import changes
from loadtest.errors import FileInvalid
from loadtest.objectives import Objectives, judge, kept, knee, load_objectives
from loadtest.report import report_page
from loadtest.results import Result, Step, read_result, step_of, write_result
from loadtest.sending import UNSENT, Sent

LIMITS = Objectives(name="limits", p50_ms=3, p99_ms=10, errors=0.0, shed=0.01)
SHED = 8
UNAVAILABLE = 14
MakeStep = Callable[..., Step]
MakeResult = Callable[..., Result]


def test_percentiles_are_of_the_calls_sent() -> None:
    """A hundred calls of 1 to 100 ms, from two processes."""
    took = np.arange(1, 101, dtype=np.int64) * 1_000_000
    halves = [
        Sent(
            instants=np.arange(50, dtype=np.int64),
            lag=np.zeros(50, dtype=np.int64),
            took=part,
            codes=np.zeros(50, dtype=np.int16),
            degraded=np.arange(50) < 5,
            cpu_s=0.5,
        )
        for part in (took[:50], took[50:])
    ]

    step = step_of(halves, rate=100, seconds=1, server_cpu_s=0.25)

    assert step.at_ms(50) == pytest.approx(50, rel=0.001)
    assert step.at_ms(99) == pytest.approx(99, rel=0.001)
    assert step.at_ms(100) == pytest.approx(100, rel=0.001)
    assert step.share_above(90.5) == pytest.approx(0.1)
    assert (step.calls, step.degraded, step.sender_cpu, step.server_cpu) == (100, 10, 1.0, 0.25)
    assert step.over_time[0].worst_ms == 100.0


def test_answers_after_the_step_are_no_throughput(make_step: MakeStep) -> None:
    """A server that needs five seconds for each call answered half of ten seconds' calls in time."""
    assert make_step(took_ms=5000.0).answered_rate == pytest.approx(50, abs=6)


def test_calls_that_were_not_answered_have_no_latency_but_count(make_step: MakeStep) -> None:
    """Refused for overload, failed, and never sent are three different things."""
    shed, failed, unsent = (make_step(codes=code) for code in (SHED, UNAVAILABLE, UNSENT))

    assert (shed.shed_share, shed.failed_share) == (1.0, 0.0)
    assert (failed.shed_share, failed.failed_share) == (0.0, 1.0)
    assert unsent.codes == {"UNSENT": 1000}
    assert unsent.failed_share == 1.0
    assert shed.at_ms(99) == 0.0
    assert not kept(shed, LIMITS)


def test_each_objective_is_judged(make_step: MakeStep) -> None:
    """A slow median breaks one of four."""
    judged = judge(make_step(took_ms=5.0), LIMITS)

    assert [(j.objective, j.kept) for j in judged] == [
        ("p50_ms", False),
        ("p99_ms", True),
        ("errors", True),
        ("shed", True),
    ]


def test_the_knee_is_below_the_first_rate_that_fails(make_step: MakeStep) -> None:
    """A faster step beyond it does not count: it was luck."""
    steps = [
        make_step(rate=rate, took_ms=took)
        for rate, took in ((100.0, 1.0), (400.0, 1.0), (200.0, 2.0), (300.0, 9.0))
    ]

    best = knee(steps, LIMITS)

    assert best is not None
    assert best.rate == 200.0
    assert knee([make_step(took_ms=9.0)], LIMITS) is None


def test_a_result_is_read_as_it_was_written(
    tmp_path: Path, make_step: MakeStep, make_result: MakeResult
) -> None:
    """Histograms included."""
    result = make_result(make_step())
    write_result(tmp_path / "new" / "result.json", result)

    again = read_result(tmp_path / "new" / "result.json")

    assert again == result
    assert again.steps[0].at_ms(99) == result.steps[0].at_ms(99)


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"format": 2}'])
def test_another_file_is_no_result(tmp_path: Path, content: str) -> None:
    """It says which file, and what would be one."""
    path = tmp_path / "other.json"
    path.write_text(content, encoding="utf-8")

    with pytest.raises(FileInvalid, match=r"other\.json: is no result of `arbiter loadtest run`"):
        read_result(path)


def test_the_objectives_that_come_along_are_read() -> None:
    """With the dot in `p99.9_ms`."""
    objectives = load_objectives("interactive")

    assert objectives.p99_9_ms == 25
    with pytest.raises(FileInvalid, match="Arbiter brings interactive"):
        load_objectives("interactiv")


def test_only_a_change_beyond_chance_is_clear(make_step: MakeStep, make_result: MakeResult) -> None:
    """The same server twice, and one that became a third slower."""
    before = make_result(make_step(seed=1), make_step(rate=200.0))
    same = {c.figure: c for c in changes(before, make_result(make_step(seed=2)))}
    slower = {c.figure: c for c in changes(before, make_result(make_step(took_ms=2.7, seed=2)))}

    assert not same["p50_ms"].clear
    assert slower["p50_ms"].clear
    assert slower["p50_ms"].ratio == pytest.approx(1.35, abs=0.03)
    assert slower["answered_rate"].ratio == pytest.approx(1.0, abs=0.01)


def test_the_report_tells_verdict_doubts_and_every_step(make_step: MakeStep, make_result: MakeResult) -> None:
    """A late sender is said before any figure."""
    late = make_step(rate=200.0, took_ms=30.0).model_copy(update={"lag_p99_ms": 4.0})
    page = report_page(make_result(make_step(), late), LIMITS).html()

    assert page.index("Calls were sent late.") < page.index("Objectives")
    assert page.count("<svg") == 5
    assert "broken" in page
    assert "<script" not in page
