"""What is wrong with a plan or a table ends in a clear error, and nothing is half-registered.

Each case has a golden file with what the command says; ARBITER_GOLDEN=write writes them anew.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from gym_company import Row, churn_plan, members, offer_plan, offers_made, write_csv, write_offers, write_plan
from typer.testing import Result

GOLDEN = Path(__file__).parent / "golden"
ERRORS, FAILED = 3, 4
Change = Callable[[Path], None]


@dataclass(frozen=True)
class Case:
    """One mistake: what is done to the files, and to the plan."""

    spoil: Change = lambda folder: None
    plan: Any = None
    code: int = ERRORS


def text_file(text: str | bytes, name: str = "members.csv") -> Change:
    """The table replaced by a text."""

    def spoil(folder: Path) -> None:
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())

    return spoil


def rows_changed(change: Callable[[list[Row]], list[Row]]) -> Change:
    """The members changed."""

    def spoil(folder: Path) -> None:
        write_csv(folder / "members.csv", change(members(400)))

    return spoil


def every(**values: Any) -> Callable[[list[Row]], list[Row]]:
    """Columns added or replaced, by value or by what a function says of a row and its number."""

    def change(rows: list[Row]) -> list[Row]:
        return [
            row | {name: value(row, i) if callable(value) else value for name, value in values.items()}
            for i, row in enumerate(rows)
        ]

    return change


def csv_text(rows: list[Row]) -> str:
    """The rows as text."""
    lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
    return "\n".join(lines) + "\n"


WIDE = ",".join(["MemberId", "Left", *(f"c{i}" for i in range(10_000))])
SCHEMA = """name = "gym"
version = 1
[[view]]
name = "table"
kind = "batch"
owner = "gym"
freshness_hours = 24
description = "d"
[[feature]]
name = "plan"
view = "table"
type = "category"
data_class = "contractual"
description = "d"
categories = ["flex", "year"]
"""

CASES = {
    "empty_file": Case(text_file("")),
    "header_only": Case(text_file("MemberId,Plan,Left\n")),
    "no_such_file": Case(plan={"data": {"path": "nobody.csv"}}),
    "ten_thousand_columns": Case(text_file(WIDE + "\n")),
    "mixed_types": Case(
        rows_changed(every(MonthlyFee=lambda row, i: "free" if i % 50 == 7 else row["MonthlyFee"]))
    ),
    "written_absence": Case(
        rows_changed(every(Visits=lambda row, i: "N/A" if i % 9 == 0 else row["Visits"] or 5))
    ),
    "numbers_with_a_word_as_double": Case(
        rows_changed(every(MonthlyFee=lambda row, i: "free" if i == 7 else row["MonthlyFee"])),
        plan={"features": {"types": {"MonthlyFee": "double"}}},
    ),
    "utf16_byte_order_mark": Case(text_file(csv_text(members(100)).encode("utf-16"))),
    "latin_1": Case(text_file(csv_text(members(100)).replace("flex", "fléx").encode("latin-1"))),
    "semicolons": Case(text_file(csv_text(members(100)).replace(",", ";"))),
    "column_twice": Case(text_file("MemberId,Plan,Plan,Left\nM1,a,b,yes\n")),
    "columns_alike": Case(text_file("MemberId,Plan,plan ,Left\nM1,a,b,yes\n")),
    "columns_become_one_feature": Case(
        rows_changed(every(monthly_fee=lambda row, i: i % 7, MonthlyFee=lambda row, i: i % 5))
    ),
    "column_without_name": Case(text_file("MemberId,,Left\nM1,a,yes\n")),
    "too_many_cells": Case(text_file(csv_text(members(100)) + "M9,flex,1,2.0,3,true,yes,more\n")),
    "one_class": Case(rows_changed(every(Left="no"))),
    "three_classes": Case(rows_changed(every(Left=lambda row, i: ("yes", "no", "maybe")[i % 3]))),
    "no_label": Case(rows_changed(every(Left=lambda row, i: "" if i in (3, 40) else row["Left"]))),
    "positive_is_no_value": Case(plan={"data": {"positive": "ja"}}),
    "which_is_positive": Case(
        rows_changed(every(Left=lambda row, i: "left" if row["Left"] == "yes" else "stayed")),
        plan={"data": {"positive": None}},
    ),
    "member_without_id": Case(rows_changed(every(MemberId=lambda row, i: "" if i == 5 else row["MemberId"]))),
    "member_twice": Case(rows_changed(lambda rows: [*rows, rows[4]])),
    "too_few_rows": Case(rows_changed(lambda rows: rows[:120])),
    "no_column_left": Case(
        plan={"data": {"exclude": ["Plan", "Visits", "MonthlyFee", "MonthsMember", "Vegan"]}}
    ),
    "nothing_to_learn": Case(
        rows_changed(
            lambda rows: [
                {"MemberId": row["MemberId"], "Dice": i * 37 % 11, "Left": "yes" if i % 2 else "no"}
                for i, row in enumerate(rows)
            ]
        ),
        plan={"model": {"min_data_in_leaf": 500}},
    ),
    "no_time": Case(plan={"data": {"time": "Vegan"}, "split": {"by": "time"}}),
    "damaged_gzip": Case(
        text_file(gzip.compress(csv_text(members(300)).encode())[:2000], "members.csv.gz"),
        plan={"data": {"path": "members.csv.gz"}},
    ),
    "no_parquet": Case(text_file("PAR", "members.parquet"), plan={"data": {"path": "members.parquet"}}),
    "unknown_columns": Case(
        plan={
            "data": {"id": "memberid", "exclude": ["Vegn"]},
            "segments": ["Plans"],
            "features": {"types": {"Fee": "double"}},
        }
    ),
    "unknown_concept": Case(plan={"concepts": {"price": ["MonthlyFee", "Discount"]}}),
    "unknown_fields": Case(plan={"metadata": {"name": "churn", "ownr": "x"}, "modell": {}}),
    "wrong_values": Case(
        plan={"split": {"test": 0.9}, "task": {"kind": "chum"}, "metadata": {"name": "My Model"}}
    ),
    "fields_of_another_kind": Case(plan={"task": {"action": "Offer"}}),
    "label_and_event": Case(plan={"task": {"event": "Left", "horizon_days": 30}}),
    "time_for_split": Case(plan={"split": {"by": "time"}}),
    "schema_with_other_categories": Case(
        text_file(SCHEMA, "gym.toml"),
        plan={"features": {"schema": "gym.toml", "columns": {"plan": "Plan"}, "data_class": None}},
    ),
    "schema_not_there": Case(plan={"features": {"schema": "gym.toml"}}),
    "schema_of_others": Case(text_file(SCHEMA, "gym.toml"), plan={"features": {"schema": "gym.toml"}}),
    "leak": Case(
        rows_changed(every(Fee2=lambda row, i: 100 + (row["Left"] == "yes") + i % 2 / 4)), code=FAILED
    ),
    "gate": Case(plan={"gates": {"auc_at_least": 0.99, "auc_at_most": 1.0}}, code=FAILED),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_input_ends_in_a_clear_error(
    name: str, gym_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Callable[..., Result]
) -> None:
    """With exit code, words, place and advice; the registry stays as it was, which is not there."""
    case = CASES[name]
    write_csv(tmp_path / "members.csv", members(400))
    case.spoil(tmp_path)
    write_plan(tmp_path, churn_plan(register={"registry": "registry"}, **{**(case.plan or {})}))
    monkeypatch.chdir(tmp_path)

    result = run("train", "plan.yaml")

    assert result.exit_code == case.code, result.output
    check_golden(name, result.stderr)
    assert not list(tmp_path.glob("registry/*"))


OFFER_CASES = {
    "offers_price_of_nobody": {"task": {"actions": {"features": ["prise"]}}},
    "offers_one_offer": {"task": {"action": "Plan"}, "data": {"exclude": ["Offer"]}},
}


@pytest.mark.parametrize("name", OFFER_CASES)
def test_bad_tables_of_actions_are_told(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Callable[..., Result]
) -> None:
    """Columns and actions that are not there are named."""
    write_offers(tmp_path)
    if name == "offers_one_offer":
        write_csv(tmp_path / "offered.csv", [row | {"Plan": "gold"} for row in offers_made(300)])
    write_plan(tmp_path, offer_plan(**OFFER_CASES[name]))
    monkeypatch.chdir(tmp_path)

    result = run("train", "plan.yaml")

    assert result.exit_code == ERRORS, result.output
    check_golden(name, result.stderr)


def test_a_byte_order_mark_of_utf8_is_no_mistake(tmp_path: Path, run: Callable[..., Result]) -> None:
    """Excel writes it; the first column has its name without it."""
    (tmp_path / "members.csv").write_bytes(b"\xef\xbb\xbf" + csv_text(members(400)).encode())
    plan = write_plan(tmp_path, churn_plan())

    result = run("train", plan, "--dry-run")

    assert result.exit_code == 0, result.output
    assert "the customer" in result.stdout


def check_golden(name: str, said: str) -> None:
    """Compares with the golden file."""
    path = GOLDEN / f"{name}.txt"
    text = "\n".join(line.rstrip() for line in said.strip().splitlines()) + "\n"
    if os.environ.get("ARBITER_GOLDEN") == "write":
        GOLDEN.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text
