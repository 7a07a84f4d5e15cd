"""Stores of both kinds for tests of reservations and budgets."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from contact_company import open_store
from redis_at_work import RedisServer

from feature_store.store import OnlineStore

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def contact_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis server for these tests."""
    server = RedisServer(tmp_path_factory.mktemp("contact-redis"))
    yield server
    server.kill()


@pytest.fixture(params=["embedded", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a new store is, of each kind: a folder, or a server's URL and a prefix of its own."""
    if request.param == "embedded":
        return str(tmp_path / "store")
    server: RedisServer = request.getfixturevalue("contact_redis")
    return f"{server.url}#contact{next(_numbers)}"


@pytest.fixture
def store(place: str) -> Iterator[OnlineStore]:
    """A new store of each kind."""
    opened = open_store(place)
    yield opened
    opened.close()
