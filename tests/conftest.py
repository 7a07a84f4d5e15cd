"""The demo company, a server over it in this process, and customers of one's own."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from arbiter_at_work import DemoCompany, RunningServer, connect, settings_for
from redis_at_work import own_redis, redis_server, shared_redis

from engine.bootstrap import Application, build_server, open_application
from engine.client import ArbiterClient
from engine.demo.company import load_company

__all__ = ["own_redis", "redis_server", "shared_redis"]

_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def log_as_imported() -> Iterator[None]:
    """Ends what a test, or a command in it, has configured of the log: another would look for its lines."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def demo_company(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with the demo company that nobody opens; tests copy it."""
    data_dir = tmp_path_factory.mktemp("company") / "data"
    data_dir.mkdir()
    load_company(settings_for(data_dir))
    return data_dir


@pytest.fixture(scope="session")
def application(demo_company: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    """An application over a copy of the demo company, shared by tests that use customers of their own."""
    data_dir = tmp_path_factory.mktemp("shared") / "data"
    shutil.copytree(demo_company, data_dir)
    with open_application(settings_for(data_dir)) as opened:
        yield opened


@pytest.fixture(scope="session")
def server_port(application: Application) -> Iterator[int]:
    """Port of a gRPC server in this process over `application`."""
    server = build_server(application, reuse_port=False)
    server.start()
    yield server.port
    server.drain(1.0)


@pytest.fixture(scope="session")
def arbiter(server_port: int) -> Iterator[ArbiterClient]:
    """A client of that server, over a real channel."""
    with connect(f"localhost:{server_port}", timeout_s=30.0) as remote:
        yield remote


@pytest.fixture
def like(application: Application) -> Callable[[str], str]:
    """Makes a customer of one's own with the features and consents of a demo customer; gives its id."""

    def make(model: str) -> str:
        customer_id = f"T{next(_numbers):04d}"
        DemoCompany(application.store).copy_customer(model, customer_id)
        return customer_id

    return make


@pytest.fixture
def data_dir(demo_company: Path, tmp_path: Path) -> Path:
    """A copy of the demo company of the test's own."""
    copy = tmp_path / "data"
    shutil.copytree(demo_company, copy)
    return copy


@pytest.fixture
def start_server(data_dir: Path) -> Iterator[Callable[..., RunningServer]]:
    """Starts `arbiter serve` in processes of its own; all are killed when the test ends."""
    started: list[RunningServer] = []

    def start(*options: str, ready: bool = True, **environment: str) -> RunningServer:
        server = RunningServer(data_dir, options, environment)
        started.append(server)
        if ready:
            server.wait_until_serving()
        return server

    yield start
    for server in started:
        server.kill()
