"""The feature schema: what it accepts, how values are packed, and what its digest covers."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.schema import MAX_EXACT_INT, Feature, FeatureSchema, FeatureValue, SchemaError, load_schema

VALID = """
name = "small"
version = 1

[[view]]
name = "profile"
kind = "batch"
owner = "crm"
freshness_hours = 24
description = "Household"

[[feature]]
name = "tenure"
view = "profile"
type = "int"
data_class = "contractual"
description = "Months"
unit = "months"

[[feature]]
name = "plan"
view = "profile"
type = "category"
data_class = "behavioural"
description = "Plan"
categories = ["basic", "full"]
default = "basic"
"""


def _load(tmp_path: Path, text: str) -> FeatureSchema:
    path = tmp_path / "small.toml"
    path.write_text(text, encoding="utf-8")
    return load_schema(path)


def _feature(kind: str, **more: object) -> Feature:
    return Feature.model_validate(
        {
            "name": "f",
            "view": "v",
            "type": kind,
            "data_class": "billing",
            "description": "",
            "categories": ("a", "b") if kind == "category" else (),
            **more,
        }
    )


FEATURES = {kind: _feature(kind) for kind in ("bool", "int", "double", "category")}


def test_demo_schema_loads(telco: FeatureSchema) -> None:
    """The demo company's schema is valid and its arrays agree in shape."""
    count = len(telco.feature)

    shapes = {telco.view_index.shape, telco.defaults.shape, telco.behavioural.shape}

    assert shapes == {(count,)}
    assert telco.index["contract"] == [f.name for f in telco.feature].index("contract")
    assert telco.behavioural.sum() == 12


def test_arrays_are_read_only(telco: FeatureSchema) -> None:
    """Arrays that every decision shares cannot be written to."""
    writeable = [a.flags.writeable for a in (telco.view_index, telco.defaults, telco.behavioural)]

    assert writeable == [False] * 3


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('name = "plan"', 'name = "tenure"', "feature declared twice: tenure"),
        ('view = "profile"\ntype = "int"', 'view = "bills"\ntype = "int"', "not declared: bills"),
        ('categories = ["basic", "full"]', "", r"feature\.1 \(plan\): .*categories"),
        ('["basic", "full"]', '["basic", "basic"]', "listed twice"),
        ('default = "basic"', 'default = "gold"', "'gold' is none of basic, full"),
        ('name = "tenure"', 'name = "Tenure"', r"feature\.0 \(Tenure\)\.name"),
        ("freshness_hours = 24", "freshness_hours = 0", r"view\.0 \(profile\)\.freshness_hours"),
        ("freshness_hours = 24", "freshness_hours = inf", r"view\.0 \(profile\)\.freshness_hours"),
        ("version = 1", "version = 0", "version: "),
        ('name = "small"\nversion = 1', "version = 1", "name: Field required"),
        ("version = 1", "version = 1\ncolour = 2", "colour: Extra inputs"),
        ('type = "int"', 'type = "date"', r"feature\.0 \(tenure\)\.type"),
        ('unit = "months"', "default = 1.5", "not of type int"),
        ('unit = "months"', "default = nan", "not of type int"),
        ('name = "small"', "name = ", "not TOML"),
        ('name = "small"', "name = " + "[" * 20_000, "is nested too deeply"),
    ],
)
def test_a_wrong_schema_says_where_and_why(tmp_path: Path, old: str, new: str, told: str) -> None:
    """A wrong file names itself, the view or feature, and the cause."""
    with pytest.raises(SchemaError, match=r"small\.toml: .*" + told):
        _load(tmp_path, VALID.replace(old, new, 1))


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    """One run shows every problem of the file."""
    text = VALID.replace("version = 1", "version = 0").replace('type = "int"', 'type = "date"')

    with pytest.raises(SchemaError, match=r"version: .*; feature\.0 \(tenure\)\.type: "):
        _load(tmp_path, text)


def test_missing_and_empty_files(tmp_path: Path) -> None:
    """A file that is not there, and one that declares nothing, are errors with the path."""
    with pytest.raises(SchemaError, match=r"none\.toml: cannot be read: No such file"):
        load_schema(tmp_path / "none.toml")
    with pytest.raises(SchemaError, match="feature: Tuple should have at least 1 item"):
        _load(tmp_path, 'name = "small"\nversion = 1\nview = []\nfeature = []')


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('description = "Months"', 'description = "Full months"'),
        ('owner = "crm"', 'owner = "loyalty"'),
        ("version = 1", "version = 2"),
        ("freshness_hours = 24", "freshness_hours = 24.0"),
    ],
)
def test_wording_keeps_the_digest(tmp_path: Path, old: str, new: str) -> None:
    """Stored vectors stay valid when only words about them change."""
    before = _load(tmp_path, VALID).digest

    assert _load(tmp_path, VALID.replace(old, new, 1)).digest == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('name = "tenure"', 'name = "months"'),
        ('type = "int"', 'type = "double"'),
        ('"basic", "full"', '"full", "basic"'),
        ('"basic", "full"', '"basic", "full", "gold"'),
        ('default = "basic"', 'default = "full"'),
        ('default = "basic"', ""),
        ('data_class = "contractual"', 'data_class = "behavioural"'),
        ("freshness_hours = 24", "freshness_hours = 48"),
        ('unit = "months"', 'unit = "years"'),
    ],
)
def test_meaning_changes_the_digest(tmp_path: Path, old: str, new: str) -> None:
    """Anything that changes how a stored vector is read or judged makes another schema of it."""
    before = _load(tmp_path, VALID).digest

    assert _load(tmp_path, VALID.replace(old, new, 1)).digest != before


