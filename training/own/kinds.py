"""The kinds of models that a plan can ask for: a new one is a line in KINDS, and what labels its rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from model_registry.manifest import ModelKind
from training.dataset import Floats
from training.own.evidence import Case, Measured
from training.own.examples import Examples
from training.own.inference import Inferred
from training.own.labels import Labelled, labelled_churn, labelled_propensity
from training.own.parts import Parts
from training.own.plan import TrainingPlan
from training.own.signs import Sign
from training.own.table import SourceTable
from training.own.treatments import labelled_uplift, trial_signs
from training.own.uplift import learn_uplift
from training.own.value import labelled_value, learn_value
from training.own.words import Outcome


def _as_they_are(labels: Floats) -> Floats:
    return labels


def _share_positive(labels: Floats) -> str:
    return f"{labels.mean():.2%} positive"


def _above_the_median(amounts: Floats) -> Floats:
    """1 for the larger half; where most are the largest, for those."""
    above = amounts > np.median(amounts)
    return np.asarray(above if above.any() else amounts >= amounts.max(), dtype=np.float64)


def _mean_amount(amounts: Floats) -> str:
    return f"worth {amounts.mean():,.2f} on average, {np.median(amounts):,.2f} in the middle"


def _no_more(*_: object) -> tuple[Sign, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of model: how rows are labelled, and what its score is the probability, or amount, of.

    `strata` are 0 and 1 by which rows are dealt to the parts, and what a leak would tell; `told` says in
    words what the labels are. `signs` are further ones. `learn` is how a kind learns whose labels are no
    classes.
    """

    name: ModelKind
    labelled: Callable[[TrainingPlan, SourceTable], Labelled]
    outcome: Outcome
    strata: Callable[[Floats], Floats] = _as_they_are
    told: Callable[[Floats], str] = _share_positive
    signs: Callable[[TrainingPlan, Inferred, Labelled, Examples, Parts], tuple[Sign, ...]] = _no_more
    learn: Callable[[Case], Measured] | None = None


KINDS: Final[Mapping[str, Kind]] = {
    "churn": Kind("churn", labelled_churn, Outcome("the risk of leaving", "le risque de départ")),
    "propensity": Kind("propensity", labelled_propensity, Outcome("the interest", "l’intérêt")),
    "uplift": Kind(
        "uplift",
        labelled_uplift,
        Outcome("the effect of the treatment", "l’effet de la mesure"),
        signs=trial_signs,
        learn=learn_uplift,
    ),
    "value": Kind(
        "value",
        labelled_value,
        Outcome("the expected value", "la valeur attendue"),
        strata=_above_the_median,
        told=_mean_amount,
        learn=learn_value,
    ),
}
"""By the name that `task.kind` has."""
