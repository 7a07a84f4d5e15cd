"""A model of what customers will be worth: one boosted regression with a logarithmic link."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import lightgbm as lgb
import numpy as np

from training.baseline import baseline_amounts
from training.boosting import LEAF_STEP, Recipe, contributions, fit, log_odds
from training.candidate import Task, rounded
from training.dataset import Floats
from training.errors import DataRefused, ExportRefused
from training.evaluation.value import gini_gain, tenths_of, total_ratio
from training.links import Exponential
from training.own.evidence import Case, Gate, Measured
from training.own.labels import Labelled, labelled_ahead, refused
from training.own.learning import recipe_of
from training.own.plan import TrainingPlan
from training.own.table import SourceTable
from training.own.value_evidence import ValueEvidence

MOST: Final = 1e15
"""Amounts beyond this are mistakes."""
TWEEDIE_POWER: Final = 1.5
"""Between counts (1) and amounts that are never 0 (2): many small sums, some zeros, few large ones."""


def labelled_value(plan: TrainingPlan, table: SourceTable) -> Labelled:
    """The amount of each row. Raises DataRefused for what is no amount, and for zeros where none may be."""
    name = str(plan.data.label)
    amounts = np.full(table.rows, np.nan)
    for row, cell in enumerate(table.texts(name)):
        try:
            amounts[row] = float(cell or "")
        except ValueError:
            continue
    wrong = np.flatnonzero(~((amounts >= 0.0) & (amounts <= MOST)))
    if len(wrong):
        raise refused(table, name, "is no amount from 0; write 0 where nothing was earned", wrong.tolist())
    zeros = np.flatnonzero(amounts == 0.0)
    if len(zeros) and plan.task.objective in ("gamma", "lognormal"):
        why = f"is 0, which {plan.task.objective} does not know; say `objective: tweedie`"
        raise refused(table, name, why, zeros.tolist())
    if np.ptp(amounts) == 0.0:
        raise DataRefused(
            table.path.name, (f"column {name}: is {amounts[0]:g} in every row: nothing to learn",)
        )
    labelled = labelled_ahead(plan, table, amounts)
    note = f"{(amounts > 0.0).mean():.1%} of the rows have a value; amounts are in {plan.task.currency}"
    return replace(labelled, notes=(*labelled.notes, note))


def learn_value(case: Case) -> Measured:
    """Boosts on the training rows, stops on the validation rows, measures on the test rows.

    Raises ExportRefused where no input tells customers apart.
    """
    plan = case.plan
    amounts = case.examples.labels
    cap = _cap(plan, amounts[case.parts.train])
    capped = case.task_with(np.minimum(amounts, cap))
    recipe = _recipe(plan)
    booster = _scaled(_boosted(capped, recipe, seed=plan.seed), capped)
    scores = Exponential().score(log_odds(booster, capped.test.rows))
    rival = baseline_amounts(train=capped.seen, rows=capped.test.rows)
    evidence = ValueEvidence(
        amounts=amounts[case.parts.test],
        counted=capped.test.labels,
        predicted=scores,
        baseline=rival,
        rows=capped.test.rows,
        shares=contributions(booster, capped.test.rows)[:, :-1],
        names=tuple(i.name for i in capped.inputs),
        currency=str(plan.task.currency),
        cap=cap if np.isfinite(cap) else None,
        gini=gini_gain(capped.test.labels, scores, rival, seed=plan.seed),
        total=total_ratio(capped.test.labels, scores, seed=plan.seed),
        tenths=tenths_of(capped.test.labels, scores),
    )
    metrics = {**evidence.metrics(), "rows_test": float(len(scores)), "trees": float(booster.num_trees())}
    return Measured(
        task=case.task_with(amounts),
        booster=booster,
        link=Exponential(),
        recipe=recipe,
        rival=rival,
        metrics=rounded(metrics),
        training_data=_told(plan, cap),
        gates=_gates(plan, evidence),
        evidence=evidence,
    )


def _cap(plan: TrainingPlan, amounts: Floats) -> float:
    """The amount above which a customer counts as much as it; infinite where the plan names no quantile."""
    if plan.task.winsorise is None:
        return float("inf")
    return float(np.quantile(amounts, plan.task.winsorise))


def _recipe(plan: TrainingPlan) -> Recipe:
    objectives: dict[str, dict[str, object]] = {
        "tweedie": {"objective": "tweedie", "metric": "tweedie", "tweedie_variance_power": TWEEDIE_POWER},
        "gamma": {"objective": "gamma", "metric": "gamma"},
        "lognormal": {"objective": "regression", "metric": "l2"},
    }
    recipe = recipe_of(plan.model)
    return replace(recipe, parameters={**recipe.parameters, **objectives[plan.task.objective or "tweedie"]})


def _boosted(task: Task, recipe: Recipe, *, seed: int) -> lgb.Booster:
    """Trees of amounts in units of their mean, so that regularisation knows no currency."""
    mean = float(task.seen.labels.mean())
    of_logarithms = recipe.parameters["objective"] == "regression"

    def in_units(amounts: Floats) -> Floats:
        return np.log(amounts / mean) if of_logarithms else amounts / mean

    train, validation = (
        replace(part, labels=in_units(part.labels)) for part in (task.train, task.validation)
    )
    booster = fit(train=train, validation=validation, recipe=recipe, seed=seed)
    if not any(tree["num_leaves"] > 1 for tree in booster.dump_model()["tree_info"]):
        raise ExportRefused(
            f"{task.name}: no input tells customers of more value from others, so every score would be the "
            "same: bring other columns or more rows, or lower `model.min_data_in_leaf`"
        )
    return booster


def _scaled(booster: lgb.Booster, task: Task) -> lgb.Booster:
    """The same trees, their first raised so that the total of the rows not tested is the actual one.

    This brings amounts back to the currency, and logarithms back to means.
    """
    known = [(part.rows, part.labels) for part in (task.seen, task.validation)]
    actual = sum(float(labels.sum()) for _, labels in known)
    predicted = sum(float(np.exp(log_odds(booster, rows)).sum()) for rows, _ in known)
    shift = round(float(np.log(actual / predicted)) / LEAF_STEP) * LEAF_STEP
    first = booster.dump_model()["tree_info"][0]
    for leaf in range(int(first["num_leaves"])):
        booster.set_leaf_output(0, leaf, booster.get_leaf_output(0, leaf) + shift)
    return lgb.Booster(model_str=booster.model_to_string())


def _told(plan: TrainingPlan, cap: float) -> dict[str, str]:
    """What the manifest says of the amounts."""
    told = {"currency": str(plan.task.currency), "objective": plan.task.objective or "tweedie"}
    if plan.task.horizon_days:
        told["horizon_days"] = str(plan.task.horizon_days)
    if np.isfinite(cap):
        told["winsorised"] = f"at {cap:.2f} {plan.task.currency}, quantile {plan.task.winsorise} of training"
    return told


def _gates(plan: TrainingPlan, evidence: ValueEvidence) -> tuple[Gate, ...]:
    gates, (gini, gain), total = plan.gates, evidence.gini, evidence.total
    low, high = 1.0 - gates.total_off_at_most, 1.0 + gates.total_off_at_most
    return (
        Gate(
            "Gini coefficient at least",
            str(gini),
            f"{gates.gini_at_least:.3f}",
            gini.value >= gates.gini_at_least,
        ),
        Gate(
            "predicted over actual total, its 95 % interval within reach of",
            str(total),
            f"{low:.2f} to {high:.2f}",
            total.low <= high and total.high >= low,
        ),
        Gate(
            "Gini behind the linear regression at most",
            f"{-gain.value:.4f}",
            f"{gates.behind_baseline_at_most:.4f}",
            -gain.value <= gates.behind_baseline_at_most,
        ),
    )
