"""Loading customers from files: whole and typed, or a list of what is wrong."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from feature_store.errors import LoadError
from feature_store.loading import load_customers
from feature_store.schema import Feature, FeatureSchema, View

AS_OF_MS = 1_700_000_000_000
SCHEMA = FeatureSchema.model_validate(
    {
        "name": "small",
        "version": 1,
        "view": [
            {"name": "v", "kind": "batch", "owner": "o", "freshness_hours": 1, "description": "d"},
            {"name": "w", "kind": "batch", "owner": "o", "freshness_hours": 1, "description": "d"},
        ],
        "feature": [
            {"name": n, "view": "v", "type": t, "data_class": "billing", "description": "d", **more}
            for n, t, more in (
                ("senior", "bool", {}),
                ("tenure", "int", {}),
                ("charges", "double", {}),
                ("plan", "category", {"categories": ["basic", "full, plus"]}),
            )
        ],
    }
)
HEADER = "customer_id,senior,tenure,charges,plan\n"


def _load(path: Path, text: str) -> dict[str, list[object]]:
    path.write_text(text, encoding="utf-8")
    loaded = load_customers(path, schema=SCHEMA, as_of_ms=AS_OF_MS)
    return {name: list(SCHEMA.decode_all(vector.values)) for name, vector in loaded}


def test_cells_are_typed_and_empty_is_absent(tmp_path: Path) -> None:
    """Each cell becomes a value of its feature's type; an empty one becomes nothing."""
    text = HEADER + 'c1,true,12,70.5,"full, plus"\n\nc2,0,,,\nc3, FALSE ,-1,1e2,basic\n'

    loaded = _load(tmp_path / "customers.csv", text)

    assert loaded == {
        "c1": [True, 12, 70.5, "full, plus"],
        "c2": [False, None, None, None],
        "c3": [False, -1, 100.0, "basic"],
    }


def test_features_computed_from_events_need_no_column(tmp_path: Path) -> None:
    """They are absent and their view is stale until events tell; a column that is there is read."""
    count = {"function": "count", "events": ["visit"], "window": "7d"}
    computed = [
        Feature.model_validate(
            {
                "name": name,
                "view": view,
                "type": "int",
                "data_class": "behavioural",
                "description": "d",
                "aggregate": count,
            }
        )
        for name, view in (("visits", "usage"), ("calls", "other"))
    ]
    views = [
        View(name=name, kind="streaming", owner="o", freshness_hours=1, description="d")
        for name in ("usage", "other")
    ]
    schema = FeatureSchema(
        name="more", version=1, view=(*SCHEMA.view, *views), feature=(*SCHEMA.feature, *computed)
    )
    path = tmp_path / "customers.csv"
    path.write_text("visits," + HEADER + "3,c1,1,1,1,basic\n")

    ((_, vector),) = load_customers(path, schema=schema, as_of_ms=AS_OF_MS)

    assert schema.decode_all(vector.values) == [True, 1, 1.0, "basic", 3, None]
    assert vector.view_times_ms == (AS_OF_MS, AS_OF_MS, AS_OF_MS, 0)


def test_features_of_a_request_have_no_column(tmp_path: Path) -> None:
    """They come with each request; a column of theirs is refused in words."""
    view = View(name="asked", kind="request", owner="o", description="d")
    basket = SCHEMA.feature[2].model_copy(update={"name": "basket", "view": "asked"})
    schema = FeatureSchema(
        name="more", version=1, view=(*SCHEMA.view, view), feature=(*SCHEMA.feature, basket)
    )
    path = tmp_path / "customers.csv"
    path.write_text(HEADER + "c1,1,1,1,basic\n")
    ((_, vector),) = load_customers(path, schema=schema, as_of_ms=AS_OF_MS)
    path.write_text("basket," + HEADER + "3,c1,1,1,1,basic\n")

    with pytest.raises(LoadError, match="comes with each request"):
        load_customers(path, schema=schema, as_of_ms=AS_OF_MS)

    assert schema.decode_all(vector.values)[-1] is None


def test_vectors_carry_schema_and_time(tmp_path: Path) -> None:
    """Each vector names the schema's digest and has the file's time for every view."""
    path = tmp_path / "customers.csv"
    path.write_text(HEADER + "c1,1,1,1,basic\n")

    ((_, vector),) = load_customers(path, schema=SCHEMA, as_of_ms=AS_OF_MS)

    assert (vector.schema_version, vector.view_times_ms) == (SCHEMA.digest, (AS_OF_MS, AS_OF_MS))


