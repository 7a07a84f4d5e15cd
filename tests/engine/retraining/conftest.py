"""A company with a history, made once and copied for each test that changes it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import retrained_company as retrained
import structlog

from engine import logs


@pytest.fixture(scope="session")
def history(tmp_path_factory: pytest.TempPathFactory) -> retrained.Place:
    """Nobody changes it."""
    return retrained.make_place(tmp_path_factory.mktemp("history"))


@pytest.fixture
def place(history: retrained.Place, tmp_path: Path) -> retrained.Place:
    """A copy of the test's own."""
    source = history.settings.data_dir.parent
    shutil.copytree(source, tmp_path, dirs_exist_ok=True)
    return history.at(tmp_path)


@pytest.fixture(autouse=True)
def quiet_logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands must not set up the logging of this process."""
    before = structlog.get_config()
    monkeypatch.setattr(logs, "configure", lambda _level: None)
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory(), cache_logger_on_first_use=False)
    yield
    structlog.configure(**before)
