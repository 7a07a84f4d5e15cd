"""The demo company, some of its customers as cases, and its rules compiled with one edit or none."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from engine import logs
from engine.bootstrap import wall_clock_ms
from engine.core.snapshot import Snapshot
from engine.publishing import named_set
from engine.service.impact import Case, demo_cases
from engine.settings import Settings
from engine.snapshots import compile_snapshot
from feature_store.embedded import open_embedded

REPOSITORY = Path(__file__).resolve().parents[3]
CUSTOMERS = 600


@pytest.fixture(autouse=True)
def _no_log_setup(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in this process: their log set-up, which holds on to the runner's stream, is left out."""
    monkeypatch.setattr(logs, "configure", lambda level: None)


@pytest.fixture(scope="session")
def diff_settings(demo_company: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a data directory with the demo company, which tests only read."""
    return Settings(data_dir=Path(shutil.copytree(demo_company, tmp_path_factory.mktemp("company") / "data")))


@pytest.fixture(scope="session")
def demo_snapshot(diff_settings: Settings) -> Snapshot:
    """The demo's rules as they are."""
    named = named_set(diff_settings, str(REPOSITORY / "rules"))
    return compile_snapshot(named.archived, diff_settings.registry)


@pytest.fixture(scope="session")
def demo_cast(diff_settings: Settings, demo_snapshot: Snapshot) -> list[Case]:
    """Some hundred customers, each on one channel."""
    store = open_embedded(diff_settings.data_dir / "store")
    try:
        names = [name for _, name in zip(range(CUSTOMERS), store.customers(), strict=False)]
        states = [state for name in names if (state := store.read(name)) is not None]
    finally:
        store.close()
    channels = tuple(demo_snapshot.rulebook.vocabulary.channels)
    return list(demo_cases(states, channels=channels, language="en", now_ms=wall_clock_ms()))


@pytest.fixture
def rules_edited(tmp_path: Path) -> Callable[[str, str, str], Path]:
    """Makes a copy of the demo rules with one edit: file, text before, text after."""

    def copy(file: str, before: str, after: str) -> Path:
        folder = tmp_path / "edited"
        if not folder.exists():
            shutil.copytree(REPOSITORY / "rules", folder)
        text = (folder / file).read_text(encoding="utf-8")
        assert before in text
        (folder / file).write_text(text.replace(before, after, 1), encoding="utf-8")
        return folder

    return copy
