"""A company with models of its own to publish, promote and roll out, and customers enough to compare arms."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from arbiter_at_work import copied_registry, settings_for

from engine.bootstrap import Application, open_application
from engine.settings import Settings


@pytest.fixture
def settings(demo_company: Path, tmp_path: Path) -> Settings:
    """Settings over a copy of the demo company and of its models."""
    data_dir = Path(shutil.copytree(demo_company, tmp_path / "data"))
    return settings_for(data_dir, registry=copied_registry(tmp_path))


@pytest.fixture
def registry(settings: Settings) -> Path:
    """The folder of its models."""
    assert isinstance(settings.registry, Path)
    return settings.registry


@pytest.fixture
def at_work(settings: Settings) -> Iterator[Application]:
    """An application on it; nothing follows the registry but what a test says."""
    with open_application(settings) as application:
        yield application


@pytest.fixture
def now() -> Callable[[], int]:
    """The clock."""
    from engine.bootstrap import wall_clock_ms

    return wall_clock_ms
