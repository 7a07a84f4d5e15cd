"""Boosting with the plan's parameters or with better ones, and how good the result is on rows never seen."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from training.baseline import baseline_scores
from training.boosting import Recipe, fit, log_odds
from training.calibration import (
    Platt,
    calibrated_across,
    calibration_error,
    fit_calibration,
    log_loss_of,
    sigmoid,
)
from training.candidate import Learnt, Task, auc
from training.dataset import Floats, Index
from training.errors import ExportRefused, PlanProblem, PlanRefused
from training.own.plan import ModelPlan, TrainingPlan
from training.own.tasks import Matrix

if TYPE_CHECKING:
    import optuna

_CHANCES: Final = 200
_RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "learning_rate": (0.01, 0.3),
    "num_leaves": (4, 64),
    "max_depth": (2, 8),
    "min_data_in_leaf": (10, 300),
    "lambda_l2": (0.1, 100.0),
    "feature_fraction": (0.4, 1.0),
    "bagging_fraction": (0.5, 1.0),
}
"""What is searched, on a logarithmic scale; whole numbers where both ends are."""


@dataclass(frozen=True, slots=True)
class Searched:
    """What a search found. `stopped` where the time was over before all trials were made."""

    trials: int
    stopped: bool
    before: float
    best: float


@dataclass(frozen=True, slots=True, eq=False)
class CrossValidated:
    """Every row scored by models that were fitted and calibrated without its fold; (n,) each.

    `aucs` and `baseline_aucs` are by fold.
    """

    folds: Index
    margins: Floats
    probabilities: Floats
    labels: Floats
    aucs: Floats
    baseline_aucs: Floats

    def metrics(self) -> dict[str, float]:
        """The figures for the manifest."""
        return {
            "cv_auc": float(self.aucs.mean()),
            "cv_auc_deviation": float(self.aucs.std()),
            "baseline_cv_auc": float(self.baseline_aucs.mean()),
            "cv_ece": calibration_error(probabilities=self.probabilities, labels=self.labels),
        }


def recipe_of(model: ModelPlan) -> Recipe:
    """The plan's parameters as LightGBM takes them."""
    parameters = {name: getattr(model, name) for name in _RANGES}
    return Recipe(model.max_trees, model.patience, {**parameters, "bagging_freq": 1})


def learn_calibrated(plan: TrainingPlan, task: Task, recipe: Recipe) -> Learnt:
    """Boosts on the training rows, stops and calibrates on the validation rows.

    Raises ExportRefused where nothing was learnt: a model without a split gives everybody the same score.
    """
    booster = fit(train=task.train, validation=task.validation, recipe=recipe, seed=plan.seed)
    if not any(tree["num_leaves"] > 1 for tree in booster.dump_model()["tree_info"]):
        raise ExportRefused(
            f"{task.name}: no split of any input makes the label more certain, so every score would be the "
            "same: bring other columns or more rows, or lower `model.min_data_in_leaf`"
        )
    margins = log_odds(booster, task.validation.rows)
    calibration = fit_calibration(
        margins=margins, labels=task.validation.labels, method=plan.calibration.method, seed=plan.seed
    )
    if isinstance(calibration, Platt) and calibration.slope <= 0.0:
        raise ExportRefused(
            f"{task.name}: the higher the score, the fewer of the validation rows are positive: what was "
            "learnt is noise; bring more rows or other columns"
        )
    return Learnt(booster=booster, calibration=calibration)


def searched_recipe(plan: TrainingPlan, task: Task) -> tuple[Recipe, Searched | None]:
    """The plan's recipe, or the best one that a search finds by the log loss on the validation rows.

    The same trials give the same recipe; how many are made within the time depends on the machine.
    """
    recipe, search = recipe_of(plan.model), plan.model.search
    if search is None:
        return recipe, None
    optuna = _optuna()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=plan.seed))
    study.enqueue_trial({name: _inside(name, getattr(plan.model, name)) for name in _RANGES})
    ends = time.monotonic() + search.minutes * 60
    for _ in range(search.trials):
        trial = study.ask()
        try:
            study.tell(trial, _loss(plan, task, _suggested(trial, recipe)))
        except ExportRefused:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        if time.monotonic() >= ends:
            break
    made = study.trials
    first = made[0].value
    best = Recipe(recipe.max_trees, recipe.patience, {**study.best_params, "bagging_freq": 1})
    stopped = len(made) < search.trials
    return best, Searched(len(made), stopped, float(first if first is not None else np.nan), study.best_value)


