"""The rule benchmark: what it compares is the same, and it says so where it cannot run."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine.bench import rules, texts, timing
from engine.bench.__main__ import main
from engine.bench.cases import COLUMNS, Customer, Row, customers, many_conditions, table
from engine.bench.durable_process import DurableProcess
from engine.bench.ours import table_reader
from engine.bench.parts import Disagreement, PartMissing
from engine.ruleset.build import build_rulebook


def _holds(row: Row, customer: Customer) -> bool:
    """The row in plain Python."""
    tenure, monthly, contract, calls = (customer[name] for name in COLUMNS)
    assert isinstance(tenure, int)
    assert isinstance(monthly, float)
    assert isinstance(calls, int)
    return (
        row.tenure_from <= tenure < row.tenure_to
        and monthly >= row.monthly_from
        and contract == row.contract
        and calls >= row.calls_from
    )


def test_our_table_gives_the_rows_that_hold() -> None:
    """The measured function is right before it is fast."""
    rows = table()

    reader = table_reader(rows)

    for customer in customers(50):
        assert reader(customer) == [i for i, row in enumerate(rows) if _holds(row, customer)]


def test_about_one_row_in_ten_holds() -> None:
    """The table is neither empty nor trivial for its customers."""
    reader = table_reader(table())

    held = [len(reader(customer)) for customer in customers()]

    assert 2 < sum(held) / len(held) < 10


def test_cases_are_the_same_in_every_run() -> None:
    """Figures of two runs are about the same work."""
    assert table() == table()
    assert customers() == customers()
    assert len(set(many_conditions())) > 500


def test_a_missing_library_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the libraries measured against, the command says what to install and ends with 2."""

    def absent(_: object) -> None:
        raise ImportError("no module")

    monkeypatch.setattr(rules.zen_side, "table_reader", absent)

    code = main(["rules"])

    assert code == 2
    assert "`bench` extra" in capsys.readouterr().err


def test_figures_are_kept_beside_those_of_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One flat object holds the figures of every benchmark that was run."""
    file = tmp_path / "build" / "bench.json"
    file.parent.mkdir()
    file.write_text('{"reasons_over_lightgbm": 11.0}', encoding="utf-8")
    monkeypatch.setattr("engine.bench.__main__.BENCHMARKS", {"rules": lambda: {"rules_50_us": 3.5}})

    code = main(["rules", "--json", "--out", str(file)])

    kept, printed = json.loads(file.read_text(encoding="utf-8")), json.loads(capsys.readouterr().out)
    assert code == 0
    assert kept["reasons_over_lightgbm"] == 11.0
    assert kept["rules_50_us"] == printed["rules_50_us"] == 3.5
    assert kept["python"]


def test_engines_that_disagree_are_not_compared() -> None:
    """A difference names the customer and both answers."""
    with pytest.raises(Disagreement, match=r"customer 1: rows \[2\] by us, \[3\] by them"):
        rules._agree("them", [[1], [2]], [[1], [3]])


def test_durable_rules_answers_as_we_do_and_is_timed_in_spells() -> None:
    """Its process stays, so that engines can be measured in turns."""
    ours = table_reader(table())

    with DurableProcess() as durable:
        held, spells = durable.held, [durable.spell_us() for _ in range(2)]

    assert held == [ours(customer) for customer in customers()]
    assert min(spells) > 0


def test_a_process_that_does_not_run_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command says what to install."""
    monkeypatch.setattr(sys, "executable", shutil.which("false"))

    with pytest.raises(PartMissing, match=r"exit code 1.*`bench` extra"), DurableProcess():
        pass


def test_each_is_measured_in_turn_and_the_best_counts() -> None:
    """A slow spell of the machine does not fall on one engine alone."""
    turns: list[str] = []

    def timed(name: str, times: list[float]) -> float:
        turns.append(name)
        return times[len(turns) % len(times)]

    found = timing.in_turns(lambda: timed("a", [3.0, 1.0, 2.0]), lambda: timed("b", [5.0, 9.0, 7.0]), turns=6)

    assert found == [1.0, 5.0]
    assert turns == ["a", "b"] * (len(turns) // 2)


def test_the_files_that_are_built_are_a_right_rule_set() -> None:
    """A reload is measured with everything it does, and on nothing that it refuses."""
    rulebook = build_rulebook(texts.sources(rules=130, actions=20), texts.schema())

    assert len(rulebook.actions) == 20
    assert len(rulebook.before_scores.rules) + len(rulebook.after_scores.rules) == 130


def test_the_best_of_every_piece_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disturbance costs the piece of work it falls on, and only in that round."""
    now_s = 0.0

    def work(item: str) -> None:
        nonlocal now_s
        now_s += costs_s[item].pop(0)

    costs_s = {"a": [1.0, 9.0], "b": [8.0, 2.0], "c": [3.0, 3.0]}
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: now_s))

    in_pieces = timing.per_item_us(work, ["a", "b", "c"], rounds=2, at_once=1)

    assert in_pieces == pytest.approx(2e6)


def test_turns_of_others_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading is measured by the processor's clock, and the best round counts."""
    clock_s = iter([0.0, 3.0, 10.0, 11.5])
    monkeypatch.setattr(timing, "time", SimpleNamespace(process_time=lambda: next(clock_s)))

    assert timing.best_processor_s(lambda: None, rounds=2) == 1.5
