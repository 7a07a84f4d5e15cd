"""Which rows have which label, and which part they are in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gym_company import churn_plan, members, write_csv
from hypothesis import given
from hypothesis import strategies as st

from training.errors import DataRefused
from training.own.labels import DAY_MS
from training.own.parts import split_rows
from training.own.plan import Split, TrainingPlan
from training.own.run import Prepared, prepare


def nobody(_: int) -> bool:
    """No member."""
    return False


def watched(
    folder: Path, gone: dict[int, str], *, earlier: Callable[[int], bool] = nobody, **plan: Any
) -> Prepared:
    """Members seen on 1 March, or 1 January, and when some left; all others are still there."""
    rows = [
        {k: v for k, v in row.items() if k != "Left"}
        | {"At": "2026-01-01" if earlier(i) else "2026-03-01", "Gone": gone.get(i, "")}
        for i, row in enumerate(members(600))
    ]
    write_csv(folder / "members.csv", rows)
    horizon = {"event": "Gone", "horizon_days": 30, "observed_until": "2026-06-01"}
    changed = churn_plan(data={"label": None, "positive": None, "time": "At"}, task=horizon)
    changed["task"] |= plan
    return prepare(TrainingPlan.model_validate(changed), folder=folder)


MANY = dict.fromkeys(range(0, 600, 4), "2026-03-20")


def test_leaving_counts_within_the_horizon(tmp_path: Path) -> None:
    """Thirty days after 1 March is 31 March: that day's midnight counts, the day after does not."""
    found = watched(tmp_path, MANY | {1: "2026-03-31", 2: "2026-03-31T00:00:01Z", 3: "2026-05-02"})

    assert found.examples.labels[:4].tolist() == [1.0, 1.0, 0.0, 0.0]


def test_rows_whose_horizon_is_not_over_are_left_out(tmp_path: Path) -> None:
    """Nobody knows yet whether they leave; those who left already count."""
    gone = dict.fromkeys(range(0, 600, 4), "2026-03-05") | dict.fromkeys(range(1, 600, 4), "2026-01-20")

    found = watched(tmp_path, gone, earlier=lambda i: i % 2 == 1, observed_until="2026-03-10")

    assert len(found.examples.labels) == 300 + 150
    assert found.examples.labels.sum() == 300
    assert found.labelled.notes == (
        "150 rows left out: their 30 days are not over by 2026-03-10T00:00:00.000Z",
    )


def test_members_who_had_left_already_are_refused(tmp_path: Path) -> None:
    """They are no customers any more at the instant of their row."""
    with pytest.raises(DataRefused, match="column Gone: line 7: had left at the row's own instant"):
        watched(tmp_path, MANY | {5: "2026-02-28"})


def test_positive_may_be_a_truth_value(tmp_path: Path) -> None:
    """YAML reads `true` as one, the table writes TRUE."""
    rows = [row | {"Left": "TRUE" if row["Left"] == "yes" else "FALSE"} for row in members(500)]
    write_csv(tmp_path / "members.csv", rows)

    found = prepare(TrainingPlan.model_validate(churn_plan(data={"positive": True})), folder=tmp_path)

    assert found.examples.labels.sum() == sum(row["Left"] == "TRUE" for row in rows)


@given(seed=st.integers(0, 50), groups=st.integers(150, 400))
def test_nobody_is_in_two_parts(seed: int, groups: int) -> None:
    """Whole groups, all rows, and about the same rate in each part."""
    rng = np.random.default_rng(seed)
    group_of = rng.integers(groups, size=1500)
    _, group_of = np.unique(group_of, return_inverse=True)
    labels = (rng.random(1500) < 0.3).astype(np.float64)

    parts = split_rows(
        Split(), labels=labels, groups=group_of, from_ms=None, until_ms=None, seed=seed, source="t"
    )

    held = [set(group_of[rows]) for rows in parts.named.values()]
    assert sum(map(len, held)) == len(set.union(*held))
    assert sorted(np.concatenate(list(parts.named.values()))) == list(range(1500))
    assert all(abs(labels[rows].mean() - labels.mean()) < 0.12 for rows in parts.named.values())


@given(seed=st.integers(0, 50), horizon=st.integers(0, 20))
def test_no_label_looks_into_a_later_part(seed: int, horizon: int) -> None:
    """By time, what is learnt from was over before what is tested began."""
    rng = np.random.default_rng(seed)
    from_ms = rng.integers(0, 200, size=2000) * DAY_MS
    until_ms = from_ms + horizon * DAY_MS
    labels = (rng.random(2000) < 0.3).astype(np.float64)

    parts = split_rows(
        Split(by="time"),
        labels=labels,
        groups=np.arange(2000),
        from_ms=from_ms,
        until_ms=until_ms,
        seed=seed,
        source="t",
    )

    assert until_ms[parts.train].max() <= from_ms[parts.validation].min()
    assert until_ms[parts.validation].max() <= from_ms[parts.test].min()
    assert 0.15 < len(parts.test) / 2000 < 0.25
