"""Tables of customers, CSV and Parquet: read by column, and just as strictly as cell by cell."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import feature_store
from feature_store import tables
from feature_store.errors import LoadError
from feature_store.loading import load_customers
from feature_store.schema import Feature, FeatureSchema, parse_schema
from feature_store.tables import Block, ColumnMap, CustomerTable, open_table

SHOP = parse_schema(
    """
name = "shop"
version = 1
view = [
  {name = "profile", kind = "batch", owner = "crm", freshness_hours = 24, description = ""},
  {name = "usage", kind = "batch", owner = "web", freshness_hours = 1, description = ""},
  {name = "moment", kind = "request", owner = "web", description = ""},
]
feature = [
  {name = "age", view = "profile", type = "int", data_class = "demographic", description = ""},
  {name = "vip", view = "profile", type = "bool", data_class = "contractual", description = ""},
  {name = "tier", view = "profile", type = "category", data_class = "contractual", categories = [
    "silver", "gold"], description = ""},
  {name = "spend", view = "usage", type = "double", data_class = "billing", description = ""},
  {name = "basket", view = "moment", type = "double", data_class = "billing", description = ""},
]
""",
    source="test",
)
HEADER = "customer_id,age,vip,tier,spend\n"
ROWS = 'c1,40,true,gold,1.5\nc2,,FALSE,,-0.25\n"c,3",7,1,silver,\n'
PARQUET = {
    "customer_id": ["c1", "c2", "c,3"],
    "age": [40, None, 7],
    "vip": [True, False, True],
    "tier": ["gold", None, "silver"],
    "spend": [1.5, -0.25, None],
}
NAN = float("nan")


def csv_file(folder: Path, text: str, name: str = "c.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def opened(path: Path, columns: ColumnMap = ColumnMap(), schema: FeatureSchema = SHOP) -> CustomerTable:  # noqa: B008  # frozen
    return open_table(path, schema=schema, columns=columns)


def rows_of(blocks: list[Block]) -> dict[str, list[float]]:
    ids = [customer_id for block in blocks for customer_id in block.customer_ids]
    values = np.concatenate([block.values for block in blocks])
    return dict(zip(ids, values.tolist(), strict=True))


def bad_cells(table: CustomerTable) -> list[str]:
    return [str(cell).removeprefix(f"{table.path}:") for block in table.blocks() for cell in block.bad]


def same(left: dict[str, list[float]], right: dict[str, list[float]]) -> bool:
    return list(left) == list(right) and np.array_equal(
        np.array(list(left.values())), np.array(list(right.values())), equal_nan=True
    )


EXPECTED = {"c1": [40, 1, 1, 1.5, NAN], "c2": [NAN, 0, NAN, -0.25, NAN], "c,3": [7, 1, 0, NAN, NAN]}


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "parquet"])
def test_a_table_is_read_whatever_its_form(tmp_path: Path, ending: str) -> None:
    """CSV, packed CSV and Parquet give the same customers and values; an empty cell is absent."""
    path = tmp_path / f"customers.{ending}"
    if ending == "parquet":
        pq.write_table(pa.table(PARQUET), path)
    else:
        data = (HEADER + ROWS).encode()
        path.write_bytes(gzip.compress(data) if ending.endswith("gz") else data)

    table = opened(path)

    blocks = list(table.blocks())
    assert table.views == (0, 1)
    assert same(rows_of(blocks), EXPECTED)
    assert (blocks[-1].rows, [cell for block in blocks for cell in block.bad]) == (3, [])


def test_demo_customers_are_the_same_as_cell_by_cell(telco: FeatureSchema) -> None:
    """Bit for bit what the careful loader reads of the demo company."""
    path = Path(feature_store.__file__).parent / "demo" / "customers.csv.gz"
    expected = load_customers(path, schema=telco, as_of_ms=0)

    blocks = list(opened(path, schema=telco).blocks())

    assert [name for block in blocks for name in block.customer_ids] == [name for name, _ in expected]
    read = np.concatenate([block.values for block in blocks])
    assert read.tobytes() == np.stack([vector.values for _, vector in expected]).tobytes()


NUMBERS = "0|1|-1|12| 12|12 |+5|1.5|1e3|1e40|-1e39|nan|inf|-Infinity|1_000|0x10|16777216|16777217|-16777217"
WORDS = "|| |9223372036854775808|true|FALSE| True|yes|gold|silver| gold|Gold|ü|١٢|1,5|--1|.5|5.|1e-50|0.1"
CELLS = st.sampled_from((NUMBERS + WORDS).split("|"))


@given(st.sampled_from(SHOP.feature), st.lists(CELLS, min_size=1, max_size=6))
def test_columns_are_read_as_cells_are(feature: Feature, cells: list[str]) -> None:
    """Whatever stands in the cells, a column gives the values and complaints of its cells one by one."""
    column = pa.array([cell or None for cell in cells], pa.string())
    fast: list[tuple[object, ...]] = []
    slow: list[tuple[object, ...]] = []

    read = tables._stored(column, feature, lambda *bad: fast.append(bad))
    expected = tables._cell_by_cell(column, feature, lambda *bad: slow.append(bad))

    assert np.array_equal(read, expected, equal_nan=True)
    assert fast == slow


def test_bad_cells_are_named_by_line_and_column(tmp_path: Path) -> None:
    """Every bad cell is named with the line it begins on, quoted line breaks and empty lines counted."""
    path = csv_file(
        tmp_path,
        HEADER
        + '"a\nb",x,true,gold,1\n\nc2,1,maybe,bronze,1\nc3,1,true\n,1,true,gold,nan\nc5,1,true,gold,2\n'
        "c6,1,true,gold,2,9\n",
    )

    table = opened(path)

    assert bad_cells(table) == [
        "2: column age: 'x': not a whole number",
        "5: column vip: 'maybe': neither true, false, 1 nor 0",
        "5: column tier: 'bronze': 'bronze' is none of silver, gold",
        "6: column -: 'c3,1,true': 3 cells, the header has 5",
        "7: column customer_id: '': empty",
        "7: column spend: 'nan': nan is not finite; leave it out where it is unknown",
        "9: column -: 'c6,1,true,gold,2,9': 6 cells, the header has 5",
    ]
    assert [name for block in table.blocks() for name in block.customer_ids] == ["c5"]


def test_bad_values_of_parquet_are_named_by_row(tmp_path: Path) -> None:
    """In Parquet there are no lines: the row is named."""
    path = tmp_path / "c.parquet"
    wrong = PARQUET | {
        "age": [40, 1 << 30, 7],
        "tier": ["gold", "bronze", "silver"],
        "spend": [1.5, NAN, 1e39],
    }
    pq.write_table(pa.table(wrong), path)

    found = bad_cells(opened(path))

    assert found == [
        "2: column age: '1073741824': 1073741824 is beyond the exact range of float32 (2^24)",
        "2: column tier: 'bronze': 'bronze' is none of silver, gold",
        "2: column spend: 'nan': nan is not finite; leave it out where it is unknown",
        "3: column spend: '1e+39': 1e+39 is beyond the range of float32 (3.4e38)",
    ]


def test_parquet_of_other_types_is_read_where_it_says_the_same(tmp_path: Path) -> None:
    """Whole floats are ints, 0 and 1 booleans, numbers ids; text is read as in a CSV."""
    path = tmp_path / "c.parquet"
    table = pa.table(
        {
            "customer_id": [1, 2, 3],
            "age": pa.array([40.0, None, 7.0]),
            "vip": pa.array([1, 0, 1], pa.int8()),
            "tier": pa.array(["gold", None, "silver"]).dictionary_encode(),
            "spend": ["1.5", "-0.25", None],
        }
    )
    pq.write_table(table, path)

    blocks = list(opened(path).blocks())

    assert same(rows_of(blocks), dict(zip("123", EXPECTED.values(), strict=True)))


def test_last_row_of_a_customer_stands(tmp_path: Path) -> None:
    """Of two rows for one customer the later one is loaded; a bad one is none."""
    rows = "c1,1,true,gold,1\nc2,2,true,gold,1\nc1,3,true,gold,1\nc2,x,true,gold,1\n"

    blocks = list(opened(csv_file(tmp_path, HEADER + rows)).blocks())

    assert {name: row[0] for name, row in rows_of(blocks).items()} == {"c1": 3, "c2": 2}


@pytest.mark.parametrize("skip_rows", [0, 1, 999, 1_000, 1_001, 2_499, 2_500])
def test_rows_may_be_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, skip_rows: int) -> None:
    """Going on after some rows gives the rest, with the same lines for what is wrong there."""
    monkeypatch.setattr(tables, "BLOCK_BYTES", 8_000)
    wrong = {700, 1_500, 2_499}
    cells = [
        f"c{i},{'x' if i in wrong else i},true,gold,1\n" + "short\n" * (i == 1_600) for i in range(2_500)
    ]
    table = opened(csv_file(tmp_path, HEADER + "".join(cells)))

    blocks = list(table.blocks(skip_rows=skip_rows))

    assert [name for b in blocks for name in b.customer_ids] == [
        f"c{i}" for i in range(skip_rows, 2_500) if i not in wrong
    ]
    lines = [cell.line for block in blocks for cell in block.bad]
    expected = [(700, 702), (1_500, 1_502), (1_601, 1_603), (2_499, 2_502)]
    assert lines == [line for row, line in expected if row >= skip_rows]
    assert [block.done_bytes for block in blocks] == sorted(block.done_bytes for block in blocks)


def test_columns_of_other_names_are_mapped(tmp_path: Path) -> None:
    """A file from elsewhere is read by its own names, and what is not wanted is passed over."""
    path = csv_file(tmp_path, "KUNDE,AGE_YRS,vip,tier,note\nc1,40,true,gold,hello\n")

    table = opened(path, ColumnMap("KUNDE", {"age": "AGE_YRS"}, frozenset({"note"})))

    assert table.views == (0,)
    assert same(rows_of(list(table.blocks())), {"c1": [40, 1, 1, NAN, NAN]})


@pytest.mark.parametrize(
    ("header", "columns", "told"),
    [
        ("customer_id,age,vip,tier,tier", ColumnMap(), "column tier: stands in the header twice"),
        ("id,age,vip,tier", ColumnMap(), "column customer_id: missing"),
        ("customer_id,age,vip,tier,shoe", ColumnMap(), "column shoe: not a feature of schema shop"),
        ("customer_id,age,tier", ColumnMap(), "view profile: missing vip; the features of a view"),
        ("customer_id,age,vip,tier", ColumnMap("customer_id", {"agee": "age"}), "--map agee: not a feature"),
        (
            "customer_id,basket,spend",
            ColumnMap(),
            "column basket: comes with each request and is never stored",
        ),
        ("customer_id", ColumnMap(), "holds no view of schema shop"),
    ],
)
def test_columns_that_do_not_fit_are_named(
    tmp_path: Path, header: str, columns: ColumnMap, told: str
) -> None:
    """What is wrong with the header is said before anything is read, with what to do."""
    with pytest.raises(LoadError) as error:
        opened(csv_file(tmp_path, header + "\n"), columns)

    assert told in str(error.value)


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    """A missing file, one that is no Parquet, and one that is not UTF-8 are errors with their path."""
    latin = tmp_path / "latin.csv"
    latin.write_bytes(HEADER.encode() + "cé,1,true,gold,1\n".encode("latin-1"))

    for path in (tmp_path / "none.csv", tmp_path / "none.parquet", csv_file(tmp_path, "x", "no.parquet")):
        with pytest.raises(LoadError, match=path.name):
            opened(path)
    with pytest.raises(LoadError, match=r"latin\.csv.*utf-8"):
        list(opened(latin).blocks())


def test_overlong_ids_are_bad_cells(tmp_path: Path) -> None:
    """An id that no store can keep is named before it is offered to one."""
    table = opened(csv_file(tmp_path, HEADER + f"{'x' * 512},1,true,gold,1\n"))

    assert bad_cells(table) == [f"2: column customer_id: {'x' * 512!r}: 512 bytes; at most 511 are kept"]
