"""From examples to the task that the boosting, the export and the gates of this package know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from model_registry.manifest import ModelInput
from training.candidate import TARGET_PREFIX, Task
from training.dataset import Index, Rows, Table, with_hidden_copies
from training.own.examples import Examples
from training.own.inference import Inferred
from training.own.labels import NO_TARGET, Labelled
from training.own.parts import Parts
from training.own.plan import TrainingPlan
from training.own.words import concepts_of

if TYPE_CHECKING:  # the kinds learn by the modules that make tasks
    from training.own.kinds import Kind


@dataclass(frozen=True, slots=True, eq=False)
class Matrix:
    """Makes rows of the model. `of_target` (targets, inputs) holds what a target adds to the features."""

    examples: Examples
    of_target: Rows

    def table(self, rows: Index, *, copies_seed: int | None = None) -> Table:
        """The rows at the places given; with a seed, and after them copies with values hidden."""
        examples, values, owners = self.examples, self.examples.values[rows], rows
        if copies_seed is not None:
            each = np.arange(values.shape[1], dtype=np.intp)
            values, owners = with_hidden_copies(rows=values, customers=rows, views=each, seed=copies_seed)
        targets = examples.targets[owners]
        if self.of_target.size:
            values = np.hstack([values, self.of_target[targets]])
        return Table(
            rows=np.ascontiguousarray(values, dtype=np.float32),
            labels=examples.labels[owners],
            customers=examples.groups[owners],
            targets=targets,
        )


def matrix_of(examples: Examples, labelled: Labelled) -> Matrix:
    """How the rows of these examples are made."""
    names = labelled.target_names
    one_hot = np.eye(len(names), dtype=np.float32)
    further = [list(labelled.actions[name].values()) for name in names] if labelled.actions else []
    known = np.array(further, dtype=np.float32) if further else np.zeros((len(names), 0), dtype=np.float32)
    return Matrix(examples, np.hstack([one_hot, known]))


def task_of(
    plan: TrainingPlan, kind: Kind, inferred: Inferred, labelled: Labelled, matrix: Matrix, parts: Parts
) -> Task:
    """The task of a plan. Raises PlanRefused where its concepts name what is no input."""
    further = next(iter(labelled.actions.values())) if labelled.actions else {}
    inputs = (
        *(ModelInput(name=name, source="feature") for name in matrix.examples.features),
        *(ModelInput(name=TARGET_PREFIX + name, source="target") for name in labelled.target_names),
        *(ModelInput(name=name, source="action") for name in further),
    )
    table: Callable[[Index], Table] = matrix.table
    return Task(
        name=plan.metadata.name,
        kind=kind.name,
        intended_use=plan.metadata.intended_use,
        schema=inferred.schema,
        inputs=inputs,
        targets=labelled.target_names,
        hidden={},
        concepts=concepts_of(plan, inputs, inferred.column_of),
        train=matrix.table(parts.train, copies_seed=plan.seed),
        seen=table(parts.train),
        validation=table(parts.validation),
        test=table(parts.test),
        actions=labelled.actions,
    )


def asks_of_targets(task: Task) -> bool:
    """Whether rows ask about one of several targets."""
    return bool((task.seen.targets != NO_TARGET).any())
