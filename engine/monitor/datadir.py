"""What a data directory holds and what room is left, looked at when Prometheus asks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.metrics_core import GaugeMetricFamily


@dataclass(frozen=True, slots=True)
class LogFiles:
    """The files of one log, without what lies in folders below."""

    files: int
    bytes: int


def log_files(folder: Path) -> LogFiles:
    """What a log's folder holds now; nothing where there is none."""
    sizes: list[int] = []
    try:
        with os.scandir(folder) as entries:
            sizes += [entry.stat().st_size for entry in entries if entry.is_file()]
    except OSError:
        return LogFiles(len(sizes), sum(sizes))
    return LogFiles(len(sizes), sum(sizes))


def last_change_s(path: Path) -> float | None:
    """When a file was last written, in seconds since the epoch; None where there is none."""
    try:
        return path.stat().st_mtime
    except OSError:
        return None


@dataclass(frozen=True, slots=True)
class Disk:
    """The file system below a folder, in bytes."""

    free: int
    size: int


def disk_of(folder: Path) -> Disk | None:
    """Room for who is not root; None where the folder cannot be asked."""
    try:
        told = os.statvfs(folder)
    except OSError:
        return None
    return Disk(told.f_bavail * told.f_frsize, told.f_blocks * told.f_frsize)


@dataclass(frozen=True, slots=True, eq=False)
class DataDirectory:
    """Logs by name with their folders, and the files of their checkpoints, as Prometheus reads them."""

    folder: Path
    logs: Mapping[str, Path]
    checkpoints: Mapping[str, Path]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Sizes of logs, times of checkpoints, room on the disk."""
        logs = [(name, float(log_files(folder).bytes)) for name, folder in self.logs.items()]
        yield _family("arbiter_log_bytes", "Bytes of a log on the disk.", logs)
        noted = [(name, last_change_s(path)) for name, path in self.checkpoints.items()]
        yield _family(
            "arbiter_last_checkpoint_time_seconds",
            "When the heads of a log were last noted outside it, in seconds since the epoch.",
            [(name, at_s) for name, at_s in noted if at_s is not None],
        )
        disk = disk_of(self.folder)
        if disk is not None:
            yield GaugeMetricFamily("arbiter_disk_free_bytes", "Room left for logs.", value=disk.free)
            yield GaugeMetricFamily("arbiter_disk_size_bytes", "Size of their disk.", value=disk.size)


def _family(name: str, told: str, values: Sequence[tuple[str, float]]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, told, labels=("log",))
    for log, value in values:
        family.add_metric((log,), value)
    return family
