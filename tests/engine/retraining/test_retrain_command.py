"""`arbiter retrain` as a person, or cron, gives it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import retrained_company as retrained
from arbiter_at_work import REPOSITORY
from retrained_company import MODEL, Place, churn_document, count_hour, plan_document, write_plan
from typer.testing import CliRunner, Result

from engine.cli.app import app
from model_registry import open_version
from model_registry.aliases import read_aliases

Run = Callable[..., Result]
UNTIL = "2024-11-03"


@pytest.fixture
def retrain(place: Place, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command on the place, with a plan."""
    for name in [name for name in os.environ if name.startswith("ARBITER_")]:
        monkeypatch.delenv(name)

    def invoke(document: dict[str, object], *options: str) -> Result:
        path = write_plan(place.settings.data_dir.parent, document)
        where = ("--data-dir", str(place.settings.data_dir), "--registry", str(place.registry))
        return CliRunner().invoke(app, ["retrain", str(path), *where, *options])

    return invoke


def test_a_challenger_comes_with_what_to_do_next(retrain: Run, place: Place) -> None:
    """The exact commands; and again, that nothing is new."""
    first = retrain(plan_document(), "--until", UNTIL)
    again = retrain(plan_document(), "--until", UNTIL, "--json")

    assert first.exit_code == 0, first.output
    assert f"{MODEL}/2 is challenger" in first.stdout
    assert f"arbiter models rollout start {MODEL} 2 --reason 'retrained in run" in first.stdout
    assert f"arbiter models promote {MODEL} 2 --reason" in first.stdout
    told = json.loads(again.stdout)
    assert (told["again"], told["version"], told["promoted"]) == (True, 2, False)
    assert read_aliases(place.registry, MODEL).aliases["champion"] == 1


def test_a_dry_run_shows_rows_and_writes_nothing(retrain: Run, place: Place) -> None:
    """Rows, what was left out and why, the split; no folder of runs, no version."""
    shown = retrain(plan_document(), "--until", UNTIL, "--dry-run")
    told = retrain(plan_document(), "--until", UNTIL, "--dry-run", "--json")

    assert shown.exit_code == 0, shown.output
    assert "actions without a propensity target in the catalogue" in shown.stdout
    assert json.loads(told.stdout)["table"]["rows"] > 500
    assert not place.runs.exists()
    assert not (place.registry / MODEL / "2").exists()


def test_the_window_is_that_of_the_options(retrain: Run) -> None:
    """Half of the days, fewer rows; and what lies before the log is refused for want of outcomes."""
    whole, half = (
        json.loads(retrain(plan_document(), "--until", UNTIL, "--dry-run", "--json", *since).stdout)
        for since in ((), ("--since", "2024-10-09"))
    )
    before = retrain(plan_document(), "--until", "2024-01-01")

    assert half["table"]["rows"] < whole["table"]["rows"]
    assert before.exit_code == 4
    assert "0 answers (accepted or declined) in 0 rows" in before.stderr


def test_labels_do_not_look_into_the_next_part(retrain: Run) -> None:
    """By time, rows whose horizon reaches into what is tested are left out."""
    by_time = plan_document(split={"by": "time"}, task={"kind": "propensity", "horizon_days": 1})

    result = retrain(by_time, "--until", UNTIL, "--dry-run")

    assert result.exit_code == 0, result.output
    assert "rows left out whose labels look into the next part" in result.stdout


def test_the_future_is_not_known(retrain: Run) -> None:
    """An end that lies ahead is now: windows that are open are not taken for closed."""
    result = retrain(
        plan_document(decisions={"window_days": 3000, "min_outcomes": 1}),
        "--until", "2999-01-01", "--dry-run", "--json",
    )  # fmt: skip

    assert result.exit_code == 0, result.output
    assert "2999" not in result.stdout


def test_wrong_plans_are_told_by_line(retrain: Run) -> None:
    """Like rule files."""
    result = retrain(plan_document(horizon=3))

    assert result.exit_code == 3
    assert "retrain.yaml:" in result.stderr
    assert "horizon" in result.stderr


