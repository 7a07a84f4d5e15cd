"""The churn model: how likely a customer is to leave."""

from __future__ import annotations

from typing import Final

import lightgbm as lgb
import numpy as np
from sklearn.model_selection import StratifiedKFold

from feature_store.schema import DataClass
from model_registry.manifest import ModelInput
from training.baseline import baseline_scores
from training.boosting import Recipe, fit, log_odds
from training.candidate import Candidate, Task, assemble, auc, learn
from training.concepts import concepts_of
from training.dataset import (
    Floats,
    Index,
    Split,
    Table,
    feature_columns,
    learnt_features,
    split_customers,
    with_hidden_copies,
)
from training.telco import Telco, lineage

RECIPE: Final = Recipe(
    max_trees=200,
    patience=30,
    parameters={
        "learning_rate": 0.05,
        "num_leaves": 8,
        "max_depth": 3,
        "min_data_in_leaf": 40,
        "lambda_l2": 20.0,
        "feature_fraction": 0.7,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
    },
)
FOLDS: Final = 5
INTENDED_USE: Final = (
    "Ranks consenting customers by risk of leaving, to choose and explain retention offers. "
    "Not for pricing, credit, or refusing a service."
)


def train_churn(telco: Telco, *, seed: int, recipe: Recipe = RECIPE) -> Candidate:
    """Trains, calibrates and measures the churn model."""
    split = split_customers(strata=telco.strata, seed=seed)
    task = churn_task(telco, split=split, seed=seed)
    learnt = learn(task, recipe=recipe, seed=seed)
    metrics = {
        "baseline_auc_test": auc(task.test.labels, baseline_scores(train=task.seen, rows=task.test.rows)),
        **late_view_aucs(task, learnt.booster),
        **cross_validated(telco, recipe=recipe.fixed(learnt.booster.num_trees()), seed=seed),
    }
    return assemble(
        task, learnt, metrics=metrics, training_data=lineage(telco, split=split, seed=seed), seed=seed
    )


def churn_task(telco: Telco, *, split: Split, seed: int) -> Task:
    """Rows and contract of the churn model. The label is read from the source and is no feature."""
    names = learnt_features(telco.schema)
    inputs = tuple(ModelInput(name=name, source="feature") for name in names)
    return Task(
        name="churn",
        kind="churn",
        intended_use=INTENDED_USE,
        schema=telco.schema,
        inputs=inputs,
        targets=(),
        hidden={},
        concepts=concepts_of(inputs, prefix="CHURN"),
        train=_table(telco, names, split.train, copies_seed=seed),
        seen=_table(telco, names, split.train),
        validation=_table(telco, names, split.validation),
        test=_table(telco, names, split.test),
    )


def _table(
    telco: Telco, names: tuple[str, ...], customers: Index, *, copies_seed: int | None = None
) -> Table:
    columns = feature_columns(telco.schema, names)
    rows = telco.vectors[np.ix_(customers, columns)]
    if copies_seed is not None:
        views = telco.schema.view_index[columns]
        rows, customers = with_hidden_copies(rows=rows, customers=customers, views=views, seed=copies_seed)
    return Table(
        rows=rows,
        labels=telco.churned[customers].astype(np.float64),
        customers=customers,
        targets=np.full(len(customers), -1, dtype=np.intp),
    )


def late_view_aucs(task: Task, booster: lgb.Booster) -> dict[str, float]:
    """AUC on the test customers while all features of one view are missing, per view."""
    schema = task.schema
    columns = feature_columns(schema, tuple(i.name for i in task.inputs))
    aucs = {}
    for place in np.unique(schema.view_index[columns]):
        rows = task.test.rows.copy()
        rows[:, schema.view_index[columns] == place] = np.nan
        aucs[f"auc_test_without_{schema.view[place].name}"] = auc(task.test.labels, log_odds(booster, rows))
    return aucs


def cross_validated(telco: Telco, *, recipe: Recipe, seed: int) -> dict[str, float]:
    """AUC over five folds of all customers: boosted, logistic, and boosted with demographic features too."""
    names = learnt_features(telco.schema)
    demographic = tuple(f.name for f in telco.schema.feature if f.data_class is DataClass.DEMOGRAPHIC)
    boosted, logistic = _fold_aucs(telco, names, recipe=recipe, seed=seed)
    with_demographic, _ = _fold_aucs(telco, (*demographic, *names), recipe=recipe, seed=seed)
    return {
        "cv_auc": float(boosted.mean()),
        "cv_auc_deviation": float(boosted.std()),
        "baseline_cv_auc": float(logistic.mean()),
        "cv_auc_with_demographic": float(with_demographic.mean()),
    }


def _fold_aucs(telco: Telco, names: tuple[str, ...], *, recipe: Recipe, seed: int) -> tuple[Floats, Floats]:
    """Boosted and logistic AUC of each fold, shape (folds,) each; the number of trees is fixed beforehand."""
    boosted, logistic = [], []
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    for learning, held_out in folds.split(telco.vectors, telco.churned):
        train = _table(telco, names, learning, copies_seed=seed)
        test = _table(telco, names, held_out)
        boosted.append(auc(test.labels, log_odds(fit(train=train, recipe=recipe, seed=seed), test.rows)))
        seen = _table(telco, names, learning)
        logistic.append(auc(test.labels, baseline_scores(train=seen, rows=test.rows)))
    return np.array(boosted), np.array(logistic)
