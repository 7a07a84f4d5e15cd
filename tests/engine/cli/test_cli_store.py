"""`arbiter store`: loading, exporting and looking after a store of one's own."""

from __future__ import annotations

import json
from pathlib import Path

import lmdb
import pytest
from typer.testing import Result

from engine.service.erased import ErasedCustomers

SCHEMA = """
name = "shop"
version = 1
view = [{name = "profile", kind = "batch", owner = "crm", freshness_hours = 24, description = ""}]
feature = [
  {name = "age", view = "profile", type = "int", data_class = "demographic", description = ""},
  {name = "spend", view = "profile", type = "double", data_class = "billing", description = ""},
]
"""
GOOD = "customer_id,age,spend\nc1,40,1.5\nc2,,2\n"


class Shop:
    """A folder with a schema, files to load, and a data directory."""

    def __init__(self, folder: Path, run: object) -> None:
        self.folder = folder
        self.run_arbiter = run
        (folder / "schema.toml").write_text(SCHEMA)

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    def file(self, text: str, name: str = "c.csv") -> Path:
        (self.folder / name).write_text(text)
        return self.folder / name

    def run(self, command: str, *arguments: object, schema: bool = False) -> Result:
        named = ("--schema", self.folder / "schema.toml") if schema else ()
        return self.run_arbiter("store", command, *arguments, *named, "--data-dir", self.data_dir)  # type: ignore[operator]

    def load(self, *arguments: object) -> Result:
        return self.run("load", *arguments, schema=True)

    def export(self, *arguments: object) -> list[dict[str, object]]:
        result = self.run("export", *arguments, schema=True)
        assert result.exit_code == 0
        return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def shop(tmp_path: Path, run: object) -> Shop:
    return Shop(tmp_path, run)


def test_loaded_features_are_exported(shop: Shop) -> None:
    """What goes in by a CSV comes out as JSON lines, with its age; named customers in the order named."""
    loaded = shop.load(shop.file(GOOD), "--as-of", "2026-01-31T08:00Z")

    rows = shop.export()
    assert loaded.exit_code == 0
    assert "2 customers in" in loaded.stdout
    assert rows == [
        {
            "customer_id": "c1",
            "features": {"age": 40, "spend": 1.5},
            "view_times_ms": {"profile": 1_769_846_400_000},
        },
        {
            "customer_id": "c2",
            "features": {"age": None, "spend": 2.0},
            "view_times_ms": {"profile": 1_769_846_400_000},
        },
    ]
    assert [row["customer_id"] for row in shop.export("c2", "c1")] == ["c2", "c1"]


