"""The guide to versions: every command in it runs, in its order, on a company that has rules in git."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from engine import publishing
from engine.bootstrap import open_application
from engine.cli.rules import app
from engine.service.requests import DecisionQuery
from engine.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[3]
GUIDE = REPOSITORY / "docs" / "rules" / "versions.md"
TAKES_RULES = {"diff", "publish", "history"}


def commands() -> list[list[str]]:
    """What the guide types, without `arbiter rules`."""
    lines = GUIDE.read_text(encoding="utf-8").splitlines()
    typed = [shlex.split(line.removeprefix("$ ")) for line in lines if line.startswith("$ ")]
    assert all(words[:2] == ["arbiter", "rules"] for words in typed)
    return [words[2:] for words in typed]


@pytest.fixture
def at_work(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Rules in git with a version active, an edit, and a decision; the options that name them."""
    rules = Path(shutil.copytree(REPOSITORY / "rules", tmp_path / "work" / "rules"))
    git = ["git", "-C", str(rules.parent), "-c", "user.name=Ada", "-c", "user.email=ada@example.com"]
    for arguments in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "rules"]):
        subprocess.run([*git, *arguments], check=True)
    settings = Settings(data_dir=data_dir, rules=rules)
    version, _ = publishing.publish(settings, author="ada", message="first")
    publishing.activate(settings, version.rules, author="ada", reason="")
    with open_application(Settings(data_dir=data_dir)) as application:
        application.decisions.decide(
            DecisionQuery(customer_id="C0131", channel="web", placement="", context={})
        )
    pack = rules / "business" / "care.yaml"
    pack.write_text(pack.read_text(encoding="utf-8").replace("share: 0.5", "share: 0.25"), encoding="utf-8")
    monkeypatch.chdir(rules.parent)
    return ["--data-dir", str(data_dir), "--rules", str(rules)]


def test_every_command_of_the_guide_runs(at_work: list[str]) -> None:
    """And does what the guide says: the history at the end names its messages and reasons."""
    ran = []
    for words in commands():
        options = at_work if words[0] in TAKES_RULES else at_work[:2]
        fewer = ["--customers", "50"] if words[0] == "diff" else []
        done = CliRunner().invoke(app, [*words, *options, *fewer])
        assert done.exit_code == 0, (words, done.output)
        ran.append(words[0])

    assert {"diff", "publish", "activate", "rollback", "history", "shadow"} == set(ran)
    told = CliRunner().invoke(app, ["history", "--json", *at_work]).stdout
    for words in ("Retention offers from 0.55 up", "Approved by the retention board", "A week's trial"):
        assert words in told
