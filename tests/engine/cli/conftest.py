"""The command line in this process, on a demo company of its own, and in processes of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from arbiter_at_work import REPOSITORY
from typer.testing import CliRunner, Result

from engine import logs
from engine.cli.app import app

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def quiet_logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands must not set up the logging of this process: it would write to a test's closed stream."""
    before = structlog.get_config()
    monkeypatch.setattr(logs, "configure", lambda _level: None)
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory(), cache_logger_on_first_use=False)
    yield
    structlog.configure(**before)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `arbiter` in this process and gives exit code, stdout and stderr."""
    for name in [name for name in os.environ if name.startswith("ARBITER_")]:
        monkeypatch.delenv(name)

    def invoke(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(a) for a in arguments])

    return invoke


@pytest.fixture(scope="session")
def own_company(demo_company: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the demo company for --local, which no server of this process has open."""
    copy = tmp_path_factory.mktemp("own") / "data"
    shutil.copytree(demo_company, copy)
    return copy


# As in a terminal: where the tests run in the background, their children would ignore Ctrl-C. Said in the
# child's own Python: code between fork and exec aborts now and then, as gRPC's threads run here.
_HEARING_INTERRUPTS = (
    "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "runpy.run_module('engine', run_name='__main__', alter_sys=True)"
)


@pytest.fixture
def start_arbiter() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `arbiter` in a process of its own; what is still alive when the test ends is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("ARBITER_")}
        process = subprocess.Popen(
            [sys.executable, "-c", _HEARING_INTERRUPTS, *map(str, arguments)],
            env=clean | environment,
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
