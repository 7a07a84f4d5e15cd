"""The benchmark of the whole and its neighbours: their arithmetic, and short runs of their parts."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.bench import __main__ as command
from engine.bench import growth, memory, whole, whole_sides
from engine.bench.growth_page import growth_page
from engine.bench.growth_points import Point
from engine.bench.memory import Reading
from engine.bench.parts import Disagreement
from engine.bench.whole import Most, Work
from engine.bench.whole_checks import Response
from engine.bench.whole_load import Latencies, Throughput
from engine.bench.whole_server import cores
from engine.bench.whole_shape import Company, Size
from engine.bench.whole_sides import EMPTY, PARTS, SKELETON, WHOLE, WHOLE_LMDB, asked_for, load_on

SHORT = Work(
    size=Size(customers=60, trees=12),
    rounds=1,
    seconds=0.3,
    warm_up_s=0.1,
    latency_rounds=1,
    latency_seconds=0.3,
    asked=20,
    checked=5,
    with_parts=False,
)


def _waits(*took_ms: float) -> list[Latencies]:
    return [Latencies(np.array([ms] * 100), np.zeros(100), [], 0) for ms in took_ms]


def test_ratios_are_of_neighbours_and_medians_of_rounds() -> None:
    """A round that other work disturbed does not count."""
    most = {
        WHOLE: [Most(100.0, 900.0), Most(50.0, 1_000.0), Most(110.0, 1_100.0)],
        WHOLE_LMDB: [Most(120.0, 800.0)] * 3,
        SKELETON: [Most(200.0, 300.0), Most(100.0, 300.0), Most(220.0, 300.0)],
        EMPTY: [Most(1_000.0, 90.0)] * 3,
        PARTS: [Most(10.0, 9_000.0)] * 3,
    }
    waits = {name: _waits(1.0, 5.0, 2.0) for name in most}

    figures = whole.figures(most, waits)

    assert list(figures)[:3] == ["whole_over_skeleton", "whole_over_skeleton_lmdb", "whole_over_parts"]
    assert figures["whole_over_skeleton"] == 0.5
    assert figures["whole_over_parts"] == 10.0
    assert figures["whole_over_parts_lmdb"] == 12.0
    assert figures["whole_over_skeleton_by_cpu"] == 0.3
    assert figures["whole_per_s"] == 100.0
    assert figures["whole_cpu_us"] == 1_000.0
    assert figures["whole_p50_ms"] == figures["whole_p99_ms"] == 2.0
    assert figures["p99_over_p50"] == 1.0


@pytest.mark.slow
def test_a_short_run_gives_every_figure() -> None:
    """Real servers on both stores, beside the empty one and the skeleton; what they answer is looked at."""
    figures = whole.measure(SHORT)

    assert all(np.isfinite(value) and value >= 0 for value in figures.values())
    for side in (WHOLE, WHOLE_LMDB, SKELETON, EMPTY):
        assert figures[f"{side}_per_s"] > 0
        assert figures[f"{side}_cpu_us"] > 0
        assert figures[f"{side}_p50_ms"] <= figures[f"{side}_p99_ms"] <= figures[f"{side}_p999_ms"]
    assert "whole_over_parts" not in figures
    assert figures["whole_over_empty"] < 1


def test_a_side_is_measured_in_both_loops(tmp_path: Path) -> None:
    """An empty server as the benchmark starts it: on its core, until the block ends."""
    company = Company(tmp_path, Size(), [], [], [])
    work = replace(SHORT, seconds=0.5, latency_seconds=0.5)
    with whole_sides.empty(company) as server:
        sides = {EMPTY: server}
        loads = {EMPTY: load_on(server, asked_for(["W0000001"]))}
        found = whole._answers(server, ["W0000001", "W0000002"])
        most = whole._most(sides, loads, company, work)
        waits = whole._waits(loads, company, {EMPTY: [Most(100.0, 100.0)]}, work)
        core = os.sched_getaffinity(server.pid)

    assert found == [b"", b""]
    assert most[EMPTY][0].per_s > 0
    assert len(waits[EMPTY][0].took_ms) > 5
    assert core == {cores()[0]}
    with pytest.raises(ProcessLookupError):
        os.kill(server.pid, 0)


def test_a_server_that_refuses_much_has_no_figure(tmp_path: Path) -> None:
    """What it can do is not what it refused."""
    company = Company(tmp_path, Size(), [], [], [])

    whole._look_at(EMPTY, Throughput(1_000, 1.0, [], 5), company)

    with pytest.raises(Disagreement, match="the server empty refused 50 calls"):
        whole._look_at(EMPTY, Throughput(1_000, 1.0, [], 50), company)


def test_memory_is_read_before_and_between_calls(tmp_path: Path) -> None:
    """Of a server that runs, until it has had as many calls as were asked for."""
    company = Company(tmp_path, Size(), [], [], [])
    with whole_sides.empty(company) as server:
        load = load_on(server, asked_for(["W0000001"]))
        readings = list(memory._readings(server, load, memory.Work(calls=20, every=10, spell_s=0.05)))

    assert readings[0].calls == 0
    assert readings[-1].calls >= 20
    assert all(0 < reading.uss <= reading.rss for reading in readings)


def test_growth_is_told_by_the_steepest_step() -> None:
    """0 where nothing grows, 1 in proportion, 2 by the square, which is a cliff."""
    points = [
        *(Point("rules", size, cpu_us=100.0, p50_ms=0.1, p99_ms=0.2) for size in (10, 100)),
        *(Point("candidates", size, cpu_us=us) for size, us in ((10, 100.0), (20, 200.0), (40, 800.0))),
        *(Point("workers", count, cpu_us=100.0, per_s=1_000.0 * count) for count in (1, 2)),
    ]

    figures = growth.figures(points)

    assert figures["growth_rules_exponent"] == 0.0
    assert figures["growth_candidates_exponent"] == pytest.approx(2.0)
    assert figures["growth_steepest_exponent"] == pytest.approx(2.0)
    assert figures["growth_cliffs"] == 1.0
    assert figures["growth_rules_100_p99_ms"] == 0.2
    assert figures["growth_workers_2_per_s"] == 2_000.0


def test_the_page_of_growth_has_every_point() -> None:
    """A plot and a table for each dimension, and the workers."""
    points = [
        *(Point("rules", size, cpu_us=10.0 * size, p50_ms=0.1, p99_ms=0.2) for size in (50, 5_000)),
        *(Point("workers", count, cpu_us=100.0, per_s=1_234.0 * count) for count in (1, 2)),
    ]

    html = growth_page(points, cliff=0.9).html()

    assert html.count("<svg") == 1
    assert "50,000" in html
    assert "2,468" in html
    assert "bad" in html


def test_sizes_of_a_short_dimension_are_told_in_plain_numbers() -> None:
    """Matplotlib has labels of its own in between, in the language of formulas."""
    points = [Point("features", size, cpu_us=100.0, p50_ms=0.1, p99_ms=0.2) for size in (20, 40, 100)]

    html = growth_page(points, cliff=0.9).html()

    assert "mathdefault" not in html
    assert ">40<" in html


def test_one_dimension_is_measured_in_turns(whole_company: Company) -> None:
    """Whole decisions of two sizes, each point's best turn."""
    work = growth.Work(turns=1, asked=5)

    points = growth._grown("rules", (20, 40), whole_company, work)

    assert [(point.name, point.size) for point in points] == [("rules", 20), ("rules", 40)]
    assert all(0 < point.p50_ms <= point.p99_ms for point in points)
    assert all(point.cpu_us > 0 for point in points)


