"""The rule benchmark: what it compares is the same, and it says so where it cannot run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.bench import rules
from engine.bench.__main__ import main
from engine.bench.cases import COLUMNS, Customer, Row, customers, many_conditions, table
from engine.bench.ours import table_reader


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
    with pytest.raises(rules.Disagreement, match=r"customer 1: rows \[2\] by us, \[3\] by them"):
        rules._agree("them", [[1], [2]], [[1], [3]])
