"""A trained model with everything its publication needs, before any gate has passed it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import lightgbm as lgb
import numpy as np
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from feature_store.schema import FeatureSchema
from model_registry.manifest import Concept, ModelInput, ModelKind
from training.boosting import Recipe, fit, log_odds
from training.calibration import Calibration, calibration_error, fit_platt, sigmoid
from training.dataset import Floats, Rows, Table
from training.links import Link
from training.trees import Trees, flatten

TARGET_PREFIX: Final = "target."


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be learnt. `train` holds the rows of `seen` and copies with hidden values.

    `name` is the model's in the registry. `actions` holds, by target, the values of the inputs of source
    `action`. `label_is_ownership` where a positive label means that the target is owned already, so that
    nobody will ask about it.
    """

    name: str
    kind: ModelKind
    intended_use: str
    schema: FeatureSchema
    inputs: tuple[ModelInput, ...]
    targets: tuple[str, ...]
    hidden: Mapping[str, tuple[str, ...]]
    concepts: tuple[Concept, ...]
    train: Table
    seen: Table
    validation: Table
    test: Table
    actions: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    label_is_ownership: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """A trained and calibrated model. `metrics` are of the customers held out of training.

    `calibration` makes margins scores: probabilities, or what the kind of model says.
    """

    task: Task
    booster: lgb.Booster
    trees: Trees
    calibration: Link
    metrics: Mapping[str, float]
    training_data: Mapping[str, str]
    seed: int

    def score(self, rows: Rows) -> Floats:
        """LightGBM's double prediction, calibrated, shape (n,)."""
        return self.calibration.score(log_odds(self.booster, rows))


@dataclass(frozen=True, slots=True)
class Learnt:
    """A calibrated booster."""

    booster: lgb.Booster
    calibration: Calibration


def learn(task: Task, *, recipe: Recipe, seed: int) -> Learnt:
    """Boosts on the training rows, stops and calibrates on the validation rows."""
    booster = fit(train=task.train, validation=task.validation, recipe=recipe, seed=seed)
    margins = log_odds(booster, task.validation.rows)
    return Learnt(booster=booster, calibration=fit_platt(margins=margins, labels=task.validation.labels))


def assemble(
    task: Task, learnt: Learnt, *, metrics: Mapping[str, float], training_data: Mapping[str, str], seed: int
) -> Candidate:
    """The candidate, its trees flattened and its metrics completed by those every model has."""
    return Candidate(
        task=task,
        booster=learnt.booster,
        trees=flatten(learnt.booster),
        calibration=learnt.calibration,
        metrics=rounded({**held_out_metrics(task, learnt), **metrics}),
        training_data=training_data,
        seed=seed,
    )


def held_out_metrics(task: Task, learnt: Learnt) -> dict[str, float]:
    """Discrimination and calibration on the test rows, and the size of the model."""
    test = task.test
    margins = log_odds(learnt.booster, test.rows)
    probabilities = learnt.calibration.probability(margins)
    return {
        "auc_test": auc(test.labels, margins),
        "auc_train": auc(task.seen.labels, log_odds(learnt.booster, task.seen.rows)),
        "auc_validation": auc(task.validation.labels, log_odds(learnt.booster, task.validation.rows)),
        "log_loss_test": float(log_loss(test.labels, probabilities)),
        "brier_test": float(brier_score_loss(test.labels, probabilities)),
        "ece_test_uncalibrated": calibration_error(probabilities=sigmoid(margins), labels=test.labels),
        "ece_test": calibration_error(probabilities=probabilities, labels=test.labels),
        "rate_test": float(test.labels.mean()),
        "rows_test": float(len(test.labels)),
        "trees": float(learnt.booster.num_trees()),
    }


def auc(labels: Floats, scores: Floats) -> float:
    """Area under the ROC curve."""
    return float(roc_auc_score(labels, scores))


def rounded(metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics to six decimals: more would be noise of the last bits."""
    return {name: round(float(value), 6) for name, value in metrics.items()}


def typical_values(task: Task) -> dict[str, float | None]:
    """Stored-form typical value of each input in training: median of numbers, else mode; 0 of targets."""
    kinds = {f.name: f.type for f in task.schema.feature}
    typical: dict[str, float | None] = {}
    for column, model_input in enumerate(task.inputs):
        known = task.seen.rows[:, column]
        known = known[~np.isnan(known)]
        if model_input.source == "target":
            typical[model_input.name] = 0.0
        elif not len(known):
            typical[model_input.name] = None
        elif kinds.get(model_input.name, "double") in ("int", "double"):
            typical[model_input.name] = float(np.quantile(known, 0.5, method="lower"))
        else:
            values, counts = np.unique(known, return_counts=True)
            typical[model_input.name] = float(values[counts.argmax()])
    return typical