def test_growth_of_memory_is_its_slope_after_the_first_tenth() -> None:
    """What is kept once does not count; a leak does."""
    readings = [
        Reading(0, 100, 50),
        *(Reading(calls, 200_000_000, 100_000_000 + 3 * calls) for calls in range(1_000, 11_000, 1_000)),
    ]

    figures = memory.figures(readings)

    assert figures["memory_bytes_per_call"] == pytest.approx(3.0)
    assert figures["memory_end_rss_mb"] == 200.0
    assert figures["memory_calls"] == 10_000
    assert memory._slope(readings[:1]) == 0.0


def test_short_forms_and_calls_are_chosen_by_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--quick` where there is a short form; `--calls` for memory, which runs only where it is named."""
    asked: list[object] = []

    def measured(work: memory.Work = memory.DEFAULT) -> dict[str, float]:
        asked.append(work)
        return {"x": 1.0}

    monkeypatch.setattr(memory, "measure", measured)
    monkeypatch.setattr(command, "BENCHMARKS", {"rules": lambda: {"y": 2.0}, "memory": memory.measure})
    out = ["--out", str(tmp_path / "figures.json")]

    codes = [
        command.main([*words, *out]) for words in ([], ["memory", "--calls", "50"], ["rules", "--quick"])
    ]

    assert codes == [0, 0, 0]
    assert asked == [memory.Work(calls=50, every=5)]
    kept = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert (kept["x"], kept["y"]) == (1.0, 2.0)


def test_customers_who_get_less_are_too_few_to_measure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The benchmark says so instead of measuring less work."""
    nothing = Response().SerializeToString()
    monkeypatch.setattr(whole, "_answers", lambda _, names: [nothing] * len(names))
    company = Company(tmp_path, Size(customers=10), [], [], [])

    with pytest.raises(Disagreement, match="only 0 of 10 customers"):
        whole._whole_answers(None, company, SHORT)  # type: ignore[arg-type]  # it is not asked
    with pytest.raises(Disagreement, match="of a hundred customers"):
        whole._reply(None)  # type: ignore[arg-type]  # it is not asked
