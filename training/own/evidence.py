"""What a kind of model with measures of its own gives back: the model, its gates and what proves it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import lightgbm as lgb
import numpy as np
import numpy.typing as npt

from training.boosting import Recipe
from training.candidate import Task
from training.dataset import Floats
from training.links import Clipped, Exponential
from training.own.examples import Examples
from training.own.labels import Labelled
from training.own.parts import Parts
from training.own.plan import TrainingPlan

if TYPE_CHECKING:
    from engine.pages.page import Page
    from training.evaluation.report import Facts

Groups = Mapping[str, npt.NDArray[np.str_]]
"""The value of each attribute in each test row."""
Figures = dict[str, int | float | None]


@dataclass(frozen=True, slots=True)
class Gate:
    """One thing a model must be. `figure` and `limit` are for people."""

    name: str
    figure: str
    limit: str
    passed: bool


class Evidence(Protocol):
    """What was measured on the test rows."""

    @property
    def held_out(self) -> Mapping[str, Floats]:
        """What `holdout.npz` keeps beside the rows, (n,) each."""
        ...

    def told(self) -> list[tuple[str, str, str]]:
        """Figure, the model's, and what stands beside it: for people."""
        ...

    def segments(self, groups: Groups) -> dict[str, Figures]:
        """Figures of each group, by `attribute=value`."""
        ...

    def gaps(self, groups: Groups) -> dict[str, Figures]:
        """How far apart the groups of each attribute are."""
        ...

    def page(self, facts: Facts, groups: Groups, *, seed: int) -> Page:
        """The report."""
        ...

    def limits(self) -> str:
        """What the scores do not say, for the model card."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """What there is to learn from. `task_with` makes the task with other labels of the examples, (n,)."""

    plan: TrainingPlan
    labelled: Labelled
    examples: Examples
    parts: Parts
    task_with: Callable[[Floats], Task]


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """A model of such a kind. `rival` holds the scores of what stands beside it, on the test rows."""

    task: Task
    booster: lgb.Booster
    link: Clipped | Exponential
    recipe: Recipe
    rival: Floats
    metrics: Mapping[str, float]
    training_data: Mapping[str, str]
    gates: tuple[Gate, ...]
    evidence: Evidence
