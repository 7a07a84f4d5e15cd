"""`arbiter log`: the record of a decision, and the replay."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from arbiter_at_work import AT_RISK, query, settings_for
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
    """A data directory with nothing but a log that nobody writes."""
    shutil.copytree(own_company / "decisions", tmp_path / "decisions")
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
