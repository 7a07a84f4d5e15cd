"""Logistic or linear regression on the same rows: what a boosted model has to be worth more than."""

from __future__ import annotations

from typing import cast

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from training.dataset import Floats, Rows, Table

FEW_VALUES = 8
"""Columns with at most so many values are taken apart into one column each, missing being one of them."""


def baseline_scores(*, train: Table, rows: Rows) -> Floats:
    """Log-odds of `rows` by a logistic regression fitted on `train`, shape (n,)."""
    model = _pipeline(train.rows)
    model.fit(train.rows, train.labels)
    return cast(Floats, model.decision_function(rows))


def baseline_amounts(*, train: Table, rows: Rows) -> Floats:
    """Amounts of `rows` by a linear regression of log(1 + label), scaled to the total of `train`, (n,)."""
    model = _pipeline(train.rows, Ridge())
    model.fit(train.rows, np.log1p(train.labels))
    highest = float(np.log1p(train.labels.max()))  # a line knows no end, and its exponential even less
    learnt, asked = (np.expm1(np.clip(model.predict(each), 0.0, highest)) for each in (train.rows, rows))
    return cast(Floats, asked * (train.labels.sum() / max(learnt.sum(), np.finfo(float).tiny)))


def _pipeline(rows: Rows, regression: BaseEstimator | None = None) -> Pipeline:
    seen = [column for column in range(rows.shape[1]) if not np.isnan(rows[:, column]).all()]
    few = [column for column in seen if len(np.unique(rows[:, column])) <= FEW_VALUES]
    many = [column for column in seen if column not in few]
    columns = ColumnTransformer(
        [
            ("few", OneHotEncoder(handle_unknown="ignore"), few),
            ("many", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), many),
        ]
    )
    return make_pipeline(columns, regression or LogisticRegression(max_iter=2000))
