"""Rows for learning: honest splits by customer, and rows with hidden values, as serving will send them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import train_test_split

from feature_store.schema import DataClass, FeatureSchema

Rows = npt.NDArray[np.float32]
Index = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float64]

TEST_SHARE: Final = 0.2
VALIDATION_SHARE: Final = 0.2
CELL_COPIES: Final = 0.25
"""Share of training rows copied with single values hidden, each with probability HIDDEN_CELLS."""
HIDDEN_CELLS: Final = 0.15
VIEW_COPIES: Final = 0.15
"""Share of training rows copied with one whole view hidden, as when a nightly load is late."""

_LEARNT: Final = frozenset({DataClass.CONTRACTUAL, DataClass.BILLING})
"""Classes that models may read. Behavioural features are synthetic here; demographic ones (age, household)
are left out because they add nothing to the churn model (measured at every run, `cv_auc_with_demographic`)
and a score that follows someone's age could not be told to them."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of one model: inputs float32 (n, inputs), labels 0 or 1, the customer each row is of,
    and the place of the propensity target each row asks about (-1 in churn).
    """

    rows: Rows
    labels: Floats
    customers: Index
    targets: Index

    def of_target(self, place: int) -> Table:
        """The rows that ask about one target."""
        return self.where(self.targets == place)

    def where(self, kept: npt.NDArray[np.bool_]) -> Table:
        """The rows where `kept`, bool of shape (n,)."""
        return Table(self.rows[kept], self.labels[kept], self.customers[kept], self.targets[kept])


@dataclass(frozen=True, slots=True)
class Split:
    """Customer rows of the three parts; no customer is in two of them."""

    train: Index
    validation: Index
    test: Index


def split_customers(*, strata: npt.NDArray[np.intp], seed: int) -> Split:
    """60/20/20 by customer, each part with the same share of every stratum, int of shape (customers,)."""
    everyone = np.arange(len(strata), dtype=np.intp)
    rest, test = train_test_split(everyone, test_size=TEST_SHARE, stratify=strata, random_state=seed)
    train, validation = train_test_split(
        rest, test_size=VALIDATION_SHARE / (1 - TEST_SHARE), stratify=strata[rest], random_state=seed
    )
    return Split(train=np.sort(train), validation=np.sort(validation), test=np.sort(test))


def learnt_features(schema: FeatureSchema, *, excluded: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """Features that models read, in schema order: contractual and billing ones, less `excluded`."""
    return tuple(f.name for f in schema.feature if f.data_class in _LEARNT and f.name not in excluded)


def feature_columns(schema: FeatureSchema, names: tuple[str, ...]) -> Index:
    """Places of the named features in the stored vector."""
    return np.array([schema.index[name] for name in names], dtype=np.intp)


def with_hidden_copies(*, rows: Rows, customers: Index, views: Index, seed: int) -> tuple[Rows, Index]:
    """The rows, and after them copies with values hidden (NaN), so that every input is seen missing.

    `views` names the view of each column. Returns rows and the customers they are of.
    """
    rng = np.random.default_rng(seed)
    some = rng.permutation(len(rows))[: int(len(rows) * CELL_COPIES)]
    holes = rng.random((len(some), rows.shape[1])) < HIDDEN_CELLS
    holes[np.arange(len(some)), np.arange(len(some)) % rows.shape[1]] = True  # every column, surely
    cells = np.where(holes, np.float32(np.nan), rows[some])
    late = rng.permutation(len(rows))[: int(len(rows) * VIEW_COPIES)]
    hidden_view = rng.choice(np.unique(views), len(late))
    whole = np.where(views[None, :] == hidden_view[:, None], np.float32(np.nan), rows[late])
    return np.vstack([rows, cells, whole]), np.concatenate([customers, customers[some], customers[late]])
