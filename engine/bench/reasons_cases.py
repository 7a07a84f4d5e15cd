"""Models for the benchmark of reasons: 200 trees of 31 leaves over 40 inputs, of data of several kinds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from engine.bench.parts import PartMissing

if TYPE_CHECKING:
    import lightgbm

INPUTS: Final = 40
LEAVES: Final = 31
_SEED: Final = 5
Rows = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Case:
    """One model: LightGBM's, the file a registered version has of it, and rows of its data."""

    name: str
    booster: lightgbm.Booster
    trees: bytes
    rows: Rows


SETTINGS: Final[Mapping[str, Mapping[str, object]]] = {
    "dense": {},
    "correlated": {},
    "categories": {},
    "deep": {"min_data_in_leaf": 1, "min_sum_hessian_in_leaf": 0.0, "learning_rate": 0.3},
    "shallow": {"max_depth": 5},
}
"""What differs from a usual recipe. `deep` grows chains without limit; `shallow` has the least to explain."""


def cases(*, trees: int, training_rows: int) -> list[Case]:
    """Trains every model. Raises PartMissing without LightGBM."""
    return [_case(kind, trees, training_rows) for kind in SETTINGS]


def _case(kind: str, trees: int, training_rows: int) -> Case:
    try:
        import lightgbm as lgb

        from training.trees import flatten
    except ImportError as error:
        raise PartMissing("LightGBM is not installed; install the `training` extra") from error
    rows = _rows(kind, training_rows)
    parameters: dict[str, Any] = {
        "objective": "binary", "num_leaves": LEAVES, "learning_rate": 0.05, "seed": _SEED,
        "deterministic": True, "num_threads": 1, "verbose": -1, **SETTINGS[kind],
    }  # fmt: skip
    learning = lgb.Dataset(rows.astype(np.float64), _labels(rows), params={"verbose": -1})
    booster = lgb.train(parameters, learning, num_boost_round=trees)
    return Case(kind, booster, flatten(booster).to_npz(), rows)


def _rows(kind: str, count: int) -> Rows:
    rng = np.random.default_rng(_SEED)
    rows = rng.normal(size=(count, INPUTS))
    if kind == "correlated":
        rows = rng.normal(size=(count, 6)) @ rng.normal(size=(6, INPUTS)) + 0.3 * rows
    if kind == "categories":
        rows = rng.integers(0, rng.integers(2, 7, INPUTS), size=(count, INPUTS)).astype(np.float64)
    if kind in ("dense", "categories"):
        rows[rng.random(rows.shape) < 0.05] = np.nan
    return rows.astype(np.float32)


def _labels(rows: Rows) -> npt.NDArray[np.int64]:
    """Some inputs alone, some together, and noise."""
    rng = np.random.default_rng(_SEED + 1)
    x = np.nan_to_num(rows.astype(np.float64))
    score = x @ rng.normal(0.0, 0.3, INPUTS) + x[:, 0] * x[:, 1] + np.abs(x[:, 2]) * x[:, 3]
    score += np.sin(3.0 * x[:, 4]) * x[:, 5] + rng.normal(size=len(x))
    return (score > np.median(score)).astype(np.int64)
