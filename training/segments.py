"""How a model does among parts of the customers: where it is worse, and whether it is fair to the old."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from feature_store.schema import Feature
from training.boosting import log_odds
from training.calibration import calibration_error
from training.candidate import Candidate, auc
from training.dataset import Table
from training.telco import Telco

SEGMENTED_BY: Final = (
    "contract",
    "internet_service",
    "payment_method",
    "senior_citizen",
    "partner",
    "dependents",
)
"""The last three are not read by any model; they are here to see how it treats those customers."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Held-out rows of customers with one value of a feature. `auc` is None where all labels are alike."""

    feature: str
    value: str
    rows: int
    rate: float
    mean_probability: float
    ece: float
    auc: float | None


def segments_of(candidate: Candidate, telco: Telco) -> tuple[Segment, ...]:
    """Every segment of the held-out rows."""
    test = candidate.task.test
    found = []
    for name in SEGMENTED_BY:
        feature = telco.schema.feature[telco.schema.index[name]]
        stored = telco.column(name)[test.customers]
        for value in np.unique(stored[~np.isnan(stored)]):
            found.append(_segment(candidate, feature, float(value), stored == value))
    return tuple(found)


def _segment(candidate: Candidate, feature: Feature, value: float, members: npt.NDArray[np.bool_]) -> Segment:
    rows: Table = candidate.task.test.where(members)
    margins = log_odds(candidate.booster, rows.rows)
    probabilities = candidate.calibration.score(margins)
    shown = feature.decode(value)
    return Segment(
        feature=feature.name,
        value={True: "yes", False: "no"}[shown] if isinstance(shown, bool) else str(shown),
        rows=len(rows.labels),
        rate=float(rows.labels.mean()),
        mean_probability=float(probabilities.mean()),
        ece=calibration_error(probabilities=probabilities, labels=rows.labels),
        auc=auc(rows.labels, margins) if 0 < rows.labels.mean() < 1 else None,
    )
