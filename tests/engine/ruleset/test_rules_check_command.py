"""`arbiter rules check` on the command line: formats, exit codes, and one instant."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from engine.cli.rules import app

ROOT = Path(__file__).parents[3]
RULE = """
  - id: {id}
    class: suitability
    applies_to: {{}}
    when: {when}
    effect: deny
    reason: REQUEST_FIRST
    state: active
"""


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """A copy of the demo's rules."""
    return Path(shutil.copytree(ROOT / "rules", tmp_path / "rules"))


def _check(rules: Path, *arguments: str) -> Result:
    registry = str(ROOT / "model_registry")
    return CliRunner().invoke(app, ["check", "--rules", str(rules), "--registry", registry, *arguments])


def _add(rules: Path, when: str) -> None:
    pack = rules / "business" / "service.yaml"
    pack.write_text(
        pack.read_text(encoding="utf-8") + RULE.format(id="service.extra", when=when), encoding="utf-8"
    )


def test_the_demo_rules_are_fine(rules: Path) -> None:
    """Without a finding the command says how much it read, and ends with 0."""
    result = _check(rules)

    assert (result.exit_code, ": fine: " in result.stdout) == (0, True)


def test_a_warning_is_told_and_refuses_nothing(rules: Path) -> None:
    """A rule that never holds is a warning; the set is still fine."""
    _add(rules, "features.tenure_months < 3 && features.tenure_months > 5")

    result = _check(rules)

    assert result.exit_code == 0
    assert "R601 warning: this condition is never true" in result.stdout
    assert "1 warning" in result.stdout


def test_an_error_refuses_the_set(rules: Path) -> None:
    """An unknown feature ends the command with 3."""
    _add(rules, "features.tenure_month < 3")

    result = _check(rules)

    assert result.exit_code == 3
    assert "did you mean `tenure_months`?" in result.stdout


def test_sarif_and_json_stand_alone_on_stdout(rules: Path) -> None:
    """Tools read stdout: nothing but the document is there, for errors and warnings alike."""
    _add(rules, "features.tenure_months < 3 && features.tenure_months > 5")

    sarif = json.loads(_check(rules, "--format", "sarif").stdout)
    plain = json.loads(_check(rules, "--format", "json").stdout)
    short = json.loads(_check(rules, "--json").stdout)

    assert [r["ruleId"] for r in sarif["runs"][0]["results"]] == ["R601"]
    assert [d["code"] for d in plain] == ["R601"]
    assert short == plain


def test_as_of_notes_what_is_not_in_force(rules: Path) -> None:
    """Asked about a day after its end, an action is noted, and the set is fine."""
    result = _check(rules, "--as-of", "2027-03-01")

    assert result.exit_code == 0
    assert "the action `winter_security_bundle` is no longer in force then" in result.stdout


def test_what_is_no_date_is_a_usage_error(rules: Path) -> None:
    """A wrong option ends with 2 and says how to write it."""
    result = _check(rules, "--as-of", "tomorrow")

    assert result.exit_code == 2
    assert "2026-01-31" in result.stderr


def test_the_tables_of_the_guide_are_fine(rules: Path) -> None:
    """Every YAML example of the guide to decision tables is right beside the demo's rules."""
    guide = (ROOT / "docs" / "rules" / "decision-tables.md").read_text(encoding="utf-8")
    examples = re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)
    for i, example in enumerate(examples):
        (rules / "tables" / f"guide-{i}.yaml").write_text(example, encoding="utf-8")

    result = _check(rules)

    assert len(examples) == 2
    assert (result.exit_code, ": fine: " in result.stdout) == (0, True)
