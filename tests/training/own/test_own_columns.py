"""Types are inferred from every cell, and what is learnt is what the server will load."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from gym_company import churn_plan, members, write_csv
from hypothesis import given
from hypothesis import strategies as st

from feature_store.schema import Feature, FeatureSchema, View, parse_schema
from feature_store.tables import ColumnMap, open_table
from training.own.inference import Inferred, feature_name, infer
from training.own.plan import TrainingPlan
from training.own.run import TrainedModel, prepare
from training.own.schemafile import schema_toml
from training.own.table import read_table


def inferred(folder: Path, columns: dict[str, list[str]], **plan: Any) -> Inferred:
    """What is inferred of columns."""
    lines = [",".join(columns), *(",".join(row) for row in zip(*columns.values(), strict=True))]
    (folder / "t.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return infer(read_table(folder / "t.csv"), TrainingPlan.model_validate(churn_plan(**plan)), roles={})


CELLS: dict[str, tuple[list[str], str | None]] = {
    "whole numbers": (["1", "-20", "300"], "int"),
    "whole numbers with a gap": (["1", "", "300"], "int"),
    "zeros and ones": (["0", "1", "1"], "int"),
    "numbers beyond the exact range": (["1", "2", "16777217"], "double"),
    "decimals": (["1.5", "2", "-3e-4"], "double"),
    "decimals with blanks": ([" 1.5", "2 ", " "], "double"),
    "numbers beyond float32": (["1.5", "2", "1e39"], None),
    "truth values": (["true", "FALSE", "true"], "bool"),
    "yes and no": (["yes", "no", "yes"], "category"),
    "texts": (["a", "b", "a"], "category"),
    "codes": (["007", "008", "007"], None),
    "instants": (["2026-01-01", "2026-02-01T10:00Z", "2026-01-03"], None),
    "one value": (["a", "a", "a"], None),
    "one value or nothing": (["a", "", "a"], "category"),
    "nothing": (["", "", ""], None),
}


@pytest.mark.parametrize("cells", CELLS)
def test_a_column_has_the_type_that_all_its_cells_have(cells: str, tmp_path: Path) -> None:
    """Or none, with the reason."""
    texts, expected = CELLS[cells]

    (column, _) = inferred(tmp_path, {"c": texts, "d": ["1", "2", "3"]}).columns

    assert column.type == expected
    assert bool(column.why) == (expected is None)


def test_texts_with_too_many_values_are_left_out(tmp_path: Path) -> None:
    """A category is an input where a model can learn from each of its values."""
    cells = {"c": [f"v{i}" for i in range(8)], "d": [str(i) for i in range(8)]}

    column = inferred(tmp_path, cells, features={"categories_at_most": 7}).columns[0]

    assert (column.type, column.why) == (None, "8 different texts, more than 7: group them")


def test_the_plan_may_name_a_type(tmp_path: Path) -> None:
    """Codes such as 007 are a category where the plan says so."""
    cells = {"c": ["007", "008", "007"], "d": ["1", "2", "3"]}

    found = inferred(tmp_path, cells, features={"types": {"c": "category"}})

    assert found.schema.feature[0].categories == ("007", "008")


def test_classes_and_units_come_from_the_plan(tmp_path: Path) -> None:
    """Behavioural where nothing is said: never read without consent to profiling."""
    cells = {"fee": ["1.5", "2", "3"], "visits": ["1", "2", "3"]}

    given = {"data_class": None, "data_classes": {"billing": ["fee"]}, "units": {"fee": "CHF"}}

    found = inferred(tmp_path, cells, features=given)

    fee, visits = found.schema.feature
    assert (fee.data_class, fee.unit) == ("billing", "CHF")
    assert visits.data_class == "behavioural"


@pytest.mark.parametrize(
    ("column", "name"),
    [
        ("MonthlyCharges", "monthly_charges"),
        ("Monthly charges (CHF)", "monthly_charges_chf"),
        ("HTTPErrors", "http_errors"),
        ("2nd_line", "c_2nd_line"),
        ("tenure", "tenure"),
    ],
)
def test_columns_get_names_of_features(column: str, name: str) -> None:
    """Small letters and underscores."""
    assert feature_name(column) == name


_SIGNS = st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from('"\\\x7f')
_TEXT = st.text(_SIGNS, min_size=1, max_size=20)


@given(owner=_TEXT, unit=_TEXT, categories=st.lists(_TEXT, min_size=1, max_size=4, unique=True))
def test_a_schema_file_reads_back_as_the_schema(owner: str, unit: str, categories: list[str]) -> None:
    """Whatever signs its texts have."""
    schema = FeatureSchema(
        name="s",
        version=1,
        view=(View(name="v", kind="batch", owner=owner, freshness_hours=24.5, description=unit),),
        feature=(
            Feature(name="a", view="v", type="double", data_class="billing", description=owner, unit=unit),
            Feature(
                name="b",
                view="v",
                type="category",
                data_class="billing",
                description="",
                categories=categories,
            ),
        ),
    )

    read = parse_schema(schema_toml(schema, heading="one\ntwo"), source="s")

    assert read == schema


def test_the_model_learns_what_the_store_would_load(churn_model: TrainedModel, gym_folder: Path) -> None:
    """Every value of every row, to the bit, by the code of `arbiter store load`."""
    prepared = churn_model.prepared
    columns = ColumnMap("MemberId", prepared.inferred.column_of, frozenset({"Left"}))

    table = open_table(gym_folder / "members.csv", schema=prepared.inferred.schema, columns=columns)

    loaded = np.concatenate([block.values for block in table.blocks()])
    np.testing.assert_array_equal(prepared.examples.values, loaded)


def test_parquet_says_the_same_as_csv(tmp_path: Path, gym_folder: Path) -> None:
    """Types of its own, nulls for what is not known."""
    rows = [row | {"Visits": None if row["Visits"] == "" else row["Visits"]} for row in members()]
    rows = [row | {"Vegan": row["Vegan"] == "true"} for row in rows]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "members.parquet")
    write_csv(tmp_path / "members.csv", members())

    plan = TrainingPlan.model_validate(churn_plan(data={"path": "members.parquet"}))
    of_parquet = prepare(plan, folder=tmp_path).examples
    of_csv = prepare(TrainingPlan.model_validate(churn_plan()), folder=gym_folder).examples

    assert of_parquet.features == of_csv.features
    np.testing.assert_array_equal(of_parquet.values, of_csv.values)
    assert math.isnan(of_csv.values.min())
