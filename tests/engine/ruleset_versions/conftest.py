"""A data directory with the demo company, and copies of its rules to change."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from engine import logs

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _no_log_setup(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in this process: their log set-up, which holds on to the runner's stream, is left out."""
    monkeypatch.setattr(logs, "configure", lambda level: None)


@pytest.fixture
def data_dir(demo_company: Path, tmp_path: Path) -> Path:
    """A data directory of the test's own, with the demo company and nothing published."""
    return Path(shutil.copytree(demo_company, tmp_path / "data", ignore=shutil.ignore_patterns("rulesets")))


@pytest.fixture
def rules_with(tmp_path: Path) -> Callable[[float], Path]:
    """Makes a copy of the demo rules with another threshold of doing nothing."""

    def copy(threshold: float) -> Path:
        folder = tmp_path / f"rules-{threshold:g}"
        shutil.copytree(REPOSITORY / "rules", folder)
        path = folder / "arbitration.yaml"
        lines = path.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if not line.startswith("threshold:")]
        path.write_text("\n".join([*kept, f"threshold: {threshold:.1f}"]) + "\n", encoding="utf-8")
        return folder

    return copy
