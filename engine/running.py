"""The servers of a data directory: where each listens, since when, and where its metrics are."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from engine.processes import ProcessStates
from engine.release import engine_version
from engine.settings import Settings

_FOLDER: Final = "servers"
_log = structlog.get_logger("engine.running")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningServer:
    """A server by the process that was started; `metrics` is HOST:PORT, "" where they are off."""

    pid: int
    address: str
    metrics: str
    workers: int
    started_ms: int
    engine: str


def running_servers(data_dir: Path) -> ProcessStates[RunningServer]:
    """What servers of a data directory say of themselves."""
    return ProcessStates(data_dir / _FOLDER, RunningServer)


@contextmanager
def announced(settings: Settings, *, port: int, metrics: str) -> Iterator[None]:
    """Says where this server is while the block runs, for `arbiter status`; that it cannot is no obstacle."""
    servers, pid = running_servers(settings.data_dir), os.getpid()
    try:
        servers.tell(
            RunningServer(
                pid=pid,
                address=f"{settings.host}:{port}",
                metrics=metrics,
                workers=settings.workers,
                started_ms=time.time_ns() // 1_000_000,
                engine=engine_version(),
            )
        )
    except OSError as error:
        _log.warning("server.not_announced", cause=error.strerror)
    try:
        yield
    finally:
        servers.forget(pid)
