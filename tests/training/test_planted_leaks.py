"""Leaks of every kind are planted in training files, and each is refused by name."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd
import pytest
from shop_history import DAY_MS, HOUR_MS, NOW_MS, SCHEMA, SCHEMA_TOML, bought, loaded, row
from typer.testing import CliRunner

from training.cli import app
from training.errors import DataUnexpected, LeakRefused, TrainingError
from training.history import read_events, read_observations, read_offered, read_snapshots, write_rows
from training.instants import read_instant_ms, written_instant
from training.leaks import Offered, check_table, rows_seen
from training.pointintime import History

LATE_MS = 2 * DAY_MS - HOUR_MS
HISTORY = History(
    SCHEMA,
    events=[bought(2 * DAY_MS, id="a"), bought(2 * DAY_MS - 1, id="late", late_ms=LATE_MS, amount=7.0)],
    snapshots=[loaded(3 * DAY_MS, charges=10.0), loaded(HOUR_MS, charges=20.0)],
)
ROW = row(DAY_MS)
HONEST = {"purchases": 1.0, "spent": 5.0, "charges": 10.0, "plan": 1.0}

Rows = list[dict[str, str]]


def offered(values: Mapping[str, float] = HONEST, **said: Mapping[str, Sequence[int | None]]) -> Offered:
    """A table of one row, of yesterday."""
    return Offered(
        (ROW,),
        {name: [value] for name, value in values.items()},
        said.get("times", {}),
        said.get("known", {}),
    )


def test_an_honest_table_passes() -> None:
    """What was known at the instant is no leak, nor is a rounding."""
    check_table(HISTORY, offered({**HONEST, "charges": 10.0 * (1 + 1e-7)}))

    with pytest.raises(DataUnexpected, match="no column is a feature of schema shop"):
        check_table(HISTORY, offered({}))


@pytest.mark.parametrize(
    ("column", "leaked", "words"),
    [
        ("purchases", 2.0, "the table says 2, what was known before the instant gives 1; it is the value at"),
        ("spent", 12.0, "the table says 12.0, what was known before the instant gives 5.0; it is the value"),
        ("charges", 20.0, "the table says 20.0, .* gives 10.0; it is the value at the end of the history"),
        ("charges", 11.0, "the table says 11.0, what was known before the instant gives 10.0; build"),
        ("plan", float("nan"), "the table says missing, what was known before the instant gives 'plus'"),
    ],
    ids=["late event", "late event in a sum", "snapshot from the future", "from elsewhere", "lost"],
)
def test_a_column_joined_as_of_another_instant_is_refused(column: str, leaked: float, words: str) -> None:
    """By column, customer, instant, both values, and where the value comes from."""
    with pytest.raises(LeakRefused, match=words) as refused:
        check_table(HISTORY, offered({**HONEST, column: leaked}))

    assert [leak.column for leak in refused.value.leaks] == [column]
    assert f"column {column}: customer C1 at {written_instant(ROW.at_ms)}" in str(refused.value)


@pytest.mark.parametrize(
    ("said", "column"),
    [
        ({"known": {"billing": [ROW.at_ms]}}, "billing.known"),
        ({"times": {"billing": [ROW.at_ms + 1]}}, "billing.time"),
    ],
)
def test_a_join_from_after_the_instant_is_refused(
    said: Mapping[str, Mapping[str, list[int | None]]], column: str
) -> None:
    """Also where the value happens to be the same: next time it is not."""
    with pytest.raises(LeakRefused, match="was joined from") as refused:
        check_table(HISTORY, offered(**said))

    assert [leak.column for leak in refused.value.leaks] == [column]


@pytest.mark.parametrize(
    ("known_after_ms", "label_from_ms", "column"),
    [
        (-1, None, "label_known"),
        (0, None, "label_known"),
        (HOUR_MS, ROW.at_ms - 1, "label_from"),
        (HOUR_MS, ROW.at_ms + HOUR_MS, "label_from"),
    ],
    ids=["known before", "known at the instant", "window overlaps the features", "empty window"],
)
def test_a_label_that_features_may_tell_is_refused(
    known_after_ms: int, label_from_ms: int | None, column: str
) -> None:
    """Known too early, or of a time that the features cover; building and checking agree."""
    leaking = row(DAY_MS, known_after_ms=known_after_ms, label_from_ms=label_from_ms)

    with pytest.raises(LeakRefused) as built:
        rows_seen(HISTORY, [leaking])
    with pytest.raises(LeakRefused) as checked:
        check_table(HISTORY, Offered((leaking,), {"purchases": [1.0]}, {}, {}))

    assert [leak.column for leak in built.value.leaks] == [column]
    assert checked.value.leaks == built.value.leaks


def test_a_label_from_the_instant_on_is_fine() -> None:
    """The features end where the label's window begins."""
    asked = row(DAY_MS, known_after_ms=1, label_from_ms=ROW.at_ms)

    assert len(rows_seen(HISTORY, [asked])) == 1


