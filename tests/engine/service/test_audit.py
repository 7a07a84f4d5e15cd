"""The audit log: who changed what, before anybody is told that it is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.decisionlog.checkpoints import Checkpoints
from engine.decisionlog.errors import LogUnavailable
from engine.decisionlog.verifying import verify
from engine.service.audit import CONSOLE, Act, AuditLog, Fate

WHO = {"who": "ada", "by": CONSOLE, "reason": "ticket 12"}


def test_change_is_on_record_with_who_why_and_how_it_was(tmp_path: Path) -> None:
    """Before and after, under the name of who asked for it."""
    log = AuditLog(tmp_path / "audit")

    with log.change(Act.RULES_ROLLBACK, **WHO, before={"rules": "new"}) as told:
        told.after["rules"] = "old"

    (change,) = log.changes()
    assert (change.asked.who, change.asked.reason, change.asked.act) == ("ada", "ticket 12", "rules.rollback")
    assert (change.fate, change.before, change.after) == (Fate.DONE, {"rules": "new"}, {"rules": "old"})


def test_refused_change_says_why(tmp_path: Path) -> None:
    """What could not be done is on record, and its error goes on to who asked."""
    log = AuditLog(tmp_path / "audit")

    with pytest.raises(ValueError, match="no such version"), log.change(Act.RULES_ACTIVATE, **WHO):
        raise ValueError("no such version")

    (change,) = log.changes()
    assert (change.fate, change.ended.cause) == (Fate.REFUSED, "no such version")


def test_change_whose_process_died_is_not_said_to_be_done(tmp_path: Path) -> None:
    """Its beginning is on the platter; what became of it, nobody can say."""
    log = AuditLog(tmp_path / "audit")

    class Killed(BaseException):
        """Takes a process as a signal would: nothing of ours catches it."""

    with pytest.raises(Killed), log.change(Act.MODELS_PROMOTE, **WHO):
        raise Killed

    assert [change.fate for change in log.changes()] == [Fate.BEGUN]


def test_nothing_changes_where_nobody_can_be_held_to_account(tmp_path: Path) -> None:
    """A log that cannot be written refuses the change before it is made."""
    (tmp_path / "audit").write_text("a file in its place")
    done = []

    with (
        pytest.raises(LogUnavailable),
        AuditLog(tmp_path / "audit").change(Act.CUSTOMER_ERASE, **WHO),
    ):
        done.append("erased")

    assert done == []


def test_latest_change_comes_first_and_the_log_verifies(tmp_path: Path) -> None:
    """Changes are told from the last one on; chain and checkpoints prove that all are there."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", "audit", key=b"")
    log = AuditLog(tmp_path / "audit", checkpoints)
    for act in (Act.RULES_PUBLISH, Act.RULES_ACTIVATE):
        with log.change(act, **WHO):
            pass

    found = verify(tmp_path / "audit", checkpoints)

    assert [change.asked.act for change in log.changes()] == [Act.RULES_ACTIVATE, Act.RULES_PUBLISH]
    assert (found.is_whole, found.records) == (True, 4)


def test_log_taken_away_is_found_missing(tmp_path: Path) -> None:
    """Who removes a change to hide it is told on by the checkpoints."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", "audit", key=b"")
    log = AuditLog(tmp_path / "audit", checkpoints)
    for act in (Act.RULES_PUBLISH, Act.RULES_ACTIVATE):
        with log.change(act, **WHO):
            pass
    min((tmp_path / "audit").glob("*.seg")).unlink()

    found = verify(tmp_path / "audit", checkpoints)

    assert not found.is_whole
