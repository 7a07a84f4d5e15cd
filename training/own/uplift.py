"""An uplift model: one boosted regression of the transformed outcome.

Its trees, export, reasons and parity are those of every model (docs/adr/0028).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from training.baseline import baseline_scores
from training.boosting import Recipe, contributions, fit, log_odds
from training.calibration import sigmoid
from training.candidate import Task, rounded
from training.dataset import Floats
from training.errors import ExportRefused
from training.evaluation.measures import Estimate
from training.evaluation.uplift import Trial, effect_of, effects_by_tenth, qini_of
from training.links import Clipped
from training.own.evidence import Case, Gate, Measured
from training.own.learning import recipe_of
from training.own.plan import TrainingPlan
from training.own.treatments import guessing_area, trial_of
from training.own.uplift_evidence import UpliftEvidence


def learn_uplift(case: Case) -> Measured:
    """Boosts on the training rows, stops on the validation rows, measures on the test rows.

    Raises ExportRefused where no input tells whom the treatment changes.
    """
    plan = case.plan
    responses = case.task_with(case.examples.labels)
    whole = trial_of(case.labelled, case.examples, np.arange(len(case.examples.labels), dtype=np.intp))
    expected = sigmoid(baseline_scores(train=responses.seen, rows=case.examples.values))
    task = case.task_with(whole.transformed(expected))
    recipe = _recipe(plan)
    booster = fit(train=task.train, validation=task.validation, recipe=recipe, seed=plan.seed)
    if not any(tree["num_leaves"] > 1 for tree in booster.dump_model()["tree_info"]):
        raise ExportRefused(
            f"{task.name}: no input tells whom the treatment changes more than others, so every score would "
            "be the same: bring other columns or more rows, or lower `model.min_data_in_leaf`"
        )
    scores = Clipped().score(log_odds(booster, task.test.rows))
    shares = contributions(booster, task.test.rows)[:, :-1]
    evidence = _evidence(case, task, scores, shares, response=_response_scores(case, responses))
    area, deviation = guessing_area(whole, case.examples, case.parts)
    metrics = {
        **evidence.metrics(),
        "treatment_auc": area,
        "treatment_auc_by_chance": 0.5 + 1.96 * deviation,
        "rows_test": float(len(scores)),
        "trees": float(booster.num_trees()),
    }
    return Measured(
        task=task,
        booster=booster,
        link=Clipped(),
        recipe=recipe,
        rival=evidence.response,
        metrics=rounded(metrics),
        training_data=_told(plan, whole),
        gates=_gates(plan, evidence),
        evidence=evidence,
    )


def _recipe(plan: TrainingPlan) -> Recipe:
    recipe = recipe_of(plan.model)
    return replace(recipe, parameters={**recipe.parameters, "objective": "regression", "metric": "l2"})


def _response_scores(case: Case, responses: Task) -> Floats:
    """Log-odds of the test rows by a regression of the treated training rows: whom a response model calls."""
    treated = trial_of(case.labelled, case.examples, case.parts.train).treated > 0.5
    return baseline_scores(train=responses.seen.where(treated), rows=responses.test.rows)


def _evidence(case: Case, task: Task, scores: Floats, shares: Floats, *, response: Floats) -> UpliftEvidence:
    trial = trial_of(case.labelled, case.examples, case.parts.test)
    return UpliftEvidence(
        trial=trial,
        scores=scores,
        response=response,
        rows=task.test.rows,
        shares=shares,
        names=tuple(i.name for i in task.inputs),
        qini=qini_of(trial, scores, response, seed=case.plan.seed),
        overall=effect_of(trial, scores),
        tenths=effects_by_tenth(trial, scores),
        treat_above=case.plan.task.treat_above or 0.0,
    )


def _told(plan: TrainingPlan, whole: Trial) -> dict[str, str]:
    """What the manifest says of the trial."""
    whose = f"by column {plan.task.chance}" if plan.task.chance else f"{whole.chances[0]:.4f} for all"
    return {
        "treatment": f"column {plan.task.treatment}, {int(whole.treated.sum())} of {len(whole.treated)} rows",
        "chance_of_treatment": whose,
        **({"horizon_days": str(plan.task.horizon_days)} if plan.task.horizon_days else {}),
    }


def _gates(plan: TrainingPlan, evidence: UpliftEvidence) -> tuple[Gate, ...]:
    model, gain = evidence.qini.model, evidence.qini.gain
    limit = plan.gates.qini_above
    return (
        Gate(
            "Qini coefficient, lower end of its 95 % interval, above",
            five_digits(model),
            f"{limit:.5f}",
            model.low > limit,
        ),
        Gate(
            "Qini not surely behind a response model",
            five_digits(gain),
            "0.00000",
            gain.high >= 0.0,
        ),
    )


def five_digits(estimate: Estimate) -> str:
    """Qini coefficients are small: outcomes per customer."""
    return f"{estimate.value:.5f} ({estimate.low:.5f} to {estimate.high:.5f})"
