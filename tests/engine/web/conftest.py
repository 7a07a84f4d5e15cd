"""The app over HTTP in this process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from engine.bootstrap import Application
from engine.web.app import create_app


@pytest.fixture(scope="session")
def browser(application: Application) -> Iterator[TestClient]:
    """Asks the app as something on this machine would."""
    with TestClient(create_app(application), base_url="http://localhost") as client:
        yield client
