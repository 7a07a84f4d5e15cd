"""The process that serves HTTP beside a real server: it starts, is replaced, follows and ends with it."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from arbiter_at_work import RunningServer, copied_rules, set_threshold

Start = Callable[..., RunningServer]
ANY_PORT = "127.0.0.1:0"


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """Rules that the server serves and the test changes."""
    return copied_rules(tmp_path)


@pytest.fixture
def server(start_server: Start, rules: Path) -> RunningServer:
    """A server of one worker and the process for HTTP, both serving."""
    started = start_server("--web", ANY_PORT, "--rules", str(rules))
    started.wait_for_log("web.ready")
    return started


def logged(server: RunningServer, event: str) -> dict[str, object]:
    """The last entry of an event."""
    entries = [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]
    return [entry for entry in entries if entry["event"] == event][-1]


def asked(server: RunningServer, path: str) -> str:
    """What the process for HTTP answers."""
    port = logged(server, "web.ready")["port"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as reply:
        return str(reply.read().decode())


def pid_of_web(server: RunningServer) -> int:
    """The child that listens on the port for HTTP."""
    port = logged(server, "web.ready")["port"]
    path = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    for pid in map(int, path.read_text(encoding="utf-8").split()):
        sockets = {fd.readlink().name for fd in Path(f"/proc/{pid}/fd").iterdir()}
        if any(f"socket:[{inode}]" in sockets for inode in listening_inodes(int(str(port)))):
            return pid
    raise AssertionError(server.log)


def listening_inodes(port: int) -> set[str]:
    """Sockets that listen on a port of this machine."""
    rows = [row.split() for row in Path("/proc/net/tcp").read_text(encoding="utf-8").splitlines()[1:]]
    return {row[9] for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "0A"}


def test_process_for_http_is_kept_and_ends_with_the_server(server: RunningServer, rules: Path) -> None:
    """SIGHUP reaches it; killed, it is replaced on its port and the worker does not notice; it drains too."""
    first, port, mark = asked(server, "/readyz"), logged(server, "web.ready")["port"], server.mark

    set_threshold(rules, 12.5)
    server.send(signal.SIGHUP)
    server.wait_for_log("snapshot.reloaded", times=2, since=mark)
    second, mark = asked(server, "/readyz"), server.mark
    os.kill(pid_of_web(server), signal.SIGKILL)
    server.wait_for_log("worker.died", since=mark)
    server.wait_for_log("web.ready", since=mark)
    third = asked(server, "/readyz")
    server.send(signal.SIGTERM)

    assert server.wait() == 0
    assert first != second
    assert second == third
    assert logged(server, "web.ready")["port"] == port
    assert [server.log.count(e) for e in ("worker.died", "web.stopped", "server.stopped")] == [1, 1, 1]
