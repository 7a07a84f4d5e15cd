"""`arbiter log`: the record of a decision, and the replay."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from arbiter_at_work import AT_RISK, query, settings_for
from redis_at_work import RedisServer
from typer.testing import Result

from engine.bootstrap import open_application
from engine.decisionlog.log import DecisionLog

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def decision_id(own_company: Path) -> str:
    """A logged decision."""
    with open_application(settings_for(own_company)) as application:
        return application.decisions.decide(query(AT_RISK)).record.decision_id


def test_show_prints_the_record_as_json(run: Run, own_company: Path, decision_id: str) -> None:
    """The record holds the request, the state as read, and the decision."""
    result = run("log", "show", decision_id, "--data-dir", own_company)

    record = json.loads(result.stdout)
    assert (result.exit_code, result.stderr) == (0, "")
    assert record["decision_id"] == decision_id
    assert record["request"]["customer_id"] == AT_RISK


def test_replay_gives_the_same_bytes(run: Run, own_company: Path, decision_id: str) -> None:
    """A decision made again from its record is the same to the byte."""
    told = run("log", "replay", decision_id, "--data-dir", own_company)
    document = run("log", "replay", decision_id, "--data-dir", own_company, "--json")

    found = json.loads(document.stdout)
    assert (told.exit_code, document.exit_code, document.stderr) == (0, 0, "")
    assert "same to the byte" in told.stdout
    assert (found["decisionId"], found["same"]) == (decision_id, True)


def test_a_replay_with_other_bytes_ends_with_4(run: Run, own_company: Path, decision_id: str) -> None:
    """A logged decision that its own inputs do not give is named with the parts that differ."""
    with DecisionLog(own_company / "decisions") as log:
        record = log.read(decision_id)
        assert record is not None
        forged = replace(record.decision, actions=())
        with log.next(now_ms=record.now_ms) as slot:
            slot.write(replace(record, decision_id=slot.decision_id, decision=forged))

    result = run("log", "replay", slot.decision_id, "--data-dir", own_company, "--json")

    assert result.exit_code == 4
    assert json.loads(result.stdout)["same"] is False
    assert "different: actions" in result.stderr


@pytest.mark.usefixtures("decision_id")  # so that there is a log to look in
@pytest.mark.parametrize("command", ["show", "replay"])
def test_an_id_that_is_none_ends_with_3(run: Run, own_company: Path, command: str) -> None:
    """The error names the id and where ids come from."""
    result = run("log", command, "nonsense", "--data-dir", own_company)

    assert (result.exit_code, result.stdout) == (3, "")
    assert "nonsense: this is no decision id" in result.stderr


@pytest.mark.parametrize("command", ["show", "replay"])
def test_a_decision_the_log_does_not_hold_ends_with_3(
    run: Run, own_company: Path, decision_id: str, command: str
) -> None:
    """A well-formed id of another log is unknown here."""
    other = ("0" if decision_id[0] != "0" else "1") + decision_id[1:]

    result = run("log", command, other, "--data-dir", own_company)

    assert (result.exit_code, result.stdout) == (3, "")
    assert other in result.stderr


@pytest.fixture
def ended(own_company: Path, decision_id: str, tmp_path: Path) -> Path:
    """A data directory with nothing but a log that nobody writes any more, since a moment ago."""
    shutil.copytree(own_company / "decisions", tmp_path / "decisions", copy_function=shutil.copyfile)
    return tmp_path


def test_compress_leaves_every_decision_where_it_was(run: Run, ended: Path, decision_id: str) -> None:
    """It says what each file was and is; decisions are found as before, and the log is whole."""
    young = run("log", "compress", "--ended", 5, "--data-dir", ended)
    told = run("log", "compress", "--data-dir", ended)
    again = run("log", "compress", "--data-dir", ended, "--json")

    shown = run("log", "show", decision_id, "--data-dir", ended)
    whole = run("log", "verify", "--data-dir", ended)
    assert "0 files" in young.stdout
    assert ".seg: " in told.stdout
    assert json.loads(again.stdout) == {"segments": []}
    assert json.loads(shown.stdout)["decision_id"] == decision_id
    assert (whole.exit_code, "decisions: whole" in whole.stdout) == (0, True)


def test_compress_ends_with_4_where_a_file_is_damaged(run: Run, ended: Path) -> None:
    """The damaged file stays; what is wrong with it is told."""
    for path in (ended / "decisions").glob("*.seg"):
        path.write_bytes(path.read_bytes() + b"torn")

    result = run("log", "compress", "--data-dir", ended, "--json")

    assert result.exit_code == 4
    assert "its writer died while writing" in json.loads(result.stdout)["segments"][0]["refused"]
    assert "stays as it is" in result.stderr


def test_a_range_is_replayed_at_once(run: Run, own_company: Path, decision_id: str) -> None:
    """All decisions of it, each compared to the byte, and how fast that was."""
    told = run("log", "replay", "--since", "2026-01-01", "--data-dir", own_company)
    shared = run("log", "replay", "--since", "2026-01-01", "--jobs", 2, "--data-dir", own_company)
    document = run("log", "replay", decision_id, decision_id, "--data-dir", own_company, "--json")
    none = run("log", "replay", "--until", "2020-01-01", "--data-dir", own_company)

    found = json.loads(document.stdout)
    assert "same to the byte" in told.stdout
    assert shared.stdout.rpartition(";")[0] == told.stdout.rpartition(";")[0]
    assert (document.exit_code, found["decisions"], found["same"]) == (0, 2, 2)
    assert found["perSecond"] > 0
    assert (none.exit_code, none.stdout[:12]) == (0, "0 decisions:")


def test_each_difference_of_a_range_is_named(run: Run, own_company: Path, decision_id: str) -> None:
    """Field, as logged and as made again; decisions whose rules are gone are told apart."""
    with DecisionLog(own_company / "decisions") as log:
        record = log.read(decision_id)
        assert record is not None
        forged = replace(record.decision, profiled=not record.decision.profiled)
        with log.next(now_ms=record.now_ms) as changed:
            changed.write(replace(record, decision_id=changed.decision_id, decision=forged))
        lost = replace(
            record.decision, versions=replace(record.decision.versions, rules="sha256:" + "0" * 64)
        )
        with log.next(now_ms=record.now_ms) as unknown:
            unknown.write(replace(record, decision_id=unknown.decision_id, decision=lost))
    ids = (decision_id, changed.decision_id, unknown.decision_id)

    told = run("log", "replay", *ids, "--data-dir", own_company)
    document = run("log", "replay", *ids, "--data-dir", own_company, "--json")
    alone = run("log", "replay", unknown.decision_id, "--data-dir", own_company)

    found = json.loads(document.stdout)
    was = forged.profiled
    assert (told.exit_code, document.exit_code, alone.exit_code) == (4, 4, 3)
    assert f"{changed.decision_id}: different: profiled was {was}, is {not was}" in told.stderr
    assert "1 not replayed" in told.stderr
    assert "3 decisions: 1 same to the byte, 1 different, 1 not replayed" in told.stdout
    assert found["different"][0]["differences"] == [{"field": "profiled", "logged": was, "again": not was}]
    assert "does not hold rule set" in found["notReplayed"][0]["cause"]
    assert "does not hold rule set" in alone.stderr


def test_replay_wants_ids_or_a_range(run: Run, own_company: Path, decision_id: str) -> None:
    """Neither is wrong usage, and so are both, and an instant that is none."""
    neither = run("log", "replay", "--data-dir", own_company)
    both = run("log", "replay", decision_id, "--since", "2026-01-01", "--data-dir", own_company)
    odd = run("log", "replay", "--since", "yesterday", "--data-dir", own_company)

    assert [result.exit_code for result in (neither, both, odd)] == [2, 2, 2]


def test_export_and_query_answer_from_the_same_rows(
    run: Run, own_company: Path, decision_id: str, tmp_path: Path
) -> None:
    """Over the log itself, and over an export that grows; features leave where the policy keeps them."""
    policy = tmp_path / "masking.toml"
    text = 'customer_id = "keep"\n[features]\ntenure_months = "keep"\nmisspelt = "keep"\n'
    policy.write_text(text, encoding="utf-8")
    out = tmp_path / "out"
    place = ("--data-dir", own_company)
    sql = f"select customer, features, channel from decisions where decision_id = '{decision_id}'"

    first = run("log", "export", "--out", out, "--masking", policy, "--json", *place)
    again = run("log", "export", "--out", out, "--masking", policy, *place)
    strict = run("log", "export", "--out", out, *place)
    over = run("log", "query", sql, "--over", out, "--format", "json")
    direct = run("log", "query", sql, "--format", "csv", *place)
    table = run("log", "query", "select count(*) as n from candidates", *place)

    (row,) = json.loads(over.stdout)
    assert json.loads(first.stdout)["decisions"] > 0
    assert "features.misspelt: the schema has no such feature" in first.stderr
    assert "0 decisions" in again.stdout
    assert (strict.exit_code, "another masking policy" in strict.stderr) == (3, True)
    assert (row["customer"], list(row["features"])) == (AT_RISK, ["tenure_months"])
    assert direct.stdout.splitlines()[0] == "customer,features,channel"
    assert direct.stdout.splitlines()[1].startswith(",{},")
    assert "customers are left out" in direct.stderr
    assert (table.exit_code, "n" in table.stdout) == (0, True)


@pytest.mark.usefixtures("decision_id")
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("export", "--out", "{tmp}", "--format", "orc"), 2, "is no format"),
        (("export", "--out", "{tmp}", "--masking", "{tmp}/none.toml"), 3, "cannot be read"),
        (("query", "select 1", "--format", "xml"), 2, "is no format"),
        (("query", "select 1", "--over", "{tmp}"), 3, "holds no export"),
        (("query", "select 1", "--over", "{tmp}", "--since", "2026-01-01"), 2, "its own range"),
        (("query", "drop table decisions"), 3, "one SELECT"),
        (("forward", "--to", "http://localhost"), 3, "http://localhost"),
    ],
)
def test_wrong_use_says_what_to_do(
    run: Run, own_company: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    """What is wrong, by the name its author used."""
    given = [argument.replace("{tmp}", str(tmp_path)) for argument in arguments]

    result = run("log", *given, "--data-dir", own_company)

    assert (result.exit_code, said in result.stderr.replace("\n", " ")) == (code, True), result.stderr


def test_forward_sends_what_is_logged(
    run: Run, own_company: Path, decision_id: str, redis_server: RedisServer
) -> None:
    """With `--once` it ends there; the next time nothing is left to send."""
    command = ("log", "forward", "--to", redis_server.url, "--once", "--data-dir", own_company)

    first = run(*command, "--json")
    again = run(*command)

    with redis_server.admin() as client:
        entries = client.xrange("arbiter:decisions")
    assert decision_id.encode() in {fields[b"decision_id"] for _, fields in entries}
    assert json.loads(first.stdout)["sent"] == len(entries)
    assert again.stdout.startswith("0 decisions sent")
