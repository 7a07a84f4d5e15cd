"""The trial that an uplift model learns from: who was treated, with what chance, and whether at random."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import lightgbm as lgb
import numpy as np
from scipy.stats import rankdata

from training.dataset import Floats, Index
from training.errors import DataRefused
from training.evaluation.uplift import Trial
from training.own.examples import Examples
from training.own.inference import Inferred
from training.own.labels import Labelled, binary_column, binary_label, labelled_ahead, refused
from training.own.parts import Parts
from training.own.plan import TrainingPlan
from training.own.signs import Sign
from training.own.table import SourceTable

FEWEST_OF_AN_ARM: Final = 100
"""Rows of each arm in each part: of fewer no difference can be told."""
FEWEST_OF_A_LABEL: Final = 10
"""Rows of each label in each arm of each part."""
LEAST_CHANCE: Final = 0.01
"""A row treated against such odds would count for a hundred others."""
GUESSED: Final = 0.55
"""AUC of guessing the treatment from the inputs, beyond chance, from which it is loud."""
SURELY_GUESSED: Final = 0.65
"""From here on the run stops: what is learnt would be who was chosen, not what the treatment does."""
UNBALANCED: Final = 0.10
"""Standardised mean difference between the arms that is told, where chance does not explain it."""
_CHANCE_DEVIATIONS: Final = 4.0
"""Of hundreds of inputs none differs by so many standard errors by chance."""
_FEW_VALUES: Final = 20
_GUESSING: Final = {
    "objective": "binary",
    "num_leaves": 8,
    "learning_rate": 0.1,
    "min_data_in_leaf": 50,
    "lambda_l2": 10.0,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbose": -1,
}


def labelled_uplift(plan: TrainingPlan, table: SourceTable) -> Labelled:
    """The outcome of each row, whether it was treated, and the chance of it."""
    task = plan.task
    treated = binary_column(
        table, str(task.treatment), task.treated, path=("task", "treated"), what="treatment"
    )
    chances = np.full(table.rows, treated.mean()) if task.chance is None else _chances(table, task.chance)
    labelled = labelled_ahead(plan, table, binary_label(plan, table))
    whose = f"chance of it from column {task.chance}" if task.chance else "chance of it the same for all"
    note = f"{treated.mean():.1%} of {table.rows:,} rows treated, {whose}"
    return replace(labelled, treated=treated, chances=chances, notes=(*labelled.notes, note))


def trial_of(labelled: Labelled, examples: Examples, rows: Index) -> Trial:
    """The trial in some of the examples."""
    assert labelled.treated is not None  # of an uplift model
    assert labelled.chances is not None
    places = examples.rows[rows]
    return Trial(examples.labels[rows], labelled.treated[places], labelled.chances[places])


def trial_signs(
    plan: TrainingPlan, inferred: Inferred, labelled: Labelled, examples: Examples, parts: Parts
) -> tuple[Sign, ...]:
    """What tells that the treatment was not dealt out at random. Raises DataRefused for arms too small."""
    problems = [
        problem
        for name, rows in parts.named.items()
        for problem in _too_few(name, trial_of(labelled, examples, rows))
    ]
    if problems:
        raise DataRefused(Path(plan.data.path).name, tuple(problems))
    trial = trial_of(labelled, examples, np.arange(len(examples.labels), dtype=np.intp))
    return (*_guessed(plan, trial, examples, parts), *_unbalanced(inferred, trial, examples))


def guessing_area(trial: Trial, examples: Examples, parts: Parts) -> tuple[float, float]:
    """AUC of a model that guesses the treatment, on rows it did not learn from, and its deviation by chance.

    Rows count by their chances, so that a treatment that follows them as stated cannot be guessed.
    """
    weights = trial.treated_weights + trial.control_weights
    learning = lgb.Dataset(
        examples.values[parts.train], trial.treated[parts.train], weight=weights[parts.train]
    )
    booster = lgb.train(dict(_GUESSING), learning, num_boost_round=50)
    judged = np.concatenate([parts.validation, parts.test])
    scores = np.asarray(booster.predict(examples.values[judged]), dtype=np.float64)
    return _weighted_area(scores, trial.treated[judged], weights[judged])


def differences(trial: Trial, examples: Examples) -> Iterator[tuple[str, float, float]]:
    """By input its largest standardised mean difference between the arms, and the deviation by chance.

    Of inputs of few values each value is looked at, and of all whether they are missing.
    """
    deviation = float(np.sqrt(1.0 / _worth(trial.treated_weights) + 1.0 / _worth(trial.control_weights)))
    for place, name in enumerate(examples.features):
        values = examples.values[:, place].astype(np.float64)
        columns = [
            np.isnan(values).astype(np.float64),
            np.where(np.isnan(values), np.nanmean(values), values),
        ]
        known = np.unique(values[~np.isnan(values)])
        if len(known) <= _FEW_VALUES:
            columns += [(values == value).astype(np.float64) for value in known]
        yield name, max(_difference(trial, column) for column in columns), deviation


def _chances(table: SourceTable, name: str) -> Floats:
    found = np.full(table.rows, np.nan)
    for row, cell in enumerate(table.texts(name)):
        try:
            found[row] = float(cell or "")
        except ValueError:
            continue
    wrong = np.flatnonzero(~((found >= LEAST_CHANCE) & (found <= 1.0 - LEAST_CHANCE)))
    if len(wrong):
        why = f"no chance of treatment from {LEAST_CHANCE} to {1.0 - LEAST_CHANCE}; leave such rows out"
        raise refused(table, name, why, wrong.tolist())
    return found


def _too_few(part: str, trial: Trial) -> Iterator[str]:
    for arm, members in (("treated", trial.treated > 0.5), ("control", trial.treated <= 0.5)):
        rows, positives = int(members.sum()), int(trial.outcomes[members].sum())
        if rows < FEWEST_OF_AN_ARM or min(positives, rows - positives) < FEWEST_OF_A_LABEL:
            yield (
                f"the {part} part has {rows:,} {arm} rows, {positives:,} of them positive; at least "
                f"{FEWEST_OF_AN_ARM} rows and {FEWEST_OF_A_LABEL} of each label are needed in both arms: "
                "bring more rows, or change `split`"
            )


def _guessed(plan: TrainingPlan, trial: Trial, examples: Examples, parts: Parts) -> Iterator[Sign]:
    area, deviation = guessing_area(trial, examples, parts)
    if area - 1.96 * deviation > 0.5 and area >= GUESSED:
        yield Sign(
            str(plan.task.treatment),
            "treatment",
            f"the inputs tell who was treated, with an AUC of {area:.3f} on rows not learnt from (0.5 were "
            f"at random, chance takes it to {0.5 + 1.96 * deviation:.3f})",
            "learn from customers who were treated at random, give the chance of each in `task.chance`, or "
            "leave out columns that the treatment changed",
            severe=area >= SURELY_GUESSED,
        )


def _unbalanced(inferred: Inferred, trial: Trial, examples: Examples) -> Iterator[Sign]:
    for name, size, deviation in differences(trial, examples):
        if size >= UNBALANCED and size > _CHANCE_DEVIATIONS * deviation:
            yield Sign(
                inferred.column_of[name],
                "balance",
                f"differs by {size:.2f} standard deviations between treated and untreated customers "
                f"(chance: {2 * deviation:.2f})",
                "find out whether it was known before the treatment, and who was chosen for it",
            )


def _difference(trial: Trial, column: Floats) -> float:
    """The standardised mean difference, without its sign."""
    means, variances = [], []
    for weights in (trial.treated_weights, trial.control_weights):
        mean = float(np.average(column, weights=weights))
        means.append(mean)
        variances.append(float(np.average((column - mean) ** 2, weights=weights)))
    spread = np.sqrt(sum(variances) / 2.0)
    return float(abs(means[0] - means[1]) / spread) if spread > 0.0 else 0.0


def _worth(weights: Floats) -> float:
    """How many rows of one weight tell as much."""
    return float(weights.sum() ** 2 / np.square(weights).sum())


def _weighted_area(scores: Floats, treated: Floats, weights: Floats) -> tuple[float, float]:
    """Chance that a treated row, drawn by weight, stands above an untreated one; its deviation at random."""
    order = np.argsort(scores, kind="stable")
    ranks = rankdata(scores[order], method="dense") - 1
    of_treated = np.bincount(ranks, (weights * treated)[order])
    of_control = np.bincount(ranks, (weights * (1.0 - treated))[order])
    below = np.cumsum(of_control) - of_control / 2.0
    area = float(of_treated @ below / (of_treated.sum() * of_control.sum()))
    one, other = _worth(weights[treated > 0.5]), _worth(weights[treated <= 0.5])
    return area, float(np.sqrt((one + other + 1.0) / (12.0 * one * other)))
