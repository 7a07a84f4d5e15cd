"""`arbiter rules`, `models`, `settings` and `version`: what files and environment say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from arbiter_at_work import REPOSITORY, copied_registry, copied_rules
from typer.testing import Result

from engine.release import engine_version
from engine.settings import Settings

Run = Callable[..., Result]


def test_the_demo_rules_are_fine(run: Run) -> None:
    """A whole rule set ends with 0 and says what is in it."""
    told = run("rules", "check")
    document = run("rules", "check", "--json")

    assert (told.exit_code, document.exit_code) == (0, 0)
    assert "fine: 32 actions" in told.stdout
    assert json.loads(document.stdout) == []


def test_all_problems_are_reported_at_once(run: Run, tmp_path: Path) -> None:
    """Problems of several files, each with its place, and their number."""
    rules = copied_rules(tmp_path)
    (rules / "arbitration.yaml").write_text("threshold: [")
    (rules / "more.yaml").write_text("apiVersion: arbiter/v1\nkind: Nonsense\n")

    told = run("rules", "check", "--rules", rules)
    document = run("rules", "check", "--rules", rules, "--json")

    problems = json.loads(document.stdout)
    assert (told.exit_code, document.exit_code, document.stderr) == (3, 3, "")
    assert {"arbitration.yaml", "more.yaml"} <= {problem["file"] for problem in problems}
    assert "arbitration.yaml:1:" in told.stdout
    wrong = [problem for problem in problems if problem["severity"] == "error"]
    assert f"{len(wrong)} errors" in told.stdout
    assert told.stdout.rstrip().endswith(f"in {rules}")


def test_a_missing_rules_folder_is_an_error(run: Run, tmp_path: Path) -> None:
    """The folder is named."""
    result = run("rules", "check", "--rules", tmp_path / "none")

    assert result.exit_code == 3
    assert "there is no such folder" in result.stdout


def test_models_are_listed(run: Run) -> None:
    """Names, versions, aliases and the champion's figures."""
    told = run("models", "list")
    document = run("models", "list", "--json")

    listed = {row["name"]: row for row in json.loads(document.stdout)}
    assert (told.exit_code, document.exit_code, document.stderr) == (0, 0, "")
    assert listed["churn"]["aliases"]["champion"] in listed["churn"]["versions"]
    assert "auc_test" in listed["churn"]["metrics"]
    assert "propensity" in told.stdout


def test_published_models_are_intact(run: Run) -> None:
    """Files match their digests and golden rows reproduce here."""
    result = run("models", "verify")

    assert (result.exit_code, result.stderr) == (0, "")
    assert "churn/1: fine" in result.stdout


def test_a_damaged_model_ends_with_3(run: Run, tmp_path: Path) -> None:
    """The damaged file is named; the other model is checked all the same."""
    registry = copied_registry(tmp_path)
    with (registry / "churn" / "1" / "model.onnx").open("ab") as file:
        file.write(b"x")

    result = run("models", "verify", "--registry", registry, "--json")

    problems = {row["model"]: row["problems"] for row in json.loads(result.stdout)}
    assert result.exit_code == 3
    assert "model.onnx" in problems["churn"][0]
    assert problems["propensity"] == []


def test_a_registry_without_models_is_not_fine(run: Run, tmp_path: Path) -> None:
    """Nothing to verify is a wrong folder, not a success."""
    result = run("models", "verify", "--registry", tmp_path)

    assert result.exit_code == 3
    assert "no published model" in result.stderr


@pytest.mark.parametrize("command", ["list", "verify"])
def test_a_missing_registry_ends_with_3(run: Run, tmp_path: Path, command: str) -> None:
    """The folder is named on stderr."""
    result = run("models", command, "--registry", tmp_path / "none")

    assert (result.exit_code, result.stdout) == (3, "")
    assert str(tmp_path / "none") in result.stderr


def test_settings_say_where_each_value_comes_from(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options beat the environment, the environment beats defaults."""
    monkeypatch.setenv("ARBITER_THREADS", "7")
    monkeypatch.setenv("ARBITER_RULES", "elsewhere")

    document = run("settings", "--rules", REPOSITORY / "rules", "--json")
    told = run("settings")

    rows = {row["name"]: row for row in json.loads(document.stdout)}
    assert list(rows) == [f"ARBITER_{name.upper()}" for name in Settings.model_fields]
    assert (rows["ARBITER_THREADS"]["value"], rows["ARBITER_THREADS"]["from"]) == (7, "environment")
    assert rows["ARBITER_RULES"]["from"] == "option"
    assert rows["ARBITER_PORT"]["from"] == "default"
    assert "ARBITER_THREADS = 7" in told.stdout


@pytest.mark.parametrize(
    ("name", "value"), [("ARBITER_PROT", "1"), ("ARBITER_PORT", "many"), ("ARBITER_LOG_LEVEL", "loud")]
)
def test_a_wrong_environment_ends_with_3(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """The variable is named."""
    monkeypatch.setenv(name, value)

    result = run("settings", "--json")

    assert (result.exit_code, result.stdout) == (3, "")
    assert name in result.stderr


def test_version_is_the_package_s(run: Run) -> None:
    """One line, for scripts."""
    result = run("version")

    assert result.stdout == f"{engine_version()}\n"
