"""Bulk loads: over what is stored, across versions of the schema, and on from where they were killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import store_workers

from feature_store import layout, tables
from feature_store.bulk import Progress, check_table, load_table
from feature_store.embedded import EmbeddedStore, open_embedded
from feature_store.errors import LoadError, StoreCorrupt, StoreFull
from feature_store.exporting import exported, write_parquet
from feature_store.schema import FeatureSchema, FeatureValue, parse_schema
from feature_store.state import FeatureVector
from feature_store.tables import ColumnMap, CustomerTable, open_table
from feature_store.versions import SchemaVersions

TEXT = """
name = "shop"
version = 1
view = [
  {name = "profile", kind = "batch", owner = "crm", freshness_hours = 24, description = ""},
  {name = "usage", kind = "streaming", owner = "web", freshness_hours = 1, description = ""},
]
feature = [
  {name = "age", view = "profile", type = "int", data_class = "demographic", description = ""},
  {name = "visits", view = "usage", type = "int", data_class = "behavioural", description = ""},
]
"""
CARTS = """
feature = [
  {name = "carts", view = "usage", type = "int", data_class = "behavioural", description = ""},"""
LATER_TEXT = TEXT.replace("version = 1", "version = 2").replace("\nfeature = [", CARTS)
SHOP, LATER = (parse_schema(text, source="test") for text in (TEXT, LATER_TEXT))
WINDOW = tables.BLOCK_ROWS - 100
"""Makes each block, some rows of which are bad, a window of its own."""

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    store = open_embedded(tmp_path / "store")
    store.put_schema(SHOP.digest, TEXT)
    yield store
    store.close()


def table_of(
    folder: Path, columns: dict[str, Sequence[object]], schema: FeatureSchema = SHOP, name: str = "c.parquet"
) -> CustomerTable:
    pq.write_table(pa.table(columns), folder / name)
    return open_table(folder / name, schema=schema, columns=ColumnMap())


def load(
    store: EmbeddedStore, table: CustomerTable, *, as_of_ms: int = 5, rejects: Path | None = None
) -> int:
    mark_file = table.path.parent / "mark"
    progress = list(load_table(store, table, as_of_ms=as_of_ms, mark_file=mark_file, rejects=rejects))
    assert not mark_file.exists()
    return progress[-1].customers


def windows(store: EmbeddedStore, table: CustomerTable, mark_file: Path, rejects: Path) -> Iterator[Progress]:
    return load_table(store, table, as_of_ms=5, mark_file=mark_file, rejects=rejects, window_rows=WINDOW)


def kept(
    store: EmbeddedStore, schema: FeatureSchema = SHOP
) -> dict[str, tuple[dict[str, FeatureValue | None], tuple[int, ...]]]:
    rows = exported(store, store.customers(), schema, SchemaVersions(store.schemas))
    return {row.customer_id: (dict(row.features), tuple(row.view_times_ms.values())) for row in rows}


def test_loaded_customers_are_there(store: EmbeddedStore, tmp_path: Path) -> None:
    """A table is kept as `put_customers` keeps it, byte for byte, at the time it was as of."""
    table = table_of(tmp_path, {"customer_id": ["c1", "ü"], "age": [40, None], "visits": [1, 2]})

    count = load(store, table)

    assert count == 2
    assert kept(store) == {
        "c1": ({"age": 40, "visits": 1}, (5, 5)),
        "ü": ({"age": None, "visits": 2}, (5, 5)),
    }
    alone = FeatureVector(SHOP.digest, (5, 5), SHOP.pack({"visits": 2}))
    stored: list[bytes | None] = []
    store.merge_features(["ü"], lambda places, values: [*(stored.append(v) or v or b"" for v in values)])
    assert stored == [layout.encode_features("ü", alone)]


def test_who_was_erased_is_left_out(store: EmbeddedStore, tmp_path: Path) -> None:
    """And counted, apart from those that are kept; others of the same file are loaded."""
    table = table_of(tmp_path, {"customer_id": ["c1", "c2", "c3"], "age": [40, 41, 42]})

    progress = list(
        load_table(store, table, as_of_ms=5, mark_file=tmp_path / "mark", erased=lambda: {"c2"}.__contains__)
    )
    nobody = list(
        load_table(
            store, table, as_of_ms=5, mark_file=tmp_path / "mark", erased=lambda: {*"123"}.__contains__
        )
    )

    assert (progress[-1].customers, progress[-1].erased) == (2, 1)
    assert (nobody[-1].customers, nobody[-1].erased) == (3, 0)


def test_a_file_of_the_erased_only_loads_nobody(store: EmbeddedStore, tmp_path: Path) -> None:
    """It is no error: the source may be slower to forget."""
    table = table_of(tmp_path, {"customer_id": ["c1"], "age": [40]})

    progress = list(
        load_table(store, table, as_of_ms=5, mark_file=tmp_path / "mark", erased=lambda: {"c1"}.__contains__)
    )

    assert (progress[-1].customers, progress[-1].erased) == (0, 1)
    assert list(store.customers()) == []


def test_who_is_erased_during_a_load_does_not_come_back(store: EmbeddedStore, tmp_path: Path) -> None:
    """The erasure was through before the load wrote; the load sees it afterwards and takes them out."""
    table = table_of(tmp_path, {"customer_id": ["c1", "c2"], "age": [40, 41]})
    looks = iter([None, {"c2"}.__contains__])

    progress = list(
        load_table(store, table, as_of_ms=5, mark_file=tmp_path / "mark", erased=lambda: next(looks))
    )

    assert list(store.customers()) == ["c1"]
    assert (progress[-1].customers, progress[-1].erased) == (1, 1)


def test_views_that_a_file_does_not_hold_stay(store: EmbeddedStore, tmp_path: Path) -> None:
    """A nightly load of one view leaves what events made of the other, and its time."""
    store.put_customers([("c1", FeatureVector(SHOP.digest, (1, 3), SHOP.pack({"age": 39, "visits": 7})))])

    load(store, table_of(tmp_path, {"customer_id": ["c1", "c2"], "age": [40, 20]}))

    assert kept(store) == {
        "c1": ({"age": 40, "visits": 7}, (5, 3)),
        "c2": ({"age": 20, "visits": None}, (5, 0)),
    }


def test_older_loader_leaves_what_it_does_not_know(store: EmbeddedStore, tmp_path: Path) -> None:
    """A load with an earlier schema over later vectors keeps the later schema and its features."""
    store.put_schema(LATER.digest, LATER_TEXT)
    facts = {"age": 39, "visits": 7, "carts": 2}
    store.put_customers([("c1", FeatureVector(LATER.digest, (1, 3), LATER.pack(facts)))])

    load(store, table_of(tmp_path, {"customer_id": ["c1", "c2"], "age": [40, 20], "visits": [8, 1]}))

    assert kept(store, LATER) == {
        "c1": ({"carts": 2, "age": 40, "visits": 8}, (5, 3)),
        "c2": ({"carts": None, "age": 20, "visits": 1}, (5, 5)),
    }


def test_later_loader_takes_customers_over(store: EmbeddedStore, tmp_path: Path) -> None:
    """A load with a later schema keeps the rest under the names it knows."""
    store.put_customers([("c1", FeatureVector(SHOP.digest, (1, 3), SHOP.pack({"age": 39, "visits": 7})))])
    store.put_schema(LATER.digest, LATER_TEXT)

    load(store, table_of(tmp_path, {"customer_id": ["c1"], "age": [40]}, LATER))

    assert kept(store, LATER) == {"c1": ({"carts": None, "age": 40, "visits": 7}, (5, 3))}


def test_schema_that_comes_during_a_load_is_learnt(store: EmbeddedStore, tmp_path: Path) -> None:
    """Another loader may begin while one runs: its features are not destroyed either."""
    rows = tables.BLOCK_ROWS + 1
    ids = [f"c{i:06d}" for i in range(rows)]
    table = table_of(tmp_path, {"customer_id": ids, "age": [40] * rows})
    loading = load_table(store, table, as_of_ms=5, mark_file=tmp_path / "mark", window_rows=WINDOW)
    next(loading)
    store.put_schema(LATER.digest, LATER_TEXT)
    store.put_customers([(ids[-1], FeatureVector(LATER.digest, (1, 3), LATER.pack({"carts": 2})))])

    list(loading)

    assert kept(store, LATER)[ids[-1]] == ({"carts": 2, "age": 40, "visits": None}, (5, 3))


def test_vectors_of_a_schema_nobody_kept_are_replaced(store: EmbeddedStore, tmp_path: Path) -> None:
    """What no one can read is written anew from its source."""
    store.put_customers([("c1", FeatureVector(LATER.digest, (1, 3), LATER.pack({"age": 1, "visits": 7})))])

    load(store, table_of(tmp_path, {"customer_id": ["c1"], "age": [40]}))

    assert kept(store) == {"c1": ({"age": 40, "visits": None}, (5, 0))}


def test_damaged_customer_stops_the_load(store: EmbeddedStore, tmp_path: Path) -> None:
    """A value that cannot be read is not written over unseen: the customer is named."""
    good = layout.encode_features("c1", FeatureVector(SHOP.digest, (1, 3), SHOP.pack({"age": 1})))
    store.merge_features(["c1"], lambda places, stored: [good[:-1] + b"x"])

    with pytest.raises(StoreCorrupt, match="'c1'"):
        load(store, table_of(tmp_path, {"customer_id": ["c1"], "age": [40]}))


def test_bad_cells_are_found_before_anything_is_loaded(tmp_path: Path) -> None:
    """Looking a table through names twenty bad cells and counts the rest."""
    columns = {"customer_id": [f"c{i}" for i in range(50)], "age": ["x"] * 30 + ["1"] * 20}
    seen: list[int] = []

    with pytest.raises(LoadError) as error:
        check_table(table_of(tmp_path, columns), seen.append)

    lines = str(error.value).splitlines()
    assert len(lines) == 21
    assert lines[0].endswith("c.parquet:1: column age: 'x': not a whole number")
    assert lines[-1] == "and 10 more"
    assert seen == [(tmp_path / "c.parquet").stat().st_size]


def test_bad_rows_are_left_out_and_listed(store: EmbeddedStore, tmp_path: Path) -> None:
    """With a file for rejects the good rows are loaded and the bad cells written there."""
    table = table_of(tmp_path, {"customer_id": ["c1", "c2", ""], "age": ["40", "x", "1"]})

    count = load(store, table, rejects=tmp_path / "rejects.csv")

    assert (count, list(kept(store))) == (1, ["c1"])
    assert (tmp_path / "rejects.csv").read_text().splitlines() == [
        "file,line,column,value,why",
        f"{table.path},2,age,x,not a whole number",
        f"{table.path},3,customer_id,,empty",
    ]


def test_customers_are_put_in_order_over_many_blocks(store: EmbeddedStore, tmp_path: Path) -> None:
    """However rows lie in the file, all are kept; the last of a customer stands, blocks apart or not."""
    rows = 3 * tables.BLOCK_ROWS
    ids = [f"c{i * 7 % rows:06d}" for i in range(rows)] + ["c000007"]
    table = table_of(tmp_path, {"customer_id": ids, "age": [i % 90 for i in range(rows)] + [99]})

    progress = list(load_table(store, table, as_of_ms=5, mark_file=tmp_path / "mark"))

    ages = {name: facts["age"] for name, (facts, _) in kept(store).items()}
    assert ages == {f"c{i * 7 % rows:06d}": i % 90 for i in range(rows)} | {"c000007": 99}
    assert [p.customers for p in progress] == [tables.BLOCK_ROWS, 2 * tables.BLOCK_ROWS, rows]
    assert [p.done_bytes for p in progress] == sorted(p.done_bytes for p in progress)


def test_without_a_place_for_rejects_a_bad_row_stops_the_load(store: EmbeddedStore, tmp_path: Path) -> None:
    """A file that was not looked through first is not loaded past a bad cell."""
    table = table_of(tmp_path, {"customer_id": ["c1"], "age": ["x"]})

    with pytest.raises(LoadError, match="column age: 'x'"):
        load(store, table)

    assert kept(store) == {}


def many(folder: Path, rows: int) -> CustomerTable:
    """A table of several blocks, every thousandth row of which is bad."""
    ages = ["x" if i % 1_000 == 999 else str(i % 90) for i in range(rows)]
    return table_of(folder, {"customer_id": [f"c{i:06d}" for i in range(rows)], "age": ages})


def test_a_load_broken_off_at_any_block_goes_on(tmp_path: Path) -> None:
    """Stopped after every block and started again, a load ends with the same content and rejects."""
    table = many(tmp_path, 3 * tables.BLOCK_ROWS + 10)
    mark_file, rejects = tmp_path / "mark", tmp_path / "rejects.csv"
    seen = []
    store = open_embedded(tmp_path / "broken")
    while not seen or mark_file.exists():
        loading = windows(store, table, mark_file, rejects)
        seen.append(next(loading).customers)
        if len(seen) == 4:
            list(loading)
    broken, told = kept(store), rejects.read_text()
    store.close()

    store = open_embedded(tmp_path / "whole")
    count = load(store, table, rejects=rejects)
    whole = kept(store)
    store.close()

    assert seen == sorted(set(seen))
    assert len(seen) == 4
    assert (broken, told) == (whole, rejects.read_text())
    assert count == len(whole) == table_rows(table) - table_rows(table) // 1_000


def table_rows(table: CustomerTable) -> int:
    return int(pq.ParquetFile(table.path).metadata.num_rows)


def test_killed_load_goes_on_where_it_was(tmp_path: Path) -> None:
    """After kill -9 a load started again does the rest only, and ends with what it would have had."""
    table = many(tmp_path, 4 * tables.BLOCK_ROWS)
    first, pipe = _start_loading(tmp_path, table)
    before = [pipe.recv(), (pipe.send("go on"), pipe.recv())[1]]
    os.kill(first.pid or 0, signal.SIGKILL)
    first.join(60)

    second, pipe = _start_loading(tmp_path, table)
    after = []
    while second.is_alive():
        try:
            after.append(pipe.recv())
            pipe.send("go on")
        except (EOFError, BrokenPipeError):
            break
    second.join(60)

    store = open_embedded(tmp_path / "store")
    ages = {name: facts["age"] for name, (facts, _) in kept(store).items()}
    store.close()
    assert after[0] > before[-1]
    assert len(before) + len(after) == 4
    assert ages == {f"c{i:06d}": i % 90 for i in range(table_rows(table)) if i % 1_000 != 999}
    assert len((tmp_path / "rejects.csv").read_text().splitlines()) == 1 + table_rows(table) // 1_000


def _start_loading(
    folder: Path, table: CustomerTable
) -> tuple[multiprocessing.process.BaseProcess, multiprocessing.connection.Connection]:
    here, there = SPAWN.Pipe()
    arguments = (folder, table.path, TEXT, there)
    process = SPAWN.Process(target=store_workers.load_a_table, args=arguments, daemon=True)
    process.start()
    there.close()
    return process, here


def test_changed_file_is_loaded_from_its_start(store: EmbeddedStore, tmp_path: Path) -> None:
    """The mark of a load is for that very file; a new one is not begun in the middle."""
    table = many(tmp_path, 2 * tables.BLOCK_ROWS)
    loading = windows(store, table, tmp_path / "mark", tmp_path / "rejects.csv")
    next(loading)
    loading.close()

    load(store, table_of(tmp_path, {"customer_id": ["c000000"], "age": [99]}))

    assert kept(store)["c000000"][0]["age"] == 99


def test_failing_store_leaves_the_mark(
    store: EmbeddedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that is full stops the load; when there is room again it goes on."""
    table = many(tmp_path, 2 * tables.BLOCK_ROWS)
    rejects, mark_file = tmp_path / "rejects.csv", tmp_path / "mark"
    loading = windows(store, table, mark_file, rejects)
    first = next(loading).customers

    with monkeypatch.context() as full:
        full.setattr(store, "merge_features", _full)
        with pytest.raises(StoreFull):
            next(loading)

    rest = list(windows(store, table, mark_file, rejects))
    assert len(rest) == 1
    assert rest[0].customers > first


def _full(*_: object) -> None:
    raise StoreFull("no room")


def test_exported_table_loads_as_it_was(store: EmbeddedStore, tmp_path: Path) -> None:
    """What is exported to Parquet and loaded again is the same, absent values included."""
    facts = {f"c{i}": {"age": i if i % 3 else None, "visits": i} for i in range(60)}
    store.put_customers(
        (name, FeatureVector(SHOP.digest, (5, 5), SHOP.pack(row))) for name, row in facts.items()
    )
    before = kept(store)

    count = write_parquet(
        tmp_path / "out.parquet",
        SHOP,
        exported(store, store.customers(), SHOP, SchemaVersions(store.schemas)),
    )
    for name in facts:
        store.erase(name)
    load(store, open_table(tmp_path / "out.parquet", schema=SHOP, columns=ColumnMap()))

    assert count == 60
    assert kept(store) == before


def test_export_names_who_cannot_be_exported(store: EmbeddedStore) -> None:
    """An unknown customer, and one of a schema nobody kept, are errors."""
    store.put_customers([("c1", FeatureVector(LATER.digest, (1, 3), LATER.pack({})))])

    for name in ("c1", "c2"):
        with pytest.raises(LoadError, match=name):
            list(exported(store, [name], SHOP, SchemaVersions(store.schemas)))


@pytest.mark.slow
def test_a_million_customers_load_at_fifty_thousand_a_second(tmp_path: Path, telco: FeatureSchema) -> None:
    """In any order of the file, checked first; counted in time of one core, as others may share it."""
    rows, chance = 1_000_000, np.random.default_rng(1)
    columns: dict[str, pa.Array] = {"customer_id": [f"C{i:07d}" for i in chance.permutation(rows)]}
    for feature in telco.feature:
        codes = chance.integers(0, len(feature.categories) or 2, rows)
        texts = pa.DictionaryArray.from_arrays(codes, list(feature.categories) or ["false", "true"])
        columns[feature.name] = codes if feature.type in ("int", "double") else texts.cast(pa.string())
    table = table_of(tmp_path, columns, telco)
    store = open_embedded(tmp_path / "store")
    began = time.process_time()

    check_table(table, lambda _done: None)
    count = load(store, table)

    seconds = time.process_time() - began
    held = store.stats().customers
    store.close()
    assert count == held == rows
    assert rows / seconds >= 50_000


def test_rows_are_packed_as_vectors_are() -> None:
    """Packing in bulk gives the bytes of packing one by one, and reads back."""
    ids, random = ["c1", "größer", "x" * 500], np.random.default_rng(0)
    times = random.integers(-(1 << 40), 1 << 40, (3, 2))
    values = random.random((3, 5), dtype=np.float32)

    packed = layout.encode_feature_rows(ids, SHOP.digest, times, values)

    one_by_one = [
        layout.encode_features(name, FeatureVector(SHOP.digest, tuple(at.tolist()), row))
        for name, at, row in zip(ids, times, values, strict=True)
    ]
    read_times, read_values = layout.decode_feature_rows(ids, packed, views=2, features=5)
    assert packed == one_by_one
    assert {layout.features_schema(value) for value in packed} == {SHOP.digest}
    assert np.array_equal(read_times, times)
    assert np.array_equal(read_values, values)
    with pytest.raises(StoreCorrupt, match="shape"):
        layout.decode_feature_rows(ids, packed, views=2, features=4)
