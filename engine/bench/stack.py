"""Threads or asyncio: the real handler behind each way to serve gRPC, on one core, in turns.

Requests are bytes that were made before, sent from another core at little cost (`whole_load`). Of each way:
replies a second and processor time a reply with 16 calls under way, replies a second with 192 (far above what
it can answer at once), and latencies at half of the rate that the slowest way reaches, open loop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np

from engine._pb.arbiter.v1 import decision_service_pb2
from engine.bench.whole_company import write_company
from engine.bench.whole_customers import customer_id, fill
from engine.bench.whole_load import Load, latencies, replies
from engine.bench.whole_server import MeasuredServer, cores, free_port, module, on_cores
from engine.bench.whole_shape import Company, Size
from engine.bench.whole_wire import GrpcConnection
from engine.bootstrap import wall_clock_ms
from engine.stores import open_store

_CONNECTIONS: Final = 4
_UNDER_WAY: Final = 16
_CROWD: Final = 192
_SEED: Final = 20261122
_NS_A_US: Final = 1e3


@dataclass(frozen=True, slots=True)
class Way:
    """One way to serve; `switch_ms` is the interpreter's switch interval, 5 unless set."""

    kind: str
    threads: int = 1
    switch_ms: float = 5.0


WAYS: Final[Mapping[str, Way]] = {
    "threads_1": Way("threads", 1),
    "threads_2": Way("threads", 2),
    "threads_4": Way("threads", 4),
    "threads_8": Way("threads", 8),
    "threads_4_switch_half_ms": Way("threads", 4, 0.5),
    "threads_4_switch_20_ms": Way("threads", 4, 20.0),
    "aio": Way("aio"),
    "aio_pool_2": Way("aio_pool", 2),
}


@dataclass(frozen=True, slots=True)
class Work:
    """How much is measured. Each way has its turn `turns` times; the best counts."""

    size: Size = field(default_factory=lambda: Size(customers=500, trees=50))
    turns: int = 3
    seconds: float = 1.0


@dataclass(slots=True)
class _Best:
    """The best of a way's turns."""

    per_s: float = 0.0
    crowded_per_s: float = 0.0
    cpu_us: float = float("inf")
    p50_ms: float = float("inf")
    p99_ms: float = float("inf")

    def answered(self, server: MeasuredServer, load: Load, seconds: float) -> None:
        """One turn of a closed loop, and one with a crowd that waits."""
        before_us = _processor_us(server.pid)
        found = replies(load, under_way=_UNDER_WAY, seconds=seconds)
        used_us = (_processor_us(server.pid) - before_us) / found.count
        crowded = replies(load, under_way=_CROWD, seconds=seconds)
        self.per_s = max(self.per_s, found.per_s)
        self.cpu_us = min(self.cpu_us, used_us)
        self.crowded_per_s = max(self.crowded_per_s, crowded.per_s)

    def waited(self, load: Load, *, rate: float, seconds: float, seed: int) -> None:
        """One turn of an open loop."""
        took_ms = latencies(load, rate=rate, seconds=seconds, seed=seed).took_ms
        p50, p99 = np.percentile(took_ms, (50, 99))
        self.p50_ms, self.p99_ms = min(self.p50_ms, float(p50)), min(self.p99_ms, float(p99))


def measure(work: Work | None = None, ways: Mapping[str, Way] = WAYS) -> dict[str, float]:
    """Figures of every way; the ratio is of processor time a reply, asyncio's over that of four threads."""
    work = work or Work()
    with TemporaryDirectory() as folder, ExitStack() as stack:
        company = _written(Path(folder), work.size)
        requests = _requests(work.size.customers)
        stack.enter_context(on_cores(cores()[1:]))
        servers = {name: stack.enter_context(_server(name, way, company)) for name, way in ways.items()}
        loads = {
            name: Load(partial(GrpcConnection, server.port), _CONNECTIONS, requests)
            for name, server in servers.items()
        }
        found = _in_turns(servers, loads, work)
    figures = {
        f"stack_{name}_{figure}": getattr(best, figure)
        for name, best in found.items()
        for figure in ("per_s", "crowded_per_s", "cpu_us", "p50_ms", "p99_ms")
    }
    if {"aio", "threads_4"} <= found.keys():
        figures["aio_over_threads_cpu"] = found["aio"].cpu_us / found["threads_4"].cpu_us
    return figures


def _processor_us(process: int) -> float:
    """Processor time of its threads so far, finer than the clock's ticks."""
    threads = Path(f"/proc/{process}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / _NS_A_US


def _written(folder: Path, size: Size) -> Company:
    company = write_company(folder, size)
    settings = company.settings()
    settings.data_dir.mkdir(parents=True)
    store = open_store(settings, patient=True)
    try:
        fill(store, company, now_ms=wall_clock_ms())
    finally:
        store.close()
    return company


def _requests(customers: int) -> list[bytes]:
    requests = []
    for number in range(customers):
        request = decision_service_pb2.DecideRequest(
            customer_id=customer_id(number), channel="web", placement="account_banner", limit=3
        )
        request.context["page"].string_value = "/billing"
        requests.append(request.SerializeToString())
    return requests


def _server(name: str, way: Way, company: Company) -> MeasuredServer:
    port = free_port()
    told = (str(port), str(company.folder), way.kind, str(way.threads), str(way.switch_ms))
    command = module("engine.bench.stack_server", *told)
    return MeasuredServer(name, command, port=port, log=company.folder / f"{name}.log", environment={})


def _in_turns(
    servers: Mapping[str, MeasuredServer], loads: Mapping[str, Load], work: Work
) -> Mapping[str, _Best]:
    found = {name: _Best() for name in servers}
    for load in loads.values():
        replies(load, under_way=_UNDER_WAY, seconds=work.seconds)  # warms up
    for _ in range(work.turns):
        for name, best in found.items():
            best.answered(servers[name], loads[name], work.seconds)
    rate = min(best.per_s for best in found.values()) / 2
    for turn in range(work.turns):
        for name, best in found.items():
            best.waited(loads[name], rate=rate, seconds=work.seconds, seed=_SEED + turn)
    return found


def table(figures: Mapping[str, float], ways: Sequence[str] = tuple(WAYS)) -> str:
    """The figures as docs/adr/0031 shows them."""
    head = (
        "| way | replies/s | with 192 waiting | processor us | p50 ms | p99 ms |\n|---|---|---|---|---|---|\n"
    )
    rows = (
        f"| {way} | {figures[f'stack_{way}_per_s']:.0f} | {figures[f'stack_{way}_crowded_per_s']:.0f} "
        f"| {figures[f'stack_{way}_cpu_us']:.0f} | {figures[f'stack_{way}_p50_ms']:.2f} "
        f"| {figures[f'stack_{way}_p99_ms']:.2f} |\n"
        for way in ways
    )
    return head + "".join(rows)


if __name__ == "__main__":
    print(table(measure()), end="")  # a table to read
