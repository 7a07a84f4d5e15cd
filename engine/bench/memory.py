"""What a worker's memory does in a million calls: how large it gets, and whether it goes on growing.

A server of the demo company gets the traffic of `loadtest/profiles/company.yaml`: all channels, contexts and
most customers, over connections that are opened anew every few seconds. Its memory is read at the start and
every hundred thousand calls. RSS counts what the process shares, such as the pages of the store that it has
looked at; USS is what would be free if it ended. Growth is the slope of USS after the first tenth, by least
squares.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import psutil

from engine.bench.whole_load import Load, replies
from engine.bench.whole_server import MeasuredServer, cores, free_port, module, on_cores
from engine.bench.whole_wire import GrpcConnection
from engine.demo.company import load_company
from engine.settings import Settings
from loadtest.profiles import DEFAULT as PROFILE
from loadtest.profiles import load_profile, requests_of

Figures = dict[str, float]
_MB: Final = 1e6
_REQUESTS: Final = 50_000
_CHANNELS: Final = 4
_UNDER_WAY: Final = 4
_SPELL_S: Final = 5.0
_WARM: Final = 0.1
"""Share of the calls after which everything that is kept once has been met."""


@dataclass(frozen=True, slots=True)
class Work:
    """How many calls, and after how many memory is read."""

    calls: int = 1_000_000
    every: int = 100_000
    spell_s: float = _SPELL_S


DEFAULT: Final = Work()
QUICK: Final = Work(calls=10_000, every=1_000, spell_s=1.0)


@dataclass(frozen=True, slots=True)
class Reading:
    """Memory of the worker after so many calls, in bytes."""

    calls: int
    rss: int
    uss: int


def measure(work: Work = DEFAULT) -> Figures:
    """All figures; each reading is told as it is made. Raises PartMissing."""
    with ExitStack() as stack:
        stack.enter_context(on_cores(cores()[1:]))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-memory-")))
        server = stack.enter_context(_demo(folder))
        load = Load(partial(GrpcConnection, server.port), _CHANNELS, _requests())
        return figures(list(_readings(server, load, work)))


def _demo(folder: Path) -> MeasuredServer:
    """A server of the demo company, which another process has loaded."""
    data_dir, port = folder / "data", free_port()
    data_dir.mkdir()
    load_company(Settings(data_dir=data_dir))
    return MeasuredServer(
        "demo",
        module("engine", "serve", "--port", str(port)),
        port=port,
        log=folder / "server.log",
        environment={"ARBITER_DATA_DIR": str(data_dir)},
    )


def _requests() -> list[bytes]:
    profile, folder = load_profile(PROFILE)
    return requests_of(profile, folder, count=_REQUESTS, rng=np.random.default_rng(1))


def _readings(server: MeasuredServer, load: Load, work: Work) -> Iterator[Reading]:
    """The start, and after every so many calls."""
    calls = 0
    yield _reading(server, calls)
    while calls < work.calls:
        due = (calls // work.every + 1) * work.every
        while calls < due:
            calls += replies(load, under_way=_UNDER_WAY, seconds=work.spell_s).count
        yield _reading(server, calls)


def _reading(server: MeasuredServer, calls: int) -> Reading:
    memory = psutil.Process(server.pid).memory_full_info()
    sys.stderr.write(f"{calls:9,} calls: {memory.rss / _MB:6.1f} MB RSS, {memory.uss / _MB:6.1f} MB USS\n")
    return Reading(calls, memory.rss, memory.uss)


def figures(readings: Sequence[Reading]) -> Figures:
    """Start, warm and end; growth in bytes of a call."""
    start, end = readings[0], readings[-1]
    warm = [reading for reading in readings if reading.calls >= _WARM * end.calls]
    return {
        "memory_bytes_per_call": _slope(warm),
        "memory_end_rss_mb": end.rss / _MB,
        "memory_end_uss_mb": end.uss / _MB,
        "memory_warm_rss_mb": warm[0].rss / _MB,
        "memory_warm_uss_mb": warm[0].uss / _MB,
        "memory_start_rss_mb": start.rss / _MB,
        "memory_start_uss_mb": start.uss / _MB,
        "memory_largest_step_mb": max((b.uss - a.uss) / _MB for a, b in pairwise(readings)),
        "memory_calls": float(end.calls),
    }


def _slope(readings: Sequence[Reading]) -> float:
    """Bytes of USS that a call adds; 0 where there is one reading."""
    if len(readings) < 2:
        return 0.0
    calls = np.array([reading.calls for reading in readings], dtype=np.float64)
    uss = np.array([reading.uss for reading in readings], dtype=np.float64)
    return float(np.polyfit(calls - calls[0], uss, 1)[0])
