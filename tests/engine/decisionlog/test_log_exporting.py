"""Exports to Parquet: each record once, a folder for each day, and nothing that was erased."""

import datetime as dt
import shutil

import pyarrow.parquet as pq
import pytest
from decision_examples import NOW_MS
from export_examples import DAY_MS, log_decisions, log_outcomes, mask

from engine.decisionlog.analysis import ask
from engine.decisionlog.compressing import compress
from engine.decisionlog.cursor import Cursor, alone, read_cursor, write_cursor
from engine.decisionlog.erasure import erase_entries
from engine.decisionlog.errors import LogCorrupt, LogUnavailable
from engine.decisionlog.exporting import Exported, ExportMismatch, Range, export
from engine.decisionlog.masking import Handling, MaskingPolicy
from engine.errors import SetupInvalid


@pytest.fixture
def logs(tmp_path):
    return {"decisions": tmp_path / "decisions", "outcomes": tmp_path / "outcomes"}


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def exported_ids(out):
    parts = sorted((out / "decisions").glob("day=*/part-*.parquet"))
    return [
        i for part in parts for i in pq.ParquetFile(part).read(["decision_id"])["decision_id"].to_pylist()
    ]


def test_every_decision_is_a_row_of_its_day(logs, out):
    """With outcomes beside them; columns and types are those that are documented."""
    ids = log_decisions(logs["decisions"], 4)
    log_outcomes(logs["outcomes"], ids[:2])

    done = export(out, **logs, mask=mask())

    days = sorted(folder.name for folder in (out / "decisions").iterdir())
    first = pq.ParquetFile(next((out / "decisions" / days[0]).iterdir())).read().to_pylist()[0]
    assert (done.decisions, done.outcomes) == (4, 2)
    assert days == [
        f"day={dt.datetime.fromtimestamp((NOW_MS + n * DAY_MS) / 1000, dt.UTC):%F}" for n in range(4)
    ]
    assert first["decision_id"] == ids[0]
    assert first["decided_at"] == dt.datetime.fromtimestamp(NOW_MS / 1000, dt.UTC)
    assert len(first["candidates"]) == 33
    assert first["candidates"][0]["reasons"][0]["code"] == "ADDON_FITS"
    assert dict(first["models"]) == {"churn": 3, "propensity": 2}


def test_the_next_run_adds_what_is_new(logs, out):
    """Also where the segments were compressed meanwhile; a run with nothing new writes nothing."""
    ids = log_decisions(logs["decisions"], 3)
    export(out, **logs, mask=mask())
    list(compress(logs["decisions"], ended_before_s=1e12))
    ids += log_decisions(logs["decisions"], 2, start=3)

    second = export(out, **logs, mask=mask())
    third = export(out, **logs, mask=mask())

    assert sorted(exported_ids(out)) == sorted(ids)
    assert (second.decisions, third) == (2, Exported())


def test_a_run_that_was_cut_short_leaves_nothing_double(logs, out, tmp_path):
    """Its files count only with its cursor; the next run writes them anew."""
    log_decisions(logs["decisions"], 2)
    export(out, **logs, mask=mask())
    cursor = read_cursor(out / "cursor.json", Cursor)
    log_decisions(logs["decisions"], 2, start=2)
    export(out, **logs, mask=mask())
    write_cursor(out / "cursor.json", cursor)  # as if it had been killed just before
    next((out / "decisions").iterdir()).joinpath("left.part").touch()

    done = export(out, **logs, mask=mask())

    assert done.decisions == 2
    assert len(exported_ids(out)) == len(set(exported_ids(out))) == 4
    assert not list(out.rglob("*.part"))


def test_what_was_erased_since_leaves_the_files(logs, out):
    """Rows of the person go from files that were written before; those of others stay."""
    ids = log_decisions(logs["decisions"], 6)
    log_outcomes(logs["outcomes"], ids)
    export(out, **logs, mask=mask())
    for directory in logs.values():
        erase_entries(directory, "c-1", actor="dpo", reason="r", now_ms=NOW_MS, decision_ids={ids[1], ids[4]})

    done = export(out, **logs, mask=mask())
    again = export(out, **logs, mask=mask())

    left = [row[0] for row in ask(out, "select decision_id from outcomes", memory_mb=200).rows]
    expected = {ids[n] for n in (0, 2, 3, 5)}
    assert (done.removed, again.removed) == (4, 0)
    assert set(exported_ids(out)) == set(left) == expected


