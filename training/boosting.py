"""LightGBM, fitted reproducibly, with leaves that float32 adds up without rounding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, cast

import lightgbm as lgb
import numpy as np

from training.dataset import Floats, Rows, Table
from training.errors import ExportRefused

LEAF_STEP: Final = 2.0**-18
"""Leaf values are whole multiples of this. Sums below MAX_MARGIN then fit the 24 bits of a float32, so
every order of summation, in any runtime, gives the same margin as LightGBM's doubles."""
MAX_MARGIN: Final = 64.0

_REPRODUCIBLE: Final[Mapping[str, object]] = {
    "objective": "binary",
    "metric": "binary_logloss",
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,  # sums of gradients depend on how rows are dealt to threads
    "zero_as_missing": False,
    "verbose": -1,
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model is boosted. `parameters` are LightGBM's own; early stopping watches the `metric`."""

    max_trees: int
    patience: int
    parameters: Mapping[str, object] = field(default_factory=dict)

    def fixed(self, trees: int) -> Recipe:
        """The same with a fixed number of trees and no early stopping."""
        return Recipe(max_trees=trees, patience=0, parameters=self.parameters)


def fit(*, train: Table, recipe: Recipe, seed: int, validation: Table | None = None) -> lgb.Booster:
    """A boosted model, cut at its best number of trees, leaves rounded to LEAF_STEP.

    It is binary unless the recipe says otherwise. With `validation` and a patience, boosting stops where the
    validation loss stops falling.
    """
    parameters = {**_REPRODUCIBLE, **recipe.parameters, "seed": seed}
    learning = lgb.Dataset(train.rows, train.labels, free_raw_data=False)
    stopping = validation is not None and recipe.patience > 0
    watched = []
    if stopping:
        assert validation is not None
        watched = [lgb.Dataset(validation.rows, validation.labels, reference=learning)]
    booster = lgb.train(
        parameters,
        learning,
        num_boost_round=recipe.max_trees,
        valid_sets=watched,
        callbacks=[lgb.early_stopping(recipe.patience, verbose=False)] if stopping else [],
    )
    best = booster.best_iteration if stopping else recipe.max_trees
    return round_leaves(lgb.Booster(model_str=booster.model_to_string(num_iteration=best)))


def round_leaves(booster: lgb.Booster) -> lgb.Booster:
    """The same trees with leaf values rounded to LEAF_STEP. Raises ExportRefused where sums may overflow.

    Done before anything is measured, so that every figure is of the model that serves.
    """
    largest = 0.0
    for tree, leaves in enumerate(_leaf_counts(booster)):
        values = [booster.get_leaf_output(tree, leaf) for leaf in range(leaves)]
        rounded = np.round(np.array(values) / LEAF_STEP) * LEAF_STEP
        for leaf, value in enumerate(rounded.tolist()):
            booster.set_leaf_output(tree, leaf, value)
        largest += float(np.abs(rounded).max())
    if largest >= MAX_MARGIN:
        raise ExportRefused(
            f"leaves may add up to {largest:.1f}, from {MAX_MARGIN} float32 sums round: "
            "use fewer trees, a smaller learning rate or more regularisation"
        )
    return lgb.Booster(model_str=booster.model_to_string())


def log_odds(booster: lgb.Booster, rows: Rows) -> Floats:
    """Uncalibrated margins in double, shape (n,): of a classifier log-odds."""
    return cast(Floats, np.asarray(booster.predict(rows, raw_score=True), dtype=np.float64))


def contributions(booster: lgb.Booster, rows: Rows) -> Floats:
    """Exact Shapley values as LightGBM computes them, float64 of shape (n, inputs + 1), base last."""
    return cast(Floats, np.asarray(booster.predict(rows, pred_contrib=True), dtype=np.float64))


def _leaf_counts(booster: lgb.Booster) -> list[int]:
    return [int(tree["num_leaves"]) for tree in booster.dump_model()["tree_info"]]
