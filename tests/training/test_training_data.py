import csv
import gzip
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import training.telco as telco_module
from feature_store.schema import FeatureSchema, FeatureValue
from training.customers import customers_csv, write_customers
from training.dataset import learnt_features, split_customers, with_hidden_copies
from training.errors import DataUnexpected
from training.telco import Telco, read_telco

ROOT = Path(__file__).resolve().parents[2]


def test_the_company_has_all_customers_of_the_source(everyone: Telco) -> None:
    """Every row of the source is a customer, with the published churn rate."""
    found = (len(everyone.ids), everyone.ids[0], everyone.ids[-1], round(float(everyone.churned.mean()), 3))

    assert found == (7043, "C0001", "C7043", 0.265)


def test_what_needs_internet_is_not_owned_without_it(everyone: Telco) -> None:
    """'No internet service' in the source is a plain no."""
    offline = everyone.column("internet_service") == 0

    owned = {name: everyone.column(name)[offline].max() for name in ("online_security", "streaming_movies")}

    assert owned == {"online_security": 0.0, "streaming_movies": 0.0}


def test_only_the_first_month_lacks_total_charges(everyone: Telco) -> None:
    """Total charges are missing for the eleven customers of no full month, and nothing else is missing."""
    real = everyone.vectors[:, ~everyone.schema.behavioural]

    missing = np.isnan(everyone.column("total_charges"))

    assert (int(np.isnan(real).sum()), sorted(set(everyone.column("tenure_months")[missing]))) == (11, [0.0])


def test_gender_does_not_reach_the_company(everyone: Telco) -> None:
    """Neither the schema nor any customer has a gender."""
    names = {name for customer in everyone.values for name in customer} | set(everyone.schema.index)

    assert not {name for name in names if "female" in name or "gender" in name}


def test_a_value_nobody_knows_stops_the_run(monkeypatch: pytest.MonkeyPatch, schema: FeatureSchema) -> None:
    """A new category in the source is an error that names row, column and value, not a silent NaN."""
    table = telco_module._source_table().head(3)
    changed = table.assign(contract=["One year", "Forever", "One year"])
    monkeypatch.setattr(telco_module, "_source_table", lambda: pd.DataFrame(changed))

    with pytest.raises(DataUnexpected, match="row 2: contract: 'Forever' is not known"):
        read_telco(schema)


def test_the_customer_file_says_what_training_saw(everyone: Telco) -> None:
    """Reading the committed customer file back gives the very vectors that models were trained on."""
    content = gzip.decompress((ROOT / "feature_store/demo/customers.csv.gz").read_bytes()).decode()

    rows = list(csv.DictReader(io.StringIO(content)))

    vectors = np.stack([everyone.schema.pack(_typed(everyone.schema, row)) for row in rows])
    real = ~everyone.schema.behavioural
    np.testing.assert_array_equal(vectors[:, real], everyone.vectors[:, real])
    assert [row["customer_id"] for row in rows] == list(everyone.ids)


def test_some_behaviour_is_missing_in_the_customer_file(everyone: Telco) -> None:
    """About 3 % of each synthetic value is absent, so that the demo meets missing data."""
    rows = list(csv.DictReader(io.StringIO(customers_csv(everyone))))

    absent = [
        sum(row[f.name] == "" for row in rows) / len(rows)
        for f in everyone.schema.feature
        if f.data_class == "behavioural" and f.name in rows[0]
    ]

    assert len(absent) == 5
    assert all(0.02 < share < 0.04 for share in absent)


def test_writing_the_same_customers_changes_nothing(few: Telco, tmp_path: Path) -> None:
    """The file is written once; the same customers leave it untouched."""
    path = tmp_path / "customers.csv.gz"

    written = [write_customers(few, path), write_customers(few, path)]

    assert written == [True, False]


def test_models_read_no_demographic_and_no_behavioural_feature(schema: FeatureSchema) -> None:
    """Only contractual and billing features are learnt from."""
    classes = {schema.feature[schema.index[name]].data_class.value for name in learnt_features(schema)}

    assert classes == {"contractual", "billing"}


def test_no_customer_is_in_two_parts(everyone: Telco) -> None:
    """Train, validation and test share nobody and leave nobody out."""
    split = split_customers(strata=everyone.strata, seed=3)

    together = np.concatenate([split.train, split.validation, split.test])

    np.testing.assert_array_equal(np.sort(together), np.arange(len(everyone.ids)))


def test_every_input_is_hidden_in_some_training_rows(few: Telco) -> None:
    """After copying, each column has missing values, whole views do, and the first rows are as given."""
    rows = few.vectors[:, ~few.schema.behavioural]
    views = few.schema.view_index[~few.schema.behavioural]

    hidden, customers = with_hidden_copies(rows=rows, customers=np.arange(len(rows)), views=views, seed=1)

    missing = np.isnan(hidden[len(rows) :])
    assert missing.any(axis=0).all()
    assert all(missing[:, views == view].all(axis=1).any() for view in np.unique(views))
    np.testing.assert_array_equal(hidden[: len(rows)], rows)
    assert len(customers) == len(hidden)


def test_a_fingerprint_leaves_out_what_only_events_tell(few: Telco) -> None:
    """Another streaming feature in the schema leaves the same training data."""
    told = few.schema.feature[-1].model_copy(update={"name": "told_later"})
    feature = (*few.schema.feature, told)
    more = FeatureSchema(name="telco", version=9, view=few.schema.view, feature=feature)
    empty = np.full((len(few.vectors), 1), np.nan, dtype=np.float32)

    wider = replace(few, schema=more, vectors=np.hstack([few.vectors, empty]))

    assert wider.fingerprint == few.fingerprint


def test_a_fingerprint_follows_the_labels(few: Telco) -> None:
    """Other labels are other training data."""
    flipped = replace(few, churned=~few.churned)

    assert flipped.fingerprint != few.fingerprint


def _typed(schema: FeatureSchema, row: dict[str, str]) -> dict[str, FeatureValue | None]:
    """Cells of the customer file by the type of their feature."""
    read = {"bool": lambda cell: cell == "true", "int": int, "double": float, "category": str}
    return {
        f.name: read[f.type](row[f.name]) if row[f.name] else None for f in schema.feature if f.name in row
    }