def test_a_range_is_exported_whole_into_its_own_folder(logs, out):
    """From an instant on and before another; nothing is added to it later."""
    ids = log_decisions(logs["decisions"], 5)

    export(out, **logs, mask=mask(), within=Range(NOW_MS + DAY_MS, NOW_MS + 3 * DAY_MS))

    assert exported_ids(out) == ids[1:3]
    with pytest.raises(ExportMismatch, match="holds a range"):
        export(out, **logs, mask=mask())


def test_a_folder_is_of_one_kind(logs, out):
    """Neither another policy nor a range goes on in a folder that holds an export."""
    log_decisions(logs["decisions"], 1)
    export(out, **logs, mask=mask())

    with pytest.raises(ExportMismatch, match="another masking policy"):
        export(out, **logs, mask=mask(MaskingPolicy(scores=Handling.DROP)))
    with pytest.raises(ExportMismatch, match="new folder"):
        export(out, **logs, mask=mask(), within=Range(1, 2))


def test_one_process_exports_at_a_time(logs, out):
    """The second one says so and ends."""
    with alone(out), pytest.raises(LogUnavailable, match="another process"):
        export(out, **logs, mask=mask())


def test_a_damaged_cursor_is_no_beginning(logs, out):
    """Starting anew would make every row double."""
    log_decisions(logs["decisions"], 1)
    export(out, **logs, mask=mask())
    (out / "cursor.json").write_bytes(b"{")

    with pytest.raises(LogCorrupt, match="no cursor"):
        export(out, **logs, mask=mask())


def test_many_days_are_written(logs, out):
    """More than files are kept open."""
    ids = log_decisions(logs["decisions"], 12)

    export(out, **logs, mask=mask())

    assert sorted(exported_ids(out)) == sorted(ids)


def test_a_cursor_is_read_as_it_was_written(tmp_path):
    """With every field."""
    cursor = Cursor(places={"decisions": {"0a": 7}}, runs=3, policy="p", erased_ms=5)

    write_cursor(tmp_path / "cursor.json", cursor)

    assert read_cursor(tmp_path / "cursor.json", Cursor) == cursor


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """An export to ask."""
    folder = tmp_path_factory.mktemp("asked")
    ids = log_decisions(folder / "decisions", 4)
    log_outcomes(folder / "outcomes", ids[:3])
    export(folder / "out", decisions=folder / "decisions", outcomes=folder / "outcomes", mask=mask())
    return folder / "out"


def test_candidates_are_rows_of_their_own(asked):
    """One for each action that was looked at, joined with what came of it."""
    sql = """
        select c.action_id, count(*) as shown, count(o.decision_id) as clicked
        from candidates c left join outcomes o using (decision_id, action_id)
        where c.returned group by all order by 1
    """

    answer = ask(asked, sql, memory_mb=200)

    assert answer.columns == ("action_id", "shown", "clicked")
    assert answer.rows == (("best_1", 4, 3), ("best_2", 4, 0), ("best_3", 4, 0))


def test_an_export_without_outcomes_can_be_asked(asked, tmp_path):
    """Its views are there, and empty."""
    shutil.copytree(asked, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "outcomes")

    assert ask(tmp_path / "copy", "select count(*) from outcomes", memory_mb=200).rows == ((0,),)


@pytest.mark.parametrize(
    "sql",
    [
        "select * from read_text('/etc/hostname')",
        "select * from read_csv('/etc/passwd')",
        "select * from glob('/etc/*')",
        "copy (select 1) to '{out}/x.csv'",
        "attach '{out}/x.db'",
        "set enable_external_access = true",
        "select 1; select 2",
        "create table t (a int)",
        "install httpfs",
        "pragma database_list",
        "select nonsense from decisions",
        "",
    ],
)
def test_a_question_only_reads_the_export(asked, sql):
    """No other file, no writing, no settings; the error says what can be asked."""
    with pytest.raises(SetupInvalid, match=r"cannot be answered|one SELECT"):
        ask(asked, sql.replace("{out}", str(asked)), memory_mb=200)

    assert not list(asked.glob("x.*"))
