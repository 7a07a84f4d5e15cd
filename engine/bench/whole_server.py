"""A server that is measured: a process on a core of its own, from when it listens until the block ends."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil

from engine.bench.parts import PartMissing

HOME: Final = Path(__file__).resolve().parents[2]
_STARTED_WITHIN_S: Final = 180.0
_LOOK_S: Final = 0.05
_ENDED_WITHIN_S: Final = 10.0
_TOLD: Final = 300


def cores() -> tuple[int, int]:
    """The core of servers that are measured and the core of all else; the same where there is one."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


@contextmanager
def on_cores(these: Collection[int]) -> Iterator[None]:
    """Keeps this process, and what it starts, on these cores during the block."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, these)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class MeasuredServer:
    """A process that listens on a port; its log is in a file."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        port: int,
        log: Path,
        environment: Mapping[str, str],
        on: Collection[int] = (),
    ) -> None:
        """It runs `on` these cores; by default on the one that servers are measured on."""
        self.name = name
        self._on = frozenset(on or cores()[:1])
        self.port = port
        self._command = command
        self._log = log
        ours = {key: value for key, value in os.environ.items() if not key.startswith("ARBITER_")}
        self._environment = {**ours, "PYTHONPATH": str(HOME), **environment}

    def __enter__(self) -> Self:
        """Starts it. Raises PartMissing where it does not come to listen."""
        with self._log.open("wb") as log, on_cores(self._on):
            self._process = subprocess.Popen(  # noqa: S603  # our own commands
                self._command, stdout=log, stderr=log, env=self._environment, cwd=HOME
            )
        give_up_s = time.monotonic() + _STARTED_WITHIN_S
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > give_up_s:
                self._end()
                raise PartMissing(f"the server {self.name} does not start: {self.log_end()}")
            time.sleep(_LOOK_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def cpu_s(self) -> float:
        """Processor time so far, with that of the processes it started."""
        server = psutil.Process(self.pid)
        return float(sum(sum(one.cpu_times()[:2]) for one in [server, *server.children(recursive=True)]))

    def log_end(self) -> str:
        """The end of what it wrote."""
        return self._log.read_text(encoding="utf-8", errors="replace")[-_TOLD:].strip() or "it says nothing"

    def _listens(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(_ENDED_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def module(name: str, *arguments: str, python: str = sys.executable) -> list[str]:
    """The command that runs a module of ours."""
    return [python, "-m", name, *arguments]
