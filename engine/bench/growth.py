"""How the cost of a decision grows: with candidates, rules, features, customers, and worker processes.

One thing grows at a time, all else stays as in the company of `make bench ONLY=whole`. A decision is timed
from the request's bytes to the reply's, in this process and on the embedded store; points take turns, and
each point's best turn counts. `exponent` is how cost grows from one point to the next: 0 not at all, 1 in
proportion. More than CLIFF is a cliff. Workers are processes of a real server, which has all cores; the load
has them, too.

A propensity model knows 100 targets at most, so the last points of candidates add rules and arbitration, not
scores. Each of more rules holds more rarely, so that about as much is said in the reply. Of many customers
all have features, and those who are asked about have consents and contacts.
"""

from __future__ import annotations

import gc
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from engine._pb.arbiter.v1 import decision_service_pb2
from engine.api import reading
from engine.api.replies import decide_reply
from engine.bench.growth_page import growth_page
from engine.bench.growth_points import Point, exponents
from engine.bench.parts import Disagreement
from engine.bench.timing import percentile
from engine.bench.whole_company import write_company
from engine.bench.whole_customers import customer_id, fill
from engine.bench.whole_load import replies
from engine.bench.whole_server import cores
from engine.bench.whole_shape import STANDARD, Company, Size
from engine.bench.whole_sides import Asked, arbiter, asked_for, decide_request, load_on
from engine.bootstrap import Application, open_application, wall_clock_ms
from engine.settings import Settings
from engine.stores import open_store

Figures = dict[str, float]
CLIFF: Final = 1.15
"""Exponent from which cost grows faster than what it is of, beyond what measuring is out by."""
_CHANNELS: Final = 16
"""Connections are dealt to workers by chance; of many each gets about as many."""


@dataclass(frozen=True, slots=True)
class Work:
    """What is measured: the sizes of each dimension, customers asked about, and turns of each point."""

    candidates: Sequence[int] = (10, 30, 100, 300, 1_000)
    rules: Sequence[int] = (50, 150, 500, 1_500, 5_000)
    features: Sequence[int] = (20, 40, 100, 250, 500)
    customers: Sequence[int] = (1_000, 10_000, 100_000, 1_000_000)
    workers: Sequence[int] = (1, 2)
    trees: int = STANDARD.trees
    asked: int = 60
    turns: int = 5
    seconds: float = 4.0
    page: Path = Path("build/growth.html")


DEFAULT: Final = Work()
QUICK: Final = Work(
    candidates=(10, 100),
    rules=(50, 500),
    features=(20, 80),
    customers=(1_000, 20_000),
    trees=50,
    turns=2,
    asked=30,
    seconds=1.0,
)


def measure(work: Work = DEFAULT) -> Figures:
    """All figures, and a page of them. Raises PartMissing, and Disagreement."""
    points: list[Point] = []
    with tempfile.TemporaryDirectory(prefix="bench-growth-") as folder:
        usual = write_company(Path(folder) / "usual", _size(work, STANDARD))
        for name in ("candidates", "rules", "features", "customers"):
            points += _grown(name, getattr(work, name), usual, work)
        points += _workers(usual, work)
    work.page.parent.mkdir(parents=True, exist_ok=True)
    work.page.write_text(growth_page(points, cliff=CLIFF).html(), encoding="utf-8")
    sys.stderr.write(f"{work.page} shows it\n")
    return figures(points)


