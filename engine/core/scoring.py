"""What the pipeline asks of models; `engine.models` answers it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from feature_store.frozen import Frozen

Vector = npt.NDArray[np.float32]


class Contribution(Frozen, frozen=True):
    """One business concept's share in a score, strongest feature first.

    `share` is the exact Shapley value of the concept's features, in log-odds. `value` and `typical`
    are formatted for people ("84.50 CHF/month", "month-to-month"). `baseline` is what the share compares
    with, "name/version".
    """

    reason: str
    share: float
    feature: str
    value: str
    typical: str
    baseline: str


class Scorer(Protocol):
    """Scores one customer. `vector` is float32 of shape (features of the schema,), NaN where missing.

    `actions` are catalogue indices, intp of shape (n,). Raises ScoringError where a model fails.
    """

    @property
    def versions(self) -> Mapping[str, int]:
        """Model name to version, of the models that may score."""
        ...

    def churn(self, vector: Vector) -> float | None:
        """Probability of churn; None where no churn model is loaded."""
        ...

    def propensity(self, vector: Vector, actions: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
        """Probability of acceptance, float64 of shape (n,); NaN where no model knows the action."""
        ...

    def explain_churn(self, vector: Vector) -> tuple[Contribution, ...]:
        """At most four concepts, strongest first."""
        ...

    def explain_propensities(
        self, vector: Vector, actions: Sequence[int]
    ) -> Sequence[tuple[Contribution, ...]]:
        """Of each action at most four concepts, strongest first; empty where no model knows it."""
        ...


class ScoringError(Exception):
    """A model could not score; the decision goes on without it and says so."""

    def __init__(self, model: str, cause: str) -> None:
        super().__init__(f"model {model} could not score: {cause}")
        self.model = model
