"""`arbiter log`: the record of a decision, and the replay."""

from __future__ import annotations

import json
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
