"""A run from a plan to a trained model: read, look for leaks, split, learn, measure. Registers nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from feature_store.errors import SchemaError
from feature_store.schema import load_schema
from training.baseline import baseline_scores
from training.boosting import Recipe, log_odds
from training.calibration import calibration_error
from training.candidate import Candidate, Learnt, Task, assemble, auc
from training.dataset import Floats, Table
from training.errors import GateFailed, LeakSuspected, PlanProblem, PlanRefused
from training.own.actions import properties_of
from training.own.checks import check_columns, refuse_twice, roles_of
from training.own.evidence import Case, Evidence, Gate, Measured
from training.own.examples import Examples, examples_of
from training.own.inference import Inferred, declared, infer
from training.own.kinds import KINDS, Kind
from training.own.labels import Labelled
from training.own.learning import (
    CrossValidated,
    Searched,
    cross_validated,
    error_by_chance,
    learn_calibrated,
    searched_recipe,
)
from training.own.lineage import training_data
from training.own.parts import Parts, split_rows
from training.own.plan import TrainingPlan
from training.own.signs import Sign, signs_of, unaccepted
from training.own.table import SourceTable, read_table
from training.own.tasks import Matrix, matrix_of, task_of
from training.publication import Artefacts, build_artefacts
from training.trees import flatten


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """Everything that is known before anything is learnt."""

    plan: TrainingPlan
    folder: Path
    kind: Kind
    table: SourceTable
    inferred: Inferred
    labelled: Labelled
    examples: Examples
    parts: Parts
    signs: tuple[Sign, ...]


@dataclass(frozen=True, slots=True, eq=False)
class TrainedModel:
    """A model that passed nothing yet but the parity of its export, with all that its evaluation needs.

    `baseline` holds the log-odds of the logistic regression on the test rows, or the scores of what else
    stands beside the model. `evidence` is of kinds that have measures of their own.
    """

    prepared: Prepared
    candidate: Candidate
    artefacts: Artefacts
    recipe: Recipe
    searched: Searched | None
    crossed: CrossValidated | None
    baseline: Floats
    gates: tuple[Gate, ...]
    evidence: Evidence | None = None

    @property
    def task(self) -> Task:
        """The rows and the contract."""
        return self.candidate.task

    def cells(self, part: str, column: str) -> tuple[str | None, ...]:
        """The texts of a column of the table in the rows of a part: train, validation or test."""
        cells = self.prepared.examples.cells(self.prepared.table, column)
        return tuple(cells[row] for row in self.prepared.parts.named[part])


def prepare(plan: TrainingPlan, *, folder: Path) -> Prepared:
    """Reads the data and looks for what is wrong with it. `folder` is where the plan's paths begin.

    Severe signs of leakage are in `signs`; `train` stops for them. Raises DataRefused and PlanRefused.
    """
    table = read_table(folder / plan.data.path)
    check_columns(plan, table)
    roles = roles_of(plan)
    inferred = _inferred(plan, table, roles, folder)
    kind = KINDS[plan.task.kind]
    labelled = kind.labelled(plan, table)
    if plan.task.actions is not None:
        actions = read_table(folder / plan.task.actions.path)
        labelled = replace(labelled, actions=properties_of(plan.task.actions, actions, labelled.target_names))
    group_column = plan.split.group or plan.data.id
    examples = examples_of(table, inferred, labelled, group_column=group_column, id_column=plan.data.id)
    refuse_twice(plan, table, examples)
    strata = kind.strata(examples.labels)
    parts = split_rows(
        plan.split,
        labels=strata,
        groups=examples.groups,
        from_ms=examples.from_ms,
        until_ms=examples.until_ms,
        seed=plan.seed,
        source=table.path.name,
    )
    signs = signs_of(plan, inferred, replace(examples, labels=strata), parts)
    signs += kind.signs(plan, inferred, labelled, examples, parts)
    return Prepared(plan, folder, kind, table, inferred, labelled, examples, parts, signs)


def train(prepared: Prepared) -> TrainedModel:
    """Learns, exports and measures. Raises LeakSuspected, ExportRefused and GateFailed (of the export)."""
    plan = prepared.plan
    severe = unaccepted(plan, prepared.signs)
    if severe:
        raise LeakSuspected(tuple(map(str, severe)))
    if prepared.kind.learn is not None:
        return _measured(prepared, prepared.kind.learn)
    matrix = matrix_of(prepared.examples, prepared.labelled)
    task = task_of(plan, prepared.kind, prepared.inferred, prepared.labelled, matrix, prepared.parts)
    recipe, searched = searched_recipe(plan, task)
    learnt = learn_calibrated(plan, task, recipe)
    baseline = baseline_scores(train=task.seen, rows=task.test.rows)
    crossed = _crossed(plan, matrix, learnt, recipe)
    metrics = {
        "baseline_auc_test": auc(task.test.labels, baseline),
        "ece_test_by_chance": _by_chance(task, learnt, seed=plan.seed),
        **({} if crossed is None else crossed.metrics()),
        **_of_targets(task, learnt, baseline),
    }
    candidate = assemble(
        task,
        learnt,
        metrics=metrics,
        training_data=training_data(plan, prepared.table, prepared.parts),
        seed=plan.seed,
    )
    return TrainedModel(
        prepared=prepared,
        candidate=candidate,
        artefacts=build_artefacts(candidate),
        recipe=recipe,
        searched=searched,
        crossed=crossed,
        baseline=baseline,
        gates=gates_of(plan, candidate.metrics),
    )


def _measured(prepared: Prepared, learn: Callable[[Case], Measured]) -> TrainedModel:
    """A model whose kind learns and measures in its own way."""
    plan, examples, labelled = prepared.plan, prepared.examples, prepared.labelled

    def task_with(labels: Floats) -> Task:
        matrix = matrix_of(replace(examples, labels=labels), labelled)
        return task_of(plan, prepared.kind, prepared.inferred, labelled, matrix, prepared.parts)

    found = learn(Case(plan, labelled, examples, prepared.parts, task_with))
    candidate = Candidate(
        task=found.task,
        booster=found.booster,
        trees=flatten(found.booster),
        calibration=found.link,
        metrics=found.metrics,
        training_data={**training_data(plan, prepared.table, prepared.parts), **found.training_data},
        seed=plan.seed,
    )
    return TrainedModel(
        prepared=prepared,
        candidate=candidate,
        artefacts=build_artefacts(candidate),
        recipe=found.recipe,
        searched=None,
        crossed=None,
        baseline=found.rival,
        gates=found.gates,
        evidence=found.evidence,
    )


def gates_of(plan: TrainingPlan, metrics: Mapping[str, float]) -> tuple[Gate, ...]:
    """What the plan asks of the model, and what it is."""
    gates, area = plan.gates, metrics["auc_test"]
    error_limit = max(gates.ece_at_most, metrics["ece_test_by_chance"])
    behind = metrics.get("baseline_cv_auc", metrics["baseline_auc_test"]) - metrics.get("cv_auc", area)
    return (
        Gate("AUC at least", f"{area:.4f}", f"{gates.auc_at_least:.4f}", area >= gates.auc_at_least),
        Gate(
            "AUC at most, or the label leaks",
            f"{area:.4f}",
            f"{gates.auc_at_most:.4f}",
            area <= gates.auc_at_most,
        ),
        Gate(
            "calibration error at most, chance considered",
            f"{metrics['ece_test']:.4f}",
            f"{error_limit:.4f}",
            metrics["ece_test"] <= error_limit,
        ),
        Gate(
            "AUC behind the logistic regression at most",
            f"{behind:.4f}",
            f"{gates.behind_baseline_at_most:.4f}",
            behind <= gates.behind_baseline_at_most,
        ),
    )


def check_gates(trained: TrainedModel) -> None:
    """Raises GateFailed naming every gate that the model does not pass."""
    failed = tuple(f"{g.name} {g.limit}: it is {g.figure}" for g in trained.gates if not g.passed)
    if failed:
        raise GateFailed(trained.task.name, failed)


def _inferred(plan: TrainingPlan, table: SourceTable, roles: Mapping[str, str], folder: Path) -> Inferred:
    if plan.features.inferred:
        return infer(table, plan, roles=roles)
    try:
        schema = load_schema(folder / str(plan.features.schema_path))
    except SchemaError as error:
        raise PlanRefused((PlanProblem(("features", "schema"), str(error)),)) from error
    return declared(table, plan, schema, roles=roles)


def _crossed(plan: TrainingPlan, matrix: Matrix, learnt: Learnt, recipe: Recipe) -> CrossValidated | None:
    return cross_validated(plan, matrix, recipe=recipe.fixed(learnt.booster.num_trees()))


def _by_chance(task: Task, learnt: Learnt, *, seed: int) -> float:
    probabilities = learnt.calibration.probability(log_odds(learnt.booster, task.test.rows))
    return error_by_chance(probabilities, seed=seed)


def _of_targets(task: Task, learnt: Learnt, baseline: Floats) -> dict[str, float]:
    """AUC and calibration of each target whose test rows have both labels."""
    metrics: dict[str, float] = {}
    for place, target in enumerate(task.targets):
        of_target = task.test.targets == place
        test: Table = task.test.where(of_target)
        if not len(test.labels) or not 0 < test.labels.mean() < 1:
            continue
        margins = log_odds(learnt.booster, test.rows)
        metrics[f"auc_test_{target}"] = auc(test.labels, margins)
        metrics[f"baseline_auc_test_{target}"] = auc(test.labels, baseline[of_target])
        metrics[f"ece_test_{target}"] = calibration_error(
            probabilities=learnt.calibration.probability(margins), labels=test.labels
        )
    for figure in ("auc_test", "baseline_auc_test"):
        each = [metrics[f"{figure}_{t}"] for t in task.targets if f"{figure}_{t}" in metrics]
        if each:
            metrics[f"{figure}_mean_of_targets"] = float(np.mean(each))
    return metrics
