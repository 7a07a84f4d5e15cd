"""LightGBM's own models: scores in one batch, and exact contributions of what is returned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import lightgbm as lgb
import numpy as np
import numpy.typing as npt

from engine.bench.whole_parts.plan import Feature, Model

REASONS: Final = 4
Rows = npt.NDArray[np.float64]


class ScoringModel:
    """A model that is loaded once."""

    def __init__(self, model: Model, features: Sequence[Feature]) -> None:
        self._booster = lgb.Booster(model_file=model.path)
        self._slope, self._intercept = model.slope, model.intercept
        self._areas = list(dict.fromkeys(feature.area for feature in features))
        self._columns = [
            [place for place, feature in enumerate(features) if feature.area == area] for area in self._areas
        ]
        self._features = features

    def probabilities(self, rows: Rows) -> Rows:
        """Calibrated probabilities, shape (n,)."""
        margins = np.asarray(self._booster.predict(rows, raw_score=True, num_threads=1))
        return np.asarray(1.0 / (1.0 + np.exp(-(self._slope * margins + self._intercept))))

    def reasons(self, rows: Rows) -> list[list[Mapping[str, Any]]]:
        """For each row the areas that contribute most, with the feature that does most of it."""
        found = np.asarray(self._booster.predict(rows, pred_contrib=True, num_threads=1))
        return [self._told(contributions, row) for contributions, row in zip(found, rows, strict=True)]

    def _told(self, contributions: Rows, row: Rows) -> list[Mapping[str, Any]]:
        sums = np.array([contributions[columns].sum() for columns in self._columns])
        told: list[Mapping[str, Any]] = []
        for area in np.argsort(-np.abs(sums))[:REASONS].tolist():
            columns = self._columns[area]
            strongest = columns[int(np.argmax(np.abs(contributions[columns])))]
            value = float(row[strongest])
            verb = "RAISES" if sums[area] > 0 else "LOWERS"
            told.append(
                {
                    "code": f"{self._areas[area].upper()}_{verb}",
                    "text": f"What is known of {self._areas[area]} {verb.lower()} the score: {value:.2f}.",
                    "contribution": float(sums[area]),
                    "feature": self._features[strongest].name,
                }
            )
        return told
