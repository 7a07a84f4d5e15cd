"""`arbiter audit`: who changed the rules, and that nothing was taken out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from typer.testing import Result

Run = Callable[..., Result]


def test_changes_of_rules_are_listed_with_who_and_why(run: Run, data_dir: Path) -> None:
    """What a command changed is there with its author and reason, the latest first."""
    at = ("--data-dir", data_dir, "--author", "ada")
    run("rules", "publish", "--message", "first", *at)
    assert run("rules", "activate", "latest", "--reason", "spring", *at).exit_code == 0

    told = run("audit", "show", "--data-dir", data_dir)
    found = json.loads(run("audit", "show", "--data-dir", data_dir, "--json").stdout)

    assert (told.exit_code, "spring" in told.stdout) == (0, True)
    assert [change["act"] for change in found] == ["rules.activate", "rules.publish"]
    assert (found[0]["who"], found[0]["by"], found[0]["fate"]) == ("ada", "command", "done")
    assert found[0]["before"] == {"rules": "the rules folder"}


def test_changes_can_be_narrowed(run: Run, data_dir: Path) -> None:
    """To a person, to a kind of change, to so many."""
    for author in ("ada", "ben"):
        run("rules", "publish", "--message", "m", "--data-dir", data_dir, "--author", author)

    shown = ("audit", "show", "--data-dir", data_dir, "--json")

    assert [c["who"] for c in json.loads(run(*shown, "--who", "ben").stdout)] == ["ben"]
    assert json.loads(run(*shown, "--act", "models").stdout) == []
    assert len(json.loads(run(*shown, "--act", "rules", "--limit", "1").stdout)) == 1


def test_erasure_is_on_record_without_the_customer(run: Run, data_dir: Path) -> None:
    """The entry leads to the register of the erased, and names nobody."""
    erased = ("customer", "erase", "C0007", "--yes", "--reason", "asked", "--actor", "dpo:1")
    assert run(*erased, "--data-dir", data_dir).exit_code == 0

    listed = run("audit", "show", "--data-dir", data_dir, "--json").stdout

    assert "C0007" not in listed
    assert (json.loads(listed)[0]["act"], json.loads(listed)[0]["who"]) == ("customer.erase", "dpo:1")
    assert json.loads(listed)[0]["after"]["register"]


def test_verify_proves_the_log(run: Run, data_dir: Path) -> None:
    """Whole as it is; with nothing to check it says so."""
    nothing = run("audit", "verify", "--data-dir", data_dir)
    run("rules", "publish", "--message", "m", "--data-dir", data_dir)

    assert nothing.exit_code == 3
    assert run("audit", "verify", "--data-dir", data_dir).exit_code == 0
    assert "nothing" not in run("audit", "show", "--data-dir", data_dir).stdout