def cross_validated(plan: TrainingPlan, matrix: Matrix, *, recipe: Recipe) -> CrossValidated | None:
    """Every row by models that did not see it; None where the plan wants none, or rows are split by time.

    The number of trees is fixed beforehand; a fold is calibrated by the margins of the others.
    """
    if plan.evaluation.folds < 2 or plan.split.by == "time":
        return None
    examples = matrix.examples
    folds, margins = np.zeros(len(examples.labels), dtype=np.intp), np.zeros(len(examples.labels))
    aucs, baseline_aucs = [], []
    for fold, (learning, held_out) in enumerate(_folds(plan, examples.labels, examples.groups)):
        test = matrix.table(held_out)
        booster = fit(train=matrix.table(learning, copies_seed=plan.seed), recipe=recipe, seed=plan.seed)
        margins[held_out], folds[held_out] = log_odds(booster, test.rows), fold
        aucs.append(auc(test.labels, margins[held_out]))
        baseline_aucs.append(auc(test.labels, baseline_scores(train=matrix.table(learning), rows=test.rows)))
    probabilities = calibrated_across(
        margins, examples.labels, folds, method=plan.calibration.method, seed=plan.seed
    )
    return CrossValidated(
        folds, margins, probabilities, examples.labels, np.array(aucs), np.array(baseline_aucs)
    )


def error_by_chance(probabilities: Floats, *, seed: int) -> float:
    """The calibration error that exactly right scores exceed one time in twenty, on so many rows."""
    rng = np.random.default_rng(seed)
    drawn = [
        calibration_error(
            probabilities=probabilities,
            labels=(rng.random(len(probabilities)) < probabilities).astype(np.float64),
        )
        for _ in range(_CHANCES)
    ]
    return float(np.quantile(drawn, 0.95))


def _folds(plan: TrainingPlan, labels: Floats, groups: Index) -> list[tuple[Index, Index]]:
    nothing, folds = np.zeros((len(labels), 1)), plan.evaluation.folds
    if len(np.unique(groups)) == len(groups):
        return list(StratifiedKFold(folds, shuffle=True, random_state=plan.seed).split(nothing, labels))
    whole = StratifiedGroupKFold(folds, shuffle=True, random_state=plan.seed)
    return list(whole.split(nothing, labels, groups))


def _loss(plan: TrainingPlan, task: Task, recipe: Recipe) -> float:
    booster = fit(train=task.train, validation=task.validation, recipe=recipe, seed=plan.seed)
    margins = log_odds(booster, task.validation.rows)
    return log_loss_of(probabilities=sigmoid(margins), labels=task.validation.labels)


def _suggested(trial: optuna.trial.Trial, recipe: Recipe) -> Recipe:
    parameters: dict[str, object] = {}
    for name, (low, high) in _RANGES.items():
        if isinstance(low, int):
            parameters[name] = trial.suggest_int(name, low, int(high), log=True)
        else:
            parameters[name] = trial.suggest_float(name, low, high, log=True)
    return Recipe(recipe.max_trees, recipe.patience, {**parameters, "bagging_freq": 1})


def _inside(name: str, value: float) -> float:
    """The value, or the end of the range searched where it lies beyond."""
    low, high = _RANGES[name]
    return min(max(value, low), high)


def _optuna() -> Any:  # noqa: ANN401  # the module itself
    try:
        import optuna
    except ImportError as error:
        problem = PlanProblem(
            ("model", "search"),
            "needs optuna, which is not installed",
            "run: pip install 'arbiter-nba[training]', or leave `search` out",
        )
        raise PlanRefused((problem,)) from error
    return optuna