def test_columns_may_come_in_any_order_and_compressed(tmp_path: Path) -> None:
    """Columns are found by name, and a .gz file is read like a plain one, byte order mark or not."""
    path = tmp_path / "customers.csv.gz"
    path.write_bytes(
        gzip.compress("\ufeffplan,charges,tenure,senior,customer_id\nbasic,1,2,0,c1\n".encode(), mtime=0)
    )

    ((name, vector),) = load_customers(path, schema=SCHEMA, as_of_ms=AS_OF_MS)

    assert (name, SCHEMA.decode_all(vector.values)) == ("c1", [False, 2, 1.0, "basic"])


def test_every_bad_cell_is_reported_at_once(tmp_path: Path) -> None:
    """The error has file, line, column, value and cause of each cell, and nothing is loaded."""
    path = tmp_path / "customers.csv"
    text = HEADER + "c1,yes,1.5,nan,gold\nc2,1,16777217,1e39,\nc1,1,1_0,x,\n,1,1,1,\nc5,1\n"

    with pytest.raises(LoadError) as caught:
        _load(path, text)

    assert str(caught.value).splitlines() == [
        f"{path}:2: column senior: 'yes': neither true, false, 1 nor 0",
        f"{path}:2: column tenure: '1.5': not a whole number",
        f"{path}:2: column charges: 'nan': nan is not finite; leave it out where it is unknown",
        f"{path}:2: column plan: 'gold': 'gold' is none of basic, full, plus",
        f"{path}:3: column tenure: '16777217': 16777217 is beyond the exact range of float32 (2^24)",
        f"{path}:3: column charges: '1e39': 1e+39 is beyond the range of float32 (3.4e38)",
        f"{path}:4: column customer_id: 'c1': stands in an earlier line",
        f"{path}:4: column tenure: '1_0': not a whole number",
        f"{path}:4: column charges: 'x': not a number",
        f"{path}:5: column customer_id: '': empty",
        f"{path}:6: column -: 'c5,1': 2 cells, the header has 5",
    ]


def test_a_long_list_is_cut_and_counted(tmp_path: Path) -> None:
    """After twenty problems the rest is a number."""
    with pytest.raises(LoadError) as caught:
        _load(tmp_path / "customers.csv", HEADER + "".join(f"c{i},x,1,1,\n" for i in range(50)))

    lines = str(caught.value).splitlines()
    assert (len(lines), lines[-1]) == (21, "and 30 more")


def test_header_must_fit_the_schema(tmp_path: Path) -> None:
    """Unknown, doubled and missing columns are all told before any row is read."""
    path = tmp_path / "customers.csv"

    with pytest.raises(LoadError) as caught:
        _load(path, "customer_id,senior,senior,tenure,shoe\nc1,x,x,x,x\n")

    assert str(caught.value).splitlines() == [
        f"{path}:1: column senior: 'senior': stands in the header twice",
        f"{path}:1: column shoe: 'shoe': not a feature of schema small; remove or rename it",
        f"{path}:1: column charges: '': missing from the header; add the column, with empty cells if unknown",
        f"{path}:1: column plan: '': missing from the header; add the column, with empty cells if unknown",
    ]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("missing.csv", None, "cannot be read: No such file"),
        ("latin.csv", HEADER.encode() + b"\xe9,1,1,1,\n", "not UTF-8"),
        ("quote.csv", HEADER.encode() + b'"c1"x,1,1,1,\n', "not CSV"),
        ("plain.csv.gz", HEADER.encode(), "not a whole gzip file"),
        ("cut.csv.gz", gzip.compress(HEADER.encode() * 100, mtime=0)[:-20], "not a whole gzip file"),
        ("empty.csv", b"", "customer_id.*missing from the header"),
    ],
)
def test_unreadable_files_are_load_errors(
    tmp_path: Path, name: str, content: bytes | None, told: str
) -> None:
    """Whatever makes a file unreadable is told with its name."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(LoadError, match=f"{name}.*{told}"):
        load_customers(path, schema=SCHEMA, as_of_ms=AS_OF_MS)


def test_a_file_without_rows_is_no_customers(tmp_path: Path) -> None:
    """A header alone is valid and loads nobody."""
    assert _load(tmp_path / "customers.csv", HEADER) == {}
