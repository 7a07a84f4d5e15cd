"""`arbiter rules publish`, `activate`, `rollback`, `shadow` and `history` from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from engine.cli.rules import app

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs `arbiter rules` on a data directory of the test's own."""

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--data-dir", str(tmp_path / "data")])

    return invoke


def history(run: Run) -> dict[str, Any]:
    """What `arbiter rules history --json` says."""
    document: dict[str, Any] = json.loads(run("history", "--json").stdout)
    return document


def publish(run: Run, folder: Path, message: str = "m") -> str:
    """Publishes a folder and says its version."""
    done = run("publish", "--rules", str(folder), "--message", message, "--author", "ada", "--json")
    assert done.exit_code == 0, done.output
    rules: str = json.loads(done.stdout)["rules"]
    return rules


def test_without_an_active_version_history_says_that_the_folder_serves(run: Run) -> None:
    """As it did before anybody published."""
    told = run("history")

    assert told.exit_code == 0
    assert "serving the folder" in told.stdout
    assert (history(run)["serving"], history(run)["versions"]) == ("folder", [])


def test_publish_activate_and_roll_back(run: Run, rules_with: Callable[[float], Path]) -> None:
    """The whole way, with the history of it."""
    low, high = publish(run, rules_with(0.5), "first"), publish(run, rules_with(3.0), "a higher bar")

    activated = run("activate", low[7:15], "--reason", "start")
    latest = run("activate", "latest", "--reason", "Q3 policy")
    back = run("rollback", "--reason", "too few offers")

    assert [step.exit_code for step in (activated, latest, back)] == [0, 0, 0]
    assert f"rolled back to {low[7:19]} (before: {high[7:19]})" in back.stdout
    document = history(run)
    assert (low, "version") == (document["current"], document["serving"])
    assert [version["message"] for version in document["versions"]] == ["first", "a higher bar"]
    assert [c["reason"] for c in document["changes"]] == ["start", "Q3 policy", "too few offers"]
    assert "a higher bar" in run("history").stdout


def test_publishing_the_same_files_again_says_so(run: Run, rules_with: Callable[[float], Path]) -> None:
    """The version stays the one of the first author."""
    folder = rules_with(0.5)
    publish(run, folder)

    again = run("publish", "--rules", str(folder), "--message", "again", "--author", "bob")

    assert again.exit_code == 0
    assert "published already" in again.stdout
    assert "ada" in again.stdout


def test_a_bad_set_is_refused_with_every_problem(run: Run, rules_with: Callable[[float], Path]) -> None:
    """Nothing is published, and the author sees all of it at once."""
    folder = rules_with(0.5)
    pack = folder / "business" / "care.yaml"
    text = pack.read_text(encoding="utf-8").replace("tenure_months", "tenur_months")
    pack.write_text(text, encoding="utf-8")
    (folder / "arbitration.yaml").write_text("threshold: [", encoding="utf-8")

    refused = run("publish", "--rules", str(folder), "--message", "m")

    assert refused.exit_code == 3
    assert text.count("tenur_months") <= refused.stderr.count("business/care.yaml:")
    assert "arbitration.yaml" in refused.stderr
    assert history(run)["versions"] == []


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("activate", "abcd"), "no published version"),
        (("activate", "latest"), "nothing is published"),
        (("rollback",), "no version served before"),
        (("shadow", "abcd"), "no published version"),
    ],
)
def test_what_cannot_be_done_is_said_with_what_to_do(run: Run, command: tuple[str, ...], words: str) -> None:
    """Exit code 3, the cause and a command that helps, and no trace in the history."""
    refused = run(*command)

    assert refused.exit_code == 3
    assert words in " ".join(refused.stderr.split())
    assert history(run)["changes"] == []


def test_a_shadow_version_is_set_and_taken_off(run: Run, rules_with: Callable[[float], Path]) -> None:
    """The version that serves stays the same."""
    low, high = publish(run, rules_with(0.5)), publish(run, rules_with(3.0))
    run("activate", low)

    run("shadow", high[7:])
    shadowed = history(run)
    run("shadow", "off")

    assert (low, high) == (shadowed["current"], shadowed["shadow"])
    assert (low, None) == (history(run)["current"], history(run)["shadow"])
