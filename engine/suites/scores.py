"""Scores as a table, so that a suite tests rules and not models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.core.scoring import Contribution, Vector
from engine.domain import Action

_TABLE: Final[Mapping[str, int]] = MappingProxyType({"churn": 0, "propensity": 0})


class TableScorer:
    """`engine.core.scoring.Scorer` that answers with given numbers; what is not given has no score."""

    def __init__(
        self,
        *,
        actions: Sequence[Action],
        churn: float | None = None,
        propensity: Mapping[str, float] | None = None,
    ) -> None:
        given = propensity or {}
        self._churn = churn
        self._propensity = np.array(
            [given.get(a.id, given.get(a.target, np.nan)) for a in actions], dtype=np.float64
        )

    @property
    def versions(self) -> Mapping[str, int]:
        """Version 0 of both models stands for a table."""
        return _TABLE

    def churn(self, vector: Vector) -> float | None:  # noqa: ARG002  # the same for every customer
        """The given probability of churn."""
        return self._churn

    def propensity(
        self,
        vector: Vector,  # noqa: ARG002  # as above
        actions: npt.NDArray[np.intp],
    ) -> npt.NDArray[np.float64]:
        """The given probabilities of acceptance, shape (n,); NaN where none is given."""
        found: npt.NDArray[np.float64] = self._propensity[actions]
        return found

    def explain_churn(self, vector: Vector) -> tuple[Contribution, ...]:  # noqa: ARG002  # as above
        """A table has no reasons."""
        return ()

    def explain_propensities(
        self,
        vector: Vector,  # noqa: ARG002  # as above
        actions: Sequence[int],
    ) -> Sequence[tuple[Contribution, ...]]:
        """A table has no reasons."""
        return [()] * len(actions)
