"""Shared by the tests of events: the demo company's rules, and an application with customers of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from arbiter_at_work import settings_for
from eventful_company import CUSTOMERS, create_customers

from engine.bootstrap import Application, open_application, wall_clock_ms


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    """An application on an embedded store; tests of a module share it and use customers of their own."""
    with open_application(settings_for(tmp_path_factory.mktemp("events") / "data")) as application:
        create_customers(application.store, application.live.current.schema, wall_clock_ms())
        application.events.refresh_all(CUSTOMERS)
        yield application


@pytest.fixture
def letters_dir(tmp_path: Path) -> Path:
    """A folder for dead letters."""
    return tmp_path / "dead-letters"
