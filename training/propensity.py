"""The propensity model: which customers are like those who have a product.

One model answers for every target. A row is a customer and a target; the label is whether the customer
really owns it. It is a look-alike score: the data holds ownership, not answers to offers. The product's
own column is hidden in its rows. Charges are left out altogether: they are nearly the sum of the prices of
the products owned, and would give the label away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from feature_store.schema import FeatureSchema, FeatureValue
from model_registry.manifest import ModelInput
from training.baseline import baseline_scores
from training.boosting import Recipe, log_odds
from training.calibration import calibration_error
from training.candidate import TARGET_PREFIX, Candidate, Learnt, Task, assemble, auc, learn
from training.concepts import concepts_of
from training.dataset import (
    Index,
    Split,
    Table,
    feature_columns,
    learnt_features,
    split_customers,
    with_hidden_copies,
)
from training.telco import Telco, lineage


@dataclass(frozen=True, slots=True)
class Target:
    """A product: its customers are those whose `feature` is one of `owned`; the question makes sense
    for those whose `among` feature is one of its values.
    """

    name: str
    feature: str
    owned: tuple[FeatureValue, ...] = (True,)
    among: tuple[str, tuple[FeatureValue, ...]] | None = None


_WITH_INTERNET: Final = ("internet_service", ("dsl", "fiber"))
_WITH_PHONE: Final = ("phone_service", (True,))
ADD_ONS: Final = (
    "online_security",
    "online_backup",
    "device_protection",
    "tech_support",
    "streaming_tv",
    "streaming_movies",
)
TARGETS: Final = (
    *(Target(name, feature=name, among=_WITH_INTERNET) for name in ADD_ONS),
    Target("multiple_lines", feature="multiple_lines", among=_WITH_PHONE),
    Target("fiber_internet", feature="internet_service", owned=("fiber",), among=_WITH_INTERNET),
    Target("paperless_billing", feature="paperless_billing"),
    Target("one_year_contract", feature="contract", owned=("one-year", "two-year")),
    Target("two_year_contract", feature="contract", owned=("two-year",)),
)
"""`one_year_contract` is a commitment of at least one year, so that month-to-month is its opposite."""

LEAKING: Final = frozenset({"monthly_charges", "total_charges"})
RECIPE: Final = Recipe(
    max_trees=200,
    patience=20,
    parameters={
        "learning_rate": 0.15,
        "num_leaves": 15,
        "max_depth": 5,
        "min_data_in_leaf": 40,
        "lambda_l2": 5.0,
        "feature_fraction": 0.8,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
    },
)
INTENDED_USE: Final = (
    "Ranks products for a consenting customer by how alike the customer is to those who own them. "
    "Not a measured rate of accepting offers, and not for pricing or refusing a service."
)


def train_propensity(telco: Telco, *, seed: int, recipe: Recipe = RECIPE) -> Candidate:
    """Trains, calibrates and measures the propensity model."""
    split = split_customers(strata=telco.strata, seed=seed)
    task = propensity_task(telco, split=split, seed=seed)
    learnt = learn(task, recipe=recipe, seed=seed)
    return assemble(
        task,
        learnt,
        metrics=target_metrics(task, learnt),
        training_data=lineage(telco, split=split, seed=seed),
        seed=seed,
    )


def propensity_task(telco: Telco, *, split: Split, seed: int) -> Task:
    """Rows and contract of the propensity model. The churn label is not read."""
    names = learnt_features(telco.schema, excluded=LEAKING)
    inputs = (
        *(ModelInput(name=name, source="feature") for name in names),
        *(ModelInput(name=TARGET_PREFIX + target.name, source="target") for target in TARGETS),
    )
    return Task(
        name="propensity",
        kind="propensity",
        intended_use=INTENDED_USE,
        schema=telco.schema,
        inputs=inputs,
        targets=tuple(target.name for target in TARGETS),
        hidden={target.name: (target.feature,) for target in TARGETS},
        concepts=concepts_of(inputs, prefix="FIT"),
        train=_pairs(telco, names, split.train, copies_seed=seed),
        seen=_pairs(telco, names, split.train),
        validation=_pairs(telco, names, split.validation),
        test=_pairs(telco, names, split.test),
        label_is_ownership=True,
    )


def _pairs(
    telco: Telco, names: tuple[str, ...], customers: Index, *, copies_seed: int | None = None
) -> Table:
    """Rows of all (customer, target) pairs that make sense, target by target."""
    columns = feature_columns(telco.schema, names)
    rows = telco.vectors[np.ix_(customers, columns)]
    if copies_seed is not None:
        views = telco.schema.view_index[columns]
        rows, customers = with_hidden_copies(rows=rows, customers=customers, views=views, seed=copies_seed)
    parts = []
    for place, target in enumerate(TARGETS):
        asked = _may_be_asked(telco, target)[customers]
        of_customer = rows[asked].copy()
        of_customer[:, names.index(target.feature)] = np.nan
        one_hot = np.zeros((len(of_customer), len(TARGETS)), dtype=np.float32)
        one_hot[:, place] = 1.0
        owned = _owns(telco, target)[customers[asked]].astype(np.float64)
        places = np.full(len(owned), place, dtype=np.intp)
        parts.append(Table(np.hstack([of_customer, one_hot]), owned, customers[asked], places))
    return Table(
        rows=np.vstack([part.rows for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        customers=np.concatenate([part.customers for part in parts]),
        targets=np.concatenate([part.targets for part in parts]),
    )


def _owns(telco: Telco, target: Target) -> npt.NDArray[np.bool_]:
    return _is_one_of(telco, target.feature, target.owned)


def _may_be_asked(telco: Telco, target: Target) -> npt.NDArray[np.bool_]:
    if target.among is None:
        return np.ones(len(telco.ids), dtype=np.bool_)
    return _is_one_of(telco, *target.among)


def _is_one_of(telco: Telco, feature: str, values: tuple[FeatureValue, ...]) -> npt.NDArray[np.bool_]:
    return np.isin(telco.column(feature), _stored(telco.schema, feature, values))


def _stored(schema: FeatureSchema, feature: str, values: tuple[FeatureValue, ...]) -> npt.NDArray[np.float32]:
    declared = schema.feature[schema.index[feature]]
    return np.array([declared.encode(value) for value in values], dtype=np.float32)


def target_metrics(task: Task, learnt: Learnt) -> dict[str, float]:
    """AUC and calibration per target, beside a logistic regression fitted for that target alone."""
    metrics: dict[str, float] = {}
    for place, target in enumerate(task.targets):
        test, seen = task.test.of_target(place), task.seen.of_target(place)
        margins = log_odds(learnt.booster, test.rows)
        metrics[f"auc_test_{target}"] = auc(test.labels, margins)
        metrics[f"ece_test_{target}"] = calibration_error(
            probabilities=learnt.calibration.probability(margins), labels=test.labels
        )
        metrics[f"baseline_auc_test_{target}"] = auc(test.labels, baseline_scores(train=seen, rows=test.rows))
    for figure in ("auc_test", "baseline_auc_test"):
        each = [metrics[f"{figure}_{target}"] for target in task.targets]
        metrics[f"{figure}_mean_of_targets"] = float(np.mean(each))
    return metrics
