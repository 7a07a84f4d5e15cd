"""Signs of leakage are found with their evidence, stop the run where they are severe, and can be accepted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gym_company import Row, churn_plan, members, write_csv

from training.errors import LeakSuspected, PlanRefused
from training.own.plan import TrainingPlan
from training.own.run import Prepared, prepare, train
from training.own.signs import ROWS, Sign

COUNT = 400


def prepared(folder: Path, change: Callable[[list[Row]], list[Row]], **plan: Any) -> Prepared:
    """The members changed, and looked at."""
    write_csv(folder / "members.csv", change(members(COUNT)))
    return prepare(TrainingPlan.model_validate(churn_plan(**plan)), folder=folder)


def with_column(name: str, value: Callable[[Row, int], Any]) -> Callable[[list[Row]], list[Row]]:
    """A column more."""
    return lambda rows: [row | {name: value(row, i)} for i, row in enumerate(rows)]


def sign_of(found: Prepared, column: str, kind: str) -> Sign | None:
    """The sign of a kind at a column."""
    return next((s for s in found.signs if (s.column, s.kind) == (column, kind)), None)


def noisy_label(row: Row, i: int) -> str:
    """The label in other words, wrong once in fifty rows."""
    left = (row["Left"] == "yes") != (i % 50 == 7)
    return "closed" if left else "open"


def test_honest_columns_are_no_leaks(tmp_path: Path) -> None:
    """The members as they are give no sign at all."""
    assert prepared(tmp_path, lambda rows: rows).signs == ()


PLANTED: Mapping[str, Callable[[Row, int], Any]] = {
    "as_category": noisy_label,
    "as_number": lambda row, i: (10.0 if row["Left"] == "yes" else 3.0) + (i % 7) / 10,
    "as_islands": lambda row, i: (i % 5) * 10 + (5 if row["Left"] == "yes" else 0) + (i % 3) / 10,
}


@pytest.mark.parametrize("planted", PLANTED)
def test_a_column_that_tells_the_label_stops_the_run(planted: str, tmp_path: Path) -> None:
    """However it tells it: as a category, above a threshold, or on islands that no line finds."""
    found = prepared(tmp_path, with_column("State", PLANTED[planted]))

    sign = sign_of(found, "State", "near_perfect")

    assert sign is not None
    assert sign.severe
    with pytest.raises(LeakSuspected, match="column State: alone it tells the label with an AUC of"):
        train(found)


def test_a_strong_column_is_warned_of_and_learnt_from(tmp_path: Path) -> None:
    """Suspicious is not severe: the run goes on."""
    rng = np.random.default_rng(1)
    column = with_column("Mood", lambda row, i: float(rng.normal(2.4 * (row["Left"] == "yes"), 1.0)))

    found = prepared(tmp_path, column)

    sign = sign_of(found, "Mood", "near_perfect")
    assert sign is not None
    assert not sign.severe


def test_a_column_filled_once_the_label_is_known_stops_the_run(tmp_path: Path) -> None:
    """Its values tell nothing; that it has one does."""
    column = with_column("Survey", lambda row, i: i % 5 if row["Left"] == "yes" else "")

    sign = sign_of(prepared(tmp_path, column), "Survey", "known_after")

    assert sign is not None
    assert sign.severe
    assert "filled in 100.0% of the rows with the label and 0.0% of the others" in sign.evidence


def test_what_the_plan_says_of_a_leak_is_heard(tmp_path: Path) -> None:
    """Named in `known_after` it is no input; named in `accept_leak` it is learnt from."""
    column = with_column("State", noisy_label)

    left_out = prepared(tmp_path, column, data={"known_after": ["State"]})
    accepted = prepared(tmp_path, column, data={"accept_leak": ["State"]}, gates={"auc_at_most": 1.0})

    assert left_out.signs == ()
    assert "state" not in left_out.examples.features
    assert train(accepted).candidate.metrics["auc_test"] > 0.9


def test_only_columns_that_are_there_can_be_accepted(tmp_path: Path) -> None:
    """A name that is misspelt would accept nothing."""
    with pytest.raises(PlanRefused, match="no column `Stat`; did you mean `State`"):
        prepared(tmp_path, with_column("State", noisy_label), data={"accept_leak": ["Stat"]})


def test_ids_are_left_out_and_told(tmp_path: Path) -> None:
    """Numbers that number rows through, and texts of which every row has another."""
    found = prepared(tmp_path, with_column("CardNumber", lambda row, i: 70_000 + i))

    sign = sign_of(found, "CardNumber", "id")

    assert sign is not None
    assert "400 different values in as many rows" in sign.evidence
    assert "card_number" not in found.examples.features


def test_an_amount_that_is_all_different_is_no_id(tmp_path: Path) -> None:
    """Cents spent over years differ in every row and describe the customer."""
    column = with_column("CentsSpent", lambda row, i: (i * 7_919) % 1_000_003)

    assert sign_of(prepared(tmp_path, column), "CentsSpent", "id") is None


def test_names_of_what_comes_afterwards_are_warned_of(tmp_path: Path) -> None:
    """A column named for the cancellation, even if it tells little."""
    found = prepared(tmp_path, with_column("CancelReason", lambda row, i: "abc"[i % 3]))

    sign = sign_of(found, "CancelReason", "name")

    assert sign is not None
    assert not sign.severe


def test_rows_copied_under_other_ids_stop_the_run(tmp_path: Path) -> None:
    """A file put together twice is tested on what was learnt by heart."""
    found = prepared(
        tmp_path, lambda rows: [*rows, *(row | {"MemberId": f"X{row['MemberId']}"} for row in rows)]
    )

    sign = sign_of(found, ROWS, "copies")

    assert sign is not None
    assert sign.severe
    with pytest.raises(LeakSuspected, match="test rows stand in the training part too"):
        train(found)


def test_instants_that_the_split_does_not_heed_are_warned_of(tmp_path: Path) -> None:
    """Rows with a time, dealt out at random."""
    column = with_column("At", lambda row, i: f"2026-01-{i % 28 + 1:02d}")

    found = prepared(tmp_path, column, data={"time": "At"})

    assert sign_of(found, "At", "order") is not None
