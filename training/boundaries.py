"""`python -m training.boundaries`: what the exact thresholds of the export are worth.

Converters round LightGBM's double thresholds to the nearest float32, which may lie above. A row that stands
just there goes to the other leaf. This counts such rows among those at the splits of both demo models, with
thresholds as the converter leaves them and as the export sets them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import lightgbm as lgb
import numpy as np

from feature_store.schema import load_schema
from training.boosting import Recipe, log_odds
from training.calibration import Calibration
from training.candidate import Task, learn
from training.churn import RECIPE as CHURN_RECIPE
from training.churn import churn_task
from training.dataset import Rows, split_customers
from training.export import converted_thresholds, to_onnx
from training.parity import run_onnx, split_rows
from training.propensity import RECIPE as PROPENSITY_RECIPE
from training.propensity import propensity_task
from training.telco import read_telco
from training.trees import Trees, flatten

SEED: Final = 1
SCHEMA: Final = Path(__file__).resolve().parent.parent / "feature_store/demo/telco.toml"


@dataclass(frozen=True, slots=True)
class Boundaries:
    """Rows at splits, and how many of them the two exports send to another leaf than LightGBM does."""

    rows: int
    wrong_as_converted: int
    wrong_as_exported: int


def count_boundaries(booster: lgb.Booster, *, calibration: Calibration, like: Rows) -> Boundaries:
    """Compares margins of both exports with LightGBM's on six rows at every split.

    `like` (inputs,) fills what the way to a split does not ask for.
    """
    trees = flatten(booster)
    converted = replace(trees, threshold=converted_thresholds(booster))
    rows = split_rows(trees, like=like)
    expected = log_odds(booster, rows)

    def wrong(of: Trees) -> int:
        margins, _ = run_onnx(to_onnx(booster, trees=of, calibration=calibration, name="counted"), rows)
        return int((margins != expected).sum())

    return Boundaries(rows=len(rows), wrong_as_converted=wrong(converted), wrong_as_exported=wrong(trees))


def main() -> None:
    """Trains both demo models, without cross-validation, and prints the counts."""
    telco = read_telco(load_schema(SCHEMA))
    split = split_customers(strata=telco.strata, seed=SEED)
    tasks: tuple[tuple[Task, Recipe], ...] = (
        (churn_task(telco, split=split, seed=SEED), CHURN_RECIPE),
        (propensity_task(telco, split=split, seed=SEED), PROPENSITY_RECIPE),
    )
    for task, recipe in tasks:
        learnt = learn(task, recipe=recipe, seed=SEED)
        like = np.ascontiguousarray(task.test.rows[0])
        found = count_boundaries(learnt.booster, calibration=learnt.calibration, like=like)
        print(  # what the command is for
            f"{task.name}: of {found.rows} rows at splits {found.wrong_as_converted} go to another leaf with "
            f"thresholds as converted, {found.wrong_as_exported} with those of the export"
        )


if __name__ == "__main__":
    main()