def test_without_a_plan_or_a_file_nothing_runs(tmp_path: Path) -> None:
    """Usage and a missing file are told apart."""
    assert CliRunner().invoke(app, ["retrain"]).exit_code == 2
    assert CliRunner().invoke(app, ["retrain", str(tmp_path / "none.yaml")]).exit_code == 3


def test_the_committed_schema_is_that_of_the_plan() -> None:
    """`arbiter retrain --print-schema` writes it."""
    committed = REPOSITORY / "training/schema/retraining-plan.json"

    printed = CliRunner().invoke(app, ["retrain", "--print-schema"]).stdout

    assert printed == committed.read_text(encoding="utf-8")


def test_without_drift_nothing_is_retrained(retrain: Run, place: Place) -> None:
    """Customers as in training are no reason, nor is a company that counted nothing; both end well."""
    nothing = retrain(churn_document(place), "--if-drift")
    count_hour(place, drifted=False)
    calm = retrain(churn_document(place), "--if-drift", "--json")

    assert (nothing.exit_code, calm.exit_code) == (0, 0), calm.output
    assert "churn: no drift since" in nothing.stdout
    assert json.loads(calm.stdout)["drift"] == []
    assert not place.runs.exists()


def test_drift_of_the_champion_is_a_reason(retrain: Run, place: Place) -> None:
    """It is named, and the run goes on: here to show its rows."""
    count_hour(place, drifted=True)

    result = retrain(churn_document(place), "--if-drift", "--until", UNTIL, "--dry-run", "--json")

    assert result.exit_code == 0, result.output
    assert "paperless_billing" in result.stderr
    table = json.loads(result.stdout)["table"]
    assert 0 < table["positives"] < table["rows"] <= len(place.records)


@pytest.mark.slow
def test_a_churn_model_is_retrained_too(retrain: Run, place: Place) -> None:
    """From who left, as the company's file says."""
    (place.registry / "churn" / "gates.toml").write_text(retrained.LENIENT)

    result = retrain(churn_document(place), "--until", UNTIL)

    assert result.exit_code == 0, result.output
    assert open_version(place.registry, "churn", 2).manifest.kind == "churn"


_KILLED_AT_A_STEP = """
import os, signal, sys
sys.path[:0] = sys.argv[3:]
from pathlib import Path
import retrained_company as retrained

def told(step):
    if step == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)

folder = Path(sys.argv[1])
settings = retrained.Settings(data_dir=folder / "data", registry=folder / "registry")
if __name__ == "__main__":
    retrained.run(retrained.Place(settings, ()), told)
"""


@pytest.mark.slow
@pytest.mark.parametrize("step", ["table", "train", "register"])
def test_a_process_that_is_killed_leaves_a_run_to_go_on_with(place: Place, step: str) -> None:
    """SIGKILL, then the same run: one version, one challenger."""
    folder = place.settings.data_dir.parent
    paths = [str(REPOSITORY), str(REPOSITORY / "tests"), str(Path(__file__).parent)]

    killed = subprocess.run(
        [sys.executable, "-c", _KILLED_AT_A_STEP, str(folder), step, *paths],
        cwd=REPOSITORY, capture_output=True, check=False,
    )  # fmt: skip
    result = retrained.run(place)

    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert (result.version, result.again) == (2, False)
    assert not (place.registry / MODEL / "3").exists()


def test_the_plan_of_the_guide_is_a_plan(tmp_path: Path) -> None:
    """What docs/retraining.md shows is read as it stands: only a company's logs are missing."""
    guide = (REPOSITORY / "docs/retraining.md").read_text(encoding="utf-8")
    path = tmp_path / "guide.yaml"
    path.write_text(guide.partition("```yaml\n")[2].partition("```")[0], encoding="utf-8")

    result = CliRunner().invoke(app, ["retrain", str(path), "--data-dir", str(tmp_path / "none")])

    assert result.exit_code == 3
    assert "holds no data of Arbiter" in result.stderr