def test_values_are_as_old_as_their_file(shop: Shop) -> None:
    """Without --as-of a value is as old as the file that holds it."""
    path = shop.file(GOOD)

    shop.load(path)

    assert shop.export("c1")[0]["view_times_ms"] == {"profile": path.stat().st_mtime_ns // 1_000_000}


def test_the_erased_of_the_data_directory_stay_out(shop: Shop) -> None:
    """They are counted and reported, in words and in the document; a readmission lets them in."""
    register = ErasedCustomers(shop.data_dir / "erased")
    register.add("c2", actor="dpo", reason="7", now_ms=1)

    told, document = shop.load(shop.file(GOOD)), shop.load(shop.file(GOOD), "--json")
    left = [row["customer_id"] for row in shop.export()]
    register.add("c2", actor="dpo", reason="8", now_ms=2, readmitted=True)
    (again,) = json.loads(shop.load(shop.file(GOOD), "--json").stdout)

    (loaded,) = json.loads(document.stdout)
    assert "1 customers were erased and are left out; `arbiter customer readmit` lets them in" in told.stdout
    assert (loaded["customers"], loaded["erased"], left) == (1, 1, ["c1"])
    assert (again["customers"], again["erased"]) == (2, 0)


def test_a_register_that_cannot_be_read_stops_a_load(shop: Shop) -> None:
    """Without its key nobody can say who was erased, so nobody is let in."""
    ErasedCustomers(shop.data_dir / "erased").add("c2", actor="dpo", reason="7", now_ms=1)
    (shop.data_dir / "erased" / "key").unlink()

    result = shop.load(shop.file(GOOD))

    assert result.exit_code == 5
    assert "restore it" in result.stderr
    assert shop.export() == []


def test_columns_of_another_house_are_mapped(shop: Shop) -> None:
    """A file keeps its own column names."""
    path = shop.file("KUNDE,ALTER,spend,note\nc1,40,1.5,x\n")

    result = shop.load(path, "--id", "KUNDE", "--map", "age=ALTER", "--ignore", "note", "--json")

    (loaded,) = json.loads(result.stdout)
    assert (loaded["file"], loaded["customers"], loaded["rejected"]) == (str(path), 1, 0)
    assert shop.export()[0]["features"] == {"age": 40, "spend": 1.5}


def test_bad_cells_keep_everything_out(shop: Shop) -> None:
    """A file with a bad cell is named cell by cell, and nothing of any file is loaded."""
    result = shop.load(shop.file(GOOD), shop.file("customer_id,age,spend\nc3,x,1\n", "bad.csv"))

    assert result.exit_code == 3
    assert "bad.csv:2: column age: 'x': not a whole number" in result.stderr
    assert shop.export() == []


def test_bad_rows_are_skipped_on_request(shop: Shop) -> None:
    """With --skip-bad the good rows are loaded, and each file has its list of the others."""
    bad = "customer_id,age,spend\nc3,x,1\nc4,1,1\n"
    rejects = shop.folder / "rejects.csv"

    result = shop.load(shop.file(bad), shop.file(bad.replace("c4", "c5"), "d.csv"), "--skip-bad", rejects)

    assert result.exit_code == 0
    assert "1 customers in" in result.stdout
    assert "1 rows left out" in result.stdout
    assert [row["customer_id"] for row in shop.export()] == ["c4", "c5"]
    assert "c.csv,2,age,x,not a whole number" in rejects.read_text()
    assert "d.csv,2,age,x,not a whole number" in (shop.folder / "rejects.2.csv").read_text()


@pytest.mark.parametrize("option", [("--map", "age"), ("--as-of", "yesterday")])
def test_options_of_the_wrong_form_are_refused(shop: Shop, option: tuple[str, str]) -> None:
    """They are wrong usage, said by name."""
    assert shop.load(shop.file(GOOD), *option).exit_code == 2


def test_files_that_do_not_fit_are_refused(shop: Shop) -> None:
    """A missing file, wrong columns, a missing schema and an unknown customer are errors in the input."""
    results = [
        shop.load(shop.folder / "none.csv"),
        shop.load(shop.file("customer_id,shoe\nc1,1\n")),
        shop.run("load", shop.file(GOOD), "--schema", shop.folder / "none.toml"),
    ]
    shop.load(shop.file(GOOD))
    results.append(shop.run("export", "nobody", schema=True))

    told = ("none.csv", "column shoe", "none.toml", "nobody")
    assert [result.exit_code for result in results] == [3] * 4
    assert [word for word, result in zip(told, results, strict=True) if word not in result.stderr] == []


def test_export_to_a_file_and_back(shop: Shop) -> None:
    """Parquet and JSON lines are written to files; Parquet can be loaded."""
    shop.load(shop.file(GOOD), "--as-of", "2026-01-31")
    before = shop.export()

    for name in ("out.jsonl", "out.parquet"):
        assert shop.run("export", "--output", shop.folder / name, schema=True).exit_code == 0
    again = shop.load(shop.folder / "out.parquet", "--as-of", "2026-01-31")

    assert again.exit_code == 0
    assert shop.export() == before
    assert [json.loads(line) for line in (shop.folder / "out.jsonl").read_text().splitlines()] == before
    assert shop.run("export", "--output", shop.folder / "no" / "f.jsonl", schema=True).exit_code == 3


def test_stats_count_what_is_held(shop: Shop) -> None:
    """For people as a table, for programs as JSON."""
    shop.load(shop.file(GOOD))

    table, document = shop.run("stats"), shop.run("stats", "--json")

    assert "2 customers, 0 links of identities, 0 budgets" in table.stdout
    assert json.loads(document.stdout)["kinds"]["features"]["count"] == 2


def test_check_of_a_store_that_is_well(shop: Shop) -> None:
    """Engine, settings and the schemas in use are told, with their names."""
    shop.load(shop.file(GOOD))

    text, document = shop.run("check"), shop.run("check", "--all", "--json")

    assert (text.exit_code, document.exit_code) == (0, 0)
    assert "2 customers looked at, 0 unreadable" in text.stdout
    assert "2 of shop version 1" in text.stdout
    checked = json.loads(document.stdout)
    assert checked["engine"] == "embedded (LMDB)"
    assert [schema["name"] for schema in checked["schemas"].values()] == ["shop version 1"]


def test_check_names_what_is_damaged(shop: Shop) -> None:
    """A customer whose values cannot be read is named, and the check fails; the others are looked at."""
    shop.load(shop.file(GOOD))
    with lmdb.open(str(shop.data_dir / "store" / "state"), max_dbs=1) as env, env.begin(write=True) as txn:
        txn.put(b"c2", b"damaged", db=env.open_db(b"customers", txn=txn))

    result = shop.run("check", "--json")

    checked = json.loads(result.stdout)
    assert result.exit_code == 4
    assert (checked["customers_looked_at"], checked["unreadable"]) == (2, 1)
    assert list(checked["unreadable_customers"]) == ["c2"]


def test_commands_on_no_store_make_none(shop: Shop) -> None:
    """Looking at a folder without data is an error and leaves it as it was."""
    results = [shop.run("check"), shop.run("stats"), shop.run("export", schema=True)]

    assert [result.exit_code for result in results] == [3] * 3
    assert not shop.data_dir.exists()