@given(st.booleans())
def test_booleans_come_back(value: bool) -> None:
    """A boolean is stored as 0 or 1 and read as a boolean."""
    assert FEATURES["bool"].decode(np.float32(FEATURES["bool"].encode(value))) is value


@given(st.integers(-MAX_EXACT_INT, MAX_EXACT_INT))
def test_whole_numbers_come_back_exactly(value: int) -> None:
    """Every whole number that is accepted is read back unchanged."""
    read = FEATURES["int"].decode(np.float32(FEATURES["int"].encode(value)))

    assert (read, type(read)) == (value, int)


@given(st.floats(-3.4e38, 3.4e38))
def test_doubles_are_rounded_once(value: float) -> None:
    """A double is the nearest float32 once encoded, and decodes to the shortest decimal stored so."""
    encoded = FEATURES["double"].encode(value)

    decoded = FEATURES["double"].decode(np.float32(encoded))
    assert encoded == float(np.float32(value))
    assert isinstance(decoded, float)
    assert FEATURES["double"].encode(decoded) == encoded


def test_an_amount_reads_as_it_was_written() -> None:
    """A price of 70.35 compares equal to 70.35, though float32 has no such number."""
    stored = np.float32(FEATURES["double"].encode(70.35))

    assert FEATURES["double"].decode(stored) == 70.35


@given(
    st.floats(width=32, allow_nan=False, allow_infinity=False)
    | st.integers(-2 * MAX_EXACT_INT, 2 * MAX_EXACT_INT).map(lambda whole: float(np.float32(whole)))
)
def test_a_double_reads_as_numpy_writes_it_the_first_time_and_again(stored: float) -> None:
    """Whole numbers and numbers seen before take a shorter way to the same decimal, the sign of 0 kept."""
    expected = repr(float(str(np.float32(stored))))

    read = [FEATURES["double"].decode(stored) for _ in range(2)]

    assert [repr(value) for value in read] == [expected, expected]


@pytest.mark.parametrize(
    ("kind", "value", "told"),
    [
        ("bool", 1, "not of type bool"),
        ("bool", "true", "not of type bool"),
        ("int", True, "not of type int"),
        ("int", 1.0, "not of type int"),
        ("int", MAX_EXACT_INT + 1, "exact range"),
        ("int", 10**400, "exact range"),
        ("double", True, "not of type double"),
        ("double", "1", "not of type double"),
        ("double", math.nan, "not finite"),
        ("double", -math.inf, "not finite"),
        ("double", 1e39, "beyond the range"),
        ("double", 10**400, "beyond the range"),
        ("category", "c", "none of a, b"),
        ("category", 0, "none of a, b"),
    ],
)
def test_values_that_do_not_fit_are_refused(kind: str, value: FeatureValue, told: str) -> None:
    """A value of another type or beyond float32 is refused, never bent into shape."""
    with pytest.raises(ValueError, match=f"^f: .*{told}"):
        FEATURES[kind].encode(value)


@pytest.mark.parametrize("kind", list(FEATURES))
def test_what_is_no_value_of_the_type_reads_as_absent(kind: str) -> None:
    """A stored number that no value encodes to is absent, not the nearest value."""
    impossible = {
        "bool": (0.5, 2.0, -1.0),
        "int": (0.5,),
        "double": (),
        "category": (0.5, -1.0, 2.0, -0.5),
    }[kind]

    read = [FEATURES[kind].decode(x) for x in (*impossible, math.nan, math.inf, -math.inf)]

    assert read == [None] * len(read)


def test_pack_and_decode_all_are_inverse(telco: FeatureSchema) -> None:
    """What is packed comes back in schema order, with None where nothing was given."""
    values: dict[str, FeatureValue | None] = {
        "senior_citizen": False,
        "tenure_months": 12,
        "contract": "two-year",
        "monthly_charges": 70.5,
        "total_charges": None,
    }

    decoded = telco.decode_all(telco.pack(values))

    assert decoded == [values.get(f.name) for f in telco.feature]
    assert [type(v) for v in decoded if v is not None] == [bool, int, str, float]


@given(st.lists(st.floats(width=32), min_size=30, max_size=30))
def test_decode_all_agrees_with_decode(telco: FeatureSchema, stored: list[float]) -> None:
    """The fast way over a vector gives what each feature's own decoder gives."""
    vector = np.array(stored, dtype=np.float32)

    one_by_one = [f.decode(x) for f, x in zip(telco.feature, vector.tolist(), strict=True)]

    assert telco.decode_all(vector) == one_by_one


def test_decode_all_needs_a_whole_vector(telco: FeatureSchema) -> None:
    """A vector of another length is an error, not a shorter answer."""
    with pytest.raises(ValueError, match=r"shorter"):
        telco.decode_all(np.zeros(5, dtype=np.float32))


def test_pack_names_every_value_that_does_not_fit(telco: FeatureSchema) -> None:
    """One error lists unknown names and wrong values together."""
    with pytest.raises(
        SchemaError, match=r"shoe_size: not in schema telco; tenure_months: 'x'.*; contract: "
    ):
        telco.pack({"shoe_size": 42, "tenure_months": "x", "contract": "lifelong"})