def _size(work: Work, size: Size) -> Size:
    return replace(size, trees=work.trees, customers=max(size.customers // 2, work.asked))


def _grown(name: str, sizes: Sequence[int], usual: Company, work: Work) -> list[Point]:
    """The points of one dimension, which take turns."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"bench-growth-{name}-")))
        asked = [
            stack.enter_context(_decider(folder / str(value), _one_grown(name, value, usual), usual, work))
            for value in sizes
        ]
        gc.collect()
        gc.freeze()
        stack.callback(gc.unfreeze)
        turns = [[ask() for ask in asked] for _ in range(work.turns)]
    return [
        _best(name, value, of_point) for value, of_point in zip(sizes, zip(*turns, strict=True), strict=True)
    ]


def _one_grown(name: str, value: int, usual: Company) -> Size:
    grown: Size = replace(usual.size, **{name: value})
    return grown


def _best(name: str, value: int, turns: Sequence[Point]) -> Point:
    """Each figure that of its best turn: other work on the machine makes a turn slower, never faster."""
    return Point(
        name,
        value,
        cpu_us=min(turn.cpu_us for turn in turns),
        p50_ms=min(turn.p50_ms for turn in turns),
        p99_ms=min(turn.p99_ms for turn in turns),
    )


@contextmanager
def _decider(folder: Path, size: Size, usual: Company, work: Work) -> Iterator[Callable[[], Point]]:
    """A function that decides for every customer asked about, once, and says what it took."""
    same = size.targets == usual.size.targets and size.features == usual.size.features
    company = write_company(folder, size, like=usual if same else None)
    names = _filled(company, company.settings(), work.asked)
    with open_application(company.settings()) as application:
        requests = [decide_request(name).SerializeToString() for name in names]
        _check(application, requests, company)
        yield lambda: _turn(application, requests)


def _filled(company: Company, settings: Settings, asked: int) -> list[str]:
    """Fills the company's store; customers all over it, who are asked about."""
    settings.data_dir.mkdir()
    step = company.size.customers // asked
    numbers = range(0, step * asked, step)
    store = open_store(settings)
    try:
        fill(store, company, now_ms=wall_clock_ms(), met=numbers)
    finally:
        store.close()
    return [customer_id(number) for number in numbers]


def _check(application: Application, requests: Sequence[bytes], company: Company) -> None:
    """Warms up, and raises Disagreement where a decision is not whole."""
    for request in requests:
        reply = decision_service_pb2.DecideResponse.FromString(_decided(application, request))
        if reply.degraded_by or len(reply.actions) + len(reply.suppressed) != company.size.candidates:
            raise Disagreement(f"a decision with {company.size} is not whole: {reply.degraded_by}")


def _decided(application: Application, request: bytes) -> bytes:
    """A decision as the server makes it."""
    query = reading.decision_query(decision_service_pb2.DecideRequest.FromString(request))
    answer = application.decisions.decide(query)
    return decide_reply(answer.record, answer.snapshot)


def _turn(application: Application, requests: Sequence[bytes]) -> Point:
    took_ms = []
    started_s = time.thread_time()
    for request in requests:
        before_s = time.perf_counter()
        _decided(application, request)
        took_ms.append((time.perf_counter() - before_s) * 1e3)
    used_s = time.thread_time() - started_s
    return Point("", 0, used_s / len(requests) * 1e6, percentile(took_ms, 50), percentile(took_ms, 99))


def _workers(usual: Company, work: Work) -> list[Point]:
    """Requests a second of a real server with so many workers."""
    settings = usual.settings()
    asked = asked_for(_filled(usual, settings, work.asked))
    return [_of_server(count, asked, settings, work) for count in work.workers]


def _of_server(count: int, asked: Asked, settings: Settings, work: Work) -> Point:
    with arbiter("growth", settings, workers=count, on=cores()) as server:
        load = load_on(server, asked, channels=_CHANNELS)
        replies(load, under_way=_CHANNELS, seconds=work.seconds / 2)
        before_s = server.cpu_s()
        answered = replies(load, under_way=_CHANNELS, seconds=work.seconds)
        used_us = (server.cpu_s() - before_s) / answered.count * 1e6
    return Point("workers", count, cpu_us=used_us, per_s=answered.per_s)


def figures(points: Sequence[Point]) -> Figures:
    """The steepest exponent of each dimension and of all first; then every point."""
    grown = dict.fromkeys(point.name for point in points if not point.per_s)
    steepest = {name: max(exponents(points, name)) for name in grown}
    return {
        "growth_steepest_exponent": max(steepest.values()),
        "growth_cliffs": float(sum(value > CLIFF for value in steepest.values())),
        **{f"growth_{name}_exponent": value for name, value in steepest.items()},
        **{key: value for point in points for key, value in _told(point)},
    }


def _told(point: Point) -> Iterator[tuple[str, float]]:
    yield f"growth_{point.name}_{point.size}_cpu_us", point.cpu_us
    if point.per_s:
        yield f"growth_{point.name}_{point.size}_per_s", point.per_s
    else:
        yield f"growth_{point.name}_{point.size}_p50_ms", point.p50_ms
        yield f"growth_{point.name}_{point.size}_p99_ms", point.p99_ms
