"""Scores many customers in a few runs of the models, for work over all of them such as comparing rule sets.

Scores depend on the customer and the models alone, so one table serves every rule set. The rows of a run
do not touch each other (docs/adr/0007): a score is the same whether its row runs alone or with others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.core.scoring import Contribution, ScoringError, Vector
from engine.models.scorer import OnnxScorer
from engine.models.trees import Floats, Places, Rows

_ROWS_A_RUN: Final = 1024
"""Vectors scored together; more do not get faster and take memory."""


@dataclass(frozen=True, slots=True, eq=False)
class ScoreTable:
    """Scores by feature vector: `churn` (n,), `by_target` (n, targets + 1) whose last column is NaN."""

    versions: Mapping[str, int]
    places: Mapping[bytes, int]
    churn: Floats | None
    by_target: Floats


def score_many(scorer: OnnxScorer, vectors: Rows) -> ScoreTable | None:
    """The scores of all vectors, float32 of shape (n, features); None where a model fails on one."""
    if not len(vectors):
        return None
    runs = [vectors[i : i + _ROWS_A_RUN] for i in range(0, len(vectors), _ROWS_A_RUN)]
    try:
        churn = [scorer.churn_of_many(run) for run in runs]
        by_target = np.concatenate([scorer.targets_of_many(run) for run in runs])
    except ScoringError:
        return None
    known = [scores for scores in churn if scores is not None]
    return ScoreTable(
        versions=scorer.versions,
        places={vector.tobytes(): place for place, vector in enumerate(vectors)},
        churn=np.concatenate(known) if known else None,
        by_target=by_target,
    )


class RememberedScores:
    """`engine.core.scoring.Scorer` that looks scores up, and asks the models for vectors it does not know."""

    def __init__(self, scorer: OnnxScorer, table: ScoreTable) -> None:
        """Raises ValueError where the table was made with other models."""
        if dict(table.versions) != dict(scorer.versions):
            raise ValueError(
                f"the scores are of {dict(table.versions)}, the scorer is {dict(scorer.versions)}"
            )
        self._scorer = scorer
        self._table = table
        self._target_of = scorer.target_of

    @property
    def versions(self) -> Mapping[str, int]:
        """Model name to version."""
        return self._scorer.versions

    def churn(self, vector: Vector) -> float | None:
        """Probability of churn; None where no churn model is loaded."""
        place = self._table.places.get(vector.tobytes())
        if place is None or self._table.churn is None:
            return self._scorer.churn(vector)
        return float(self._table.churn[place])

    def propensity(self, vector: Vector, actions: Places) -> npt.NDArray[np.float64]:
        """Probability of acceptance, float64 of shape (n,); NaN where no model knows the action."""
        place = self._table.places.get(vector.tobytes())
        if place is None:
            return self._scorer.propensity(vector, actions)
        found: Floats = self._table.by_target[place, self._target_of[actions]]
        return found

    def explain_churn(self, vector: Vector) -> tuple[Contribution, ...]:
        """As the models explain it."""
        return self._scorer.explain_churn(vector)

    def explain_propensities(
        self, vector: Vector, actions: Sequence[int]
    ) -> Sequence[tuple[Contribution, ...]]:
        """As the models explain it."""
        return self._scorer.explain_propensities(vector, actions)
