"""The guide's commands, on IBM's Telco customers: as good as honest models of this data, and calibrated."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from engine import logs
from engine.cli.app import app
from model_registry import open_alias
from model_registry.manifest import Manifest
from training.cli import app as training_app
from training.own.plan import TrainingPlan

ROOT = Path(__file__).resolve().parents[3]
GUIDE = (ROOT / "docs/training.md").read_text(encoding="utf-8")
_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
_PROGRAMS = {"arbiter": (app, 1), "python": (training_app, 3)}


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder in which every command of the guide was run, in order, and what each printed."""
    folder = tmp_path_factory.mktemp("guide")
    shutil.copytree(ROOT / "training/examples", folder / "training/examples")
    printed = {}
    with pytest.MonkeyPatch.context() as here:
        here.chdir(folder)
        here.setattr(logs, "configure", lambda _level: None)  # it would write to a test's closed stream
        for command in (line for block in _BLOCK.findall(GUIDE) for line in block.splitlines()):
            words = shlex.split(command)
            program, skipped = _PROGRAMS[words[0]]
            result = CliRunner().invoke(program, words[skipped:])
            assert result.exit_code == 0, f"{command}\n{result.output}"
            printed[command] = result.stdout
    return folder, printed


@pytest.fixture(scope="module")
def manifest(walked: tuple[Path, dict[str, str]]) -> Manifest:
    """What the champion of the guide says of itself."""
    return open_alias(walked[0] / "build/registry", "churn").manifest


def test_churn_is_ranked_as_well_as_it_can_be(manifest: Manifest) -> None:
    """At least 0.843 in five folds, and no worse than the logistic regression on the same folds."""
    metrics = manifest.metrics

    assert 0.843 <= metrics["cv_auc"] <= 0.86
    assert metrics["cv_auc"] > metrics["baseline_cv_auc"] > 0.84


def test_churn_is_promised_as_often_as_it_comes(manifest: Manifest) -> None:
    """Expected calibration error of at most 0.03, on the test rows and across the folds."""
    assert manifest.metrics["ece_test"] <= 0.03
    assert manifest.metrics["cv_ece"] <= 0.03


def test_the_guide_tells_the_figures_that_its_commands_print(manifest: Manifest) -> None:
    """Rounded as they stand there."""
    told = " ".join(GUIDE.split())
    metrics = manifest.metrics

    assert f"({metrics['cv_auc']:.3f} and {metrics['baseline_cv_auc']:.3f} here)" in told
    assert f"({metrics['ece_test']:.3f} on the test rows, {metrics['cv_ece']:.3f} across folds)" in told


def test_the_guide_tells_the_figures_of_uplift_and_value(walked: tuple[Path, dict[str, str]]) -> None:
    """Of the tables drawn from a known truth, rounded as they stand there."""
    told = " ".join(GUIDE.split())
    registry = walked[0] / "build/registry"
    uplift = open_alias(registry, "discount_uplift", "challenger").manifest.metrics
    value = open_alias(registry, "yearly_value", "challenger").manifest.metrics

    interval = f"{uplift['qini_test_low']:.3f} to {uplift['qini_test_high']:.3f}"
    assert (
        f"{uplift['qini_test']:.3f} ({interval}), {uplift['qini_response_test']:.3f} of the response" in told
    )
    assert f"is {value['gini_test']:.3f} ({value['baseline_gini_test']:.3f} of the regression)" in told
    assert f"predicted total {value['total_ratio_test']:.2f} of the actual one" in told


def test_the_guide_feeds_the_model_as_the_run_says(walked: tuple[Path, dict[str, str]]) -> None:
    """The load of the guide is the one that the run prints."""
    run = next(text for command, text in walked[1].items() if "--report" in command)
    feeding = re.search(r"feed it: (.*)", run)

    assert feeding is not None
    (load,) = (command for command in walked[1] if "store load" in command)
    assert load.replace("--data-dir build/telco/data ", "") == feeding[1]


def test_the_guide_names_every_part_of_a_plan() -> None:
    """Also those with defaults."""
    parts = {field.alias or name for name, field in TrainingPlan.model_fields.items()}

    assert {part for part in parts - {"apiVersion", "kind"} if f"`{part}`" not in GUIDE} == set()