def test_a_row_that_stands_twice_is_refused() -> None:
    """It could be learnt from and tested on; it is named once."""
    with pytest.raises(LeakRefused, match=r"column at: customer C1 .*stands 3 times") as refused:
        rows_seen(HISTORY, [ROW, ROW, row(0), row(DAY_MS, label=0.0)])

    assert len(refused.value.leaks) == 1


def test_many_leaks_are_counted() -> None:
    """The first twenty are named, the others counted."""
    rows = tuple(row(HOUR_MS + i) for i in range(25))

    with pytest.raises(LeakRefused, match="and 5 more") as refused:
        check_table(HISTORY, Offered(rows, {"purchases": [9.0] * 25}, {}, {}))

    assert len(refused.value.leaks) == 25


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with schema, events, snapshots and observations."""
    (tmp_path / "shop.toml").write_text(SCHEMA_TOML)
    events = [
        {"event_id": "a", "occur_time": NOW_MS - 2 * DAY_MS, "received_time": NOW_MS - 2 * DAY_MS},
        {
            "event_id": "late",
            "occur_time": written_instant(NOW_MS - 2 * DAY_MS),
            "received_time": written_instant(NOW_MS - HOUR_MS),
        },
    ]
    lines = [
        json.dumps({"type": "bought", "customer_id": "C1", "attributes": {"amount": 5.0}, **e})
        for e in events
    ]
    (tmp_path / "events.jsonl").write_text("\n".join(lines) + "\n\n")
    snapshot = "customer_id,view_time,known_time,charges,plan\n"
    for age_ms, charges in ((3 * DAY_MS - 1, "10.5"), (HOUR_MS, "20")):
        at = written_instant(NOW_MS - age_ms)
        snapshot += f"C1,{at},{at},{charges},plus\n"
    (tmp_path / "snapshots.csv").write_text(snapshot)
    rows = "customer_id,at,label,label_known,label_from,basket\n"
    for age_ms in (DAY_MS, 0):
        at, known = written_instant(NOW_MS - age_ms), NOW_MS - age_ms + DAY_MS
        rows += f"C1,{at},true,{known},{at},2\n"
    (tmp_path / "rows.csv").write_text(rows)
    return tmp_path


def run(files: Path, command: str, table: str, *more: str) -> None:
    """Runs the command; raises what stops it."""
    given = ["--schema", "shop.toml", "--events", "events.jsonl", "--snapshots", "snapshots.csv"]
    paths = [str(files / part) if "." in part else part for part in (table, *given, *more)]
    result = CliRunner().invoke(app, ["history", command, *paths])
    if result.exception is not None:
        raise result.exception


@pytest.mark.parametrize("out", ["table.csv", "table.csv.gz", "table.parquet"])
def test_a_table_that_was_built_passes_its_check(files: Path, out: str) -> None:
    """From files to a table and back, in every format."""
    run(files, "build", "rows.csv", "--out", out)

    run(files, "check", out)
    table = read_offered(files / out, schema=SCHEMA)
    assert list(table.values["purchases"]) == [1.0, 2.0]
    assert list(table.values["charges"]) == [10.5, 20.0]
    assert [one.context for one in table.rows] == [{"basket": 2}, {"basket": 2}]


@pytest.mark.parametrize(
    ("column", "leaked"), [("purchases", "2"), ("charges", "20.0"), ("label_known", "2027-01-14T08:00:00Z")]
)
def test_a_leak_planted_in_a_file_stops_the_check(files: Path, column: str, leaked: str) -> None:
    """The first row gets what only the end of the history knows."""
    run(files, "build", "rows.csv", "--out", "table.csv")
    rows: Rows = list(csv.DictReader((files / "table.csv").read_text().splitlines()))
    rows[0][column] = leaked
    pd.DataFrame(rows).to_csv(files / "planted.csv", index=False)

    with pytest.raises(LeakRefused, match=f"column {column}: customer C1 at 2027-01-14T08:00:00.000Z"):
        run(files, "check", "planted.csv")


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("rows.csv", ("basket", "spent"), "column spent: is a feature that is joined already"),
        ("rows.csv", ("basket", "score"), "column score: is nothing that is known here"),
        ("rows.csv", (",label,", ",outcome,"), "column label: missing"),
        ("rows.csv", ("true", "perhaps"), "row 1: column label: 'perhaps': not a number"),
        ("rows.csv", ("true", ""), "row 1: column label: None: not a number"),
        ("rows.csv", ("true", "nan"), "row 1: column label: 'nan': not finite"),
        ("rows.csv", ("C1", ""), "row 1: column customer_id: None: empty"),
        ("rows.csv", ("C1,2027-01-14T", "C1,yesterday"), "row 1: column at: .*: no instant"),
        ("rows.csv", (",true", ",true,true"), "more cells than the header"),
        ("snapshots.csv", ("charges", "spent"), "column spent: is computed from events"),
        ("snapshots.csv", ("charges", "charge"), "column charges: missing"),
        ("snapshots.csv", ("charges,plan", "x,y"), "column x: is nothing that is known"),
        ("snapshots.csv", ("10.5,plus", "10.5,gold"), "row 1: column plan: 'gold': plan: 'gold' is none of"),
        ("events.jsonl", ('"event_id"', '"id"'), "events.jsonl:1: not a received event: .*event_id"),
        ("events.jsonl", ("2027-01-13T", "then"), "events.jsonl:2: not a received event: no instant"),
    ],
)
def test_a_file_that_is_wrong_is_named(files: Path, file: str, change: tuple[str, str], words: str) -> None:
    """With the file, the row or column, and what to do."""
    path = files / file
    path.write_text(path.read_text().replace(*change))

    with pytest.raises(DataUnexpected, match=words):
        run(files, "build", "rows.csv", "--out", "table.csv")


def test_ignored_columns_are_passed_over(files: Path) -> None:
    """Of the rows and of the snapshots, each by its own option."""
    for name, column in (("rows.csv", "score"), ("snapshots.csv", "spent")):
        lines = (files / name).read_text().splitlines()
        (files / name).write_text("\n".join([f"{lines[0]},{column}", *(f"{line},1" for line in lines[1:])]))

    run(files, "build", "rows.csv", "--out", "t.csv", "--ignore", "score", "--ignore-in-snapshots", "spent")

    assert list(read_offered(files / "t.csv", schema=SCHEMA).values["spent"]) == [5.0, 10.0]


@pytest.mark.parametrize(
    "read",
    [
        lambda path: list(read_events(path)),
        lambda path: list(read_snapshots(path, schema=SCHEMA)),
        lambda path: read_observations(path.with_suffix(".parquet"), schema=SCHEMA),
    ],
)
def test_a_file_that_is_not_there_is_named(tmp_path: Path, read: Callable[[Path], object]) -> None:
    """As an error of training, not of the system."""
    with pytest.raises(TrainingError, match=r"none\.(csv|parquet): cannot be read"):
        read(tmp_path / "none.csv")


def test_numbers_of_parquet_may_be_of_other_kinds(files: Path) -> None:
    """Whole floats, 0 and 1 for truth, numbers for customers, and timestamps of its own."""
    at = pd.to_datetime([NOW_MS - DAY_MS, NOW_MS], unit="ms", utc=True)
    frame = pd.DataFrame({"customer_id": [1, 2], "at": at, "label": [True, False], "label_known": NOW_MS + 9})
    frame.index = pd.Index([7, 7])  # as parts put together leave it
    pd.DataFrame(frame.assign(purchases=[1.0, None], contacts=[1, 0])).to_parquet(files / "t.parquet")

    table = read_offered(files / "t.parquet", schema=SCHEMA)

    assert [(one.customer_id, one.at_ms, one.label) for one in table.rows] == [
        ("1", NOW_MS - DAY_MS, 1.0),
        ("2", NOW_MS, 0.0),
    ]
    assert repr(list(table.values["purchases"])) == "[1.0, nan]"
    assert list(table.values["contacts"]) == [1.0, 0.0]


def test_a_cell_of_another_kind_is_refused(files: Path) -> None:
    """A whole number is not 1.5, and an instant is no truth value."""
    frame = pd.DataFrame({"customer_id": ["a"], "at": [1], "label": [1], "label_known": [2], "plan": [1]})
    frame.to_parquet(files / "t.parquet")

    with pytest.raises(DataUnexpected, match="row 1: column plan"):
        read_offered(files / "t.parquet", schema=SCHEMA)
    with pytest.raises(ValueError, match="no instant"):
        read_instant_ms(True)


def test_instants_beyond_the_calendar_are_milliseconds() -> None:
    """Reports name them all the same."""
    assert written_instant(10**18) == f"{10**18} ms"


def test_a_table_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """The folder is in the way."""
    (tmp_path / "t.csv").mkdir()

    with pytest.raises(DataUnexpected, match="cannot be written"):
        write_rows(tmp_path / "t.csv", [ROW], HISTORY.seen([ROW]), schema=SCHEMA)
