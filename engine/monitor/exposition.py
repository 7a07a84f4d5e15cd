"""Where Prometheus reads the metrics: an HTTP endpoint of one process, for one or several that count.

Several processes keep their values in files of a folder in memory, which their supervisor adds up. The
folder is new for each server; what a killed server left behind is removed by the next one.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.multiprocess import (
    MultiProcessCollector,
    mark_process_dead,
)

from engine.monitor.metrics import MODELS_INFO, RULES_INFO

_FOLDER_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
"""Names the folder to the library, which reads it when it is imported."""
_IN_MEMORY: Final = Path("/dev/shm")  # noqa: S108  # a folder of one's own is made in it
_PREFIX: Final = "arbiter-metrics-"
_LOCK: Final = "lock"


class Collected(Protocol):
    """Something that gives metrics when they are read."""

    def collect(self) -> Iterable[Metric]:
        """The metrics with their values of now."""
        ...


@dataclass(frozen=True, slots=True)
class Together:
    """The metrics of several, one after the other."""

    parts: tuple[Collected, ...]

    def collect(self) -> Iterator[Metric]:
        """The metrics of each."""
        for part in self.parts:
            yield from part.collect()


@dataclass(frozen=True, slots=True)
class _LiveVersions:
    """Metrics without the versions that no longer serve, whose 0 must stay in the files."""

    counted: Collected

    def collect(self) -> Iterator[Metric]:
        for metric in self.counted.collect():
            if metric.name in (RULES_INFO, MODELS_INFO):
                metric.samples = [sample for sample in metric.samples if sample.value]
            yield metric


@contextmanager
def exposed(counted: Collected, *, host: str, port: int) -> Iterator[int]:
    """Serves metrics over HTTP in a thread while the block runs; gives the port. Raises OSError."""
    registry = CollectorRegistry()
    registry.register(_LiveVersions(counted))
    server, thread = start_http_server(port, addr=host, registry=registry)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def shared_values() -> Iterator[SharedValues]:
    """A folder for the values of processes that are started in the block. Raises OSError."""
    parent = _IN_MEMORY if os.access(_IN_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    _remove_left_behind(parent)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    before = os.environ.get(_FOLDER_VARIABLE)
    try:
        with (folder / _LOCK).open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            os.environ[_FOLDER_VARIABLE] = str(folder)
            yield SharedValues(folder)
    finally:
        os.environ.pop(_FOLDER_VARIABLE, None)
        if before is not None:
            os.environ[_FOLDER_VARIABLE] = before
        shutil.rmtree(folder, ignore_errors=True)


def _remove_left_behind(parent: Path) -> None:
    """Removes folders whose server has died; the lock of a living one cannot be had."""
    for lock_file in parent.glob(f"{_PREFIX}*/{_LOCK}"):
        with suppress(OSError), lock_file.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock_file.parent, ignore_errors=True)


@dataclass(slots=True, eq=False)
class SharedValues:
    """The values of all processes of a server, added up when they are read."""

    folder: Path
    ended: int = 0

    def collect(self) -> Iterator[Metric]:
        """The metrics of the processes together, and how many have ended."""
        values = MultiProcessCollector(None, path=str(self.folder))  # type: ignore[no-untyped-call]  # the library's
        yield from values.collect()  # type: ignore[no-untyped-call]  # as above
        yield CounterMetricFamily("arbiter_workers_ended", "Server processes that ended.", value=self.ended)

    def forget(self, pid: int) -> None:
        """A process has ended: what it served no longer counts, what it counted does."""
        self.ended += 1
        mark_process_dead(pid, path=str(self.folder))  # type: ignore[no-untyped-call]  # as above
