"""The whole job beside what it stands on and what it replaces: five servers in one run, asked in turns.

- `empty`: the same gRPC stack with a handler that does nothing.
- `skeleton`: the same stack with what nobody who scores can do without: one MGET of Redis, one run of the
  propensity model on 20 rows, a reply that was made before.
- `whole`, `whole_lmdb`: Arbiter as `arbiter serve` runs it, on Redis and on its own store: 30 candidates,
  50 rules, two models of 200 trees, exact reasons, consents, contact policies, a logged decision. Replies are
  looked at, also under load.
- `parts`: the same decisions by a stack of well-known parts, over HTTP, whose answers must agree.

Servers have one core, in turns; load, Redis and all else have the other. The most that a server answers is
that of a closed loop; latencies are of an open loop at half of that, from when each call was due. Figures are
medians of rounds, ratios those of one round's neighbours.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from engine.bench.parts import Disagreement
from engine.bench.whole_checks import Answer, Response, check_same, check_whole
from engine.bench.whole_company import write_company
from engine.bench.whole_customers import customer_id
from engine.bench.whole_load import Latencies, Load, Throughput, latencies, replies
from engine.bench.whole_server import MeasuredServer, cores, on_cores
from engine.bench.whole_shape import STANDARD, Company, Size
from engine.bench.whole_sides import (
    EMPTY,
    LIMIT,
    PARTS,
    SKELETON,
    WHOLE,
    WHOLE_LMDB,
    all_sides,
    asked_for,
    load_on,
)

Figures = dict[str, float]
_MOST_REFUSED: Final = 0.01
_PERCENTS: Final = {"p50": 50.0, "p99": 99.0, "p999": 99.9}


@dataclass(frozen=True, slots=True)
class Work:
    """How much is measured. `checked` customers are compared between sides.

    `under_way` calls at once are twice as many as a server has threads, so that it always has more to do;
    with the benchmark's wait of 1 s it refuses none of them.
    """

    size: Size = STANDARD
    rounds: int = 5
    seconds: float = 4.0
    warm_up_s: float = 1.0
    latency_rounds: int = 3
    latency_seconds: float = 8.0
    under_way: int = 4
    asked: int = 500
    checked: int = 100
    with_parts: bool = True


DEFAULT: Final = Work()
QUICK: Final = Work(
    size=Size(customers=400),
    rounds=2,
    seconds=1.0,
    warm_up_s=0.3,
    latency_rounds=1,
    latency_seconds=2.0,
    asked=150,
    checked=20,
)


@dataclass(frozen=True, slots=True)
class Most:
    """What a server answered in one round of a closed loop: calls a second, processor time of each."""

    per_s: float
    cpu_us: float


def measure(work: Work = DEFAULT) -> Figures:
    """All figures. Raises PartMissing, and Disagreement."""
    with tempfile.TemporaryDirectory(prefix="bench-whole-") as folder, on_cores(cores()[1:]):
        company = write_company(Path(folder), work.size)
        with all_sides(company, _reply, with_parts=work.with_parts) as sides:
            names = _whole_answers(sides[WHOLE_LMDB], company, work)
            _compare(sides, names[: work.checked])
            loads = {name: load_on(side, asked_for(names)) for name, side in sides.items()}
            most = _most(sides, loads, company, work)
            waits = _waits(loads, company, most, work)
    return figures(most, waits)


def _reply(side: MeasuredServer) -> bytes:
    """What a server says for the first customer that gets everything."""
    for number in range(100):
        reply = _answers(side, [customer_id(number)])[0]
        if len(Response.FromString(reply).actions) == LIMIT:
            return reply
    raise Disagreement("of a hundred customers nobody gets as many actions as were asked for")


def _answers(side: MeasuredServer, names: Sequence[str]) -> list[bytes]:
    """One reply for each customer, one after the other."""
    load = load_on(side, asked_for(names))
    found = []
    for request in load.requests:
        with closing(load.connect()) as connection:  # of a connection's replies the first is kept
            connection.send(request)
            while not connection.ended():
                pass
            found += connection.samples
    return found


def _whole_answers(side: MeasuredServer, company: Company, work: Work) -> list[str]:
    """Customers who get as many actions as they ask for: who gets fewer has less explained."""
    names = [customer_id(number) for number in range(company.size.customers)]
    kept = [
        name
        for name, reply in zip(names, _answers(side, names), strict=True)
        if len(Response.FromString(reply).actions) == LIMIT
    ]
    if len(kept) < work.checked:
        raise Disagreement(f"only {len(kept)} of {len(names)} customers get {LIMIT} actions")
    return kept[: work.asked]


def _compare(sides: Mapping[str, MeasuredServer], names: Sequence[str]) -> None:
    """Raises Disagreement unless both stores, and the stack of parts, decide the same for each customer."""
    expected = _answers(sides[WHOLE], names)
    others = {WHOLE_LMDB: Answer.of_arbiter, PARTS: Answer.of_parts}
    for other, read in others.items():
        if other in sides:
            for name, ours, theirs in zip(names, expected, _answers(sides[other], names), strict=True):
                check_same(name, Answer.of_arbiter(ours), read(theirs))


def _most(
    sides: Mapping[str, MeasuredServer], loads: Mapping[str, Load], company: Company, work: Work
) -> dict[str, list[Most]]:
    """Rounds of a closed loop, each side in turns; the first, shorter, warms up."""
    found: dict[str, list[Most]] = {name: [] for name in sides}
    for load in loads.values():
        replies(load, under_way=work.under_way, seconds=work.warm_up_s)
    for _ in range(work.rounds):
        for name, side in sides.items():
            found[name].append(_round(side, loads[name], company, work))
    return found


def _round(side: MeasuredServer, load: Load, company: Company, work: Work) -> Most:
    before_s = side.cpu_s()
    answered = replies(load, under_way=work.under_way, seconds=work.seconds)
    used_s = side.cpu_s() - before_s
    _look_at(side.name, answered, company)
    return Most(answered.per_s, used_s / answered.count * 1e6)


def _look_at(side: str, answered: Throughput | Latencies, company: Company) -> None:
    """Raises Disagreement where calls were refused, or answered with less than the whole job."""
    if answered.refused > _MOST_REFUSED * answered.count:
        raise Disagreement(
            f"the server {side} refused {answered.refused} calls and answered {answered.count}: what it can "
            "do cannot be told; try again on a machine with nothing else to do"
        )
    if side in (WHOLE, WHOLE_LMDB):
        check_whole(answered.samples, candidates=company.size.candidates)


def _waits(
    loads: Mapping[str, Load], company: Company, most: Mapping[str, Sequence[Most]], work: Work
) -> dict[str, list[Latencies]]:
    """Rounds of an open loop at half of what each side can do, in turns."""
    found: dict[str, list[Latencies]] = {name: [] for name in loads}
    for number in range(work.latency_rounds):
        for name, load in loads.items():
            rate = statistics.median(one.per_s for one in most[name]) / 2
            took = latencies(load, rate=rate, seconds=work.latency_seconds, seed=number)
            _look_at(name, took, company)
            found[name].append(took)
    return found


def figures(most: Mapping[str, Sequence[Most]], waits: Mapping[str, Sequence[Latencies]]) -> Figures:
    """Ratios first: of requests a second, then of latencies; then the figures of each side."""
    per_s = {name: [one.per_s for one in rounds] for name, rounds in most.items()}
    half = {name: _percentiles(rounds) for name, rounds in waits.items()}
    return {
        **_ratios(per_s),
        **_ratios_by_cpu(most),
        "p99_over_p50": half[WHOLE]["p99"] / half[WHOLE]["p50"],
        "p99_over_p50_lmdb": half[WHOLE_LMDB]["p99"] / half[WHOLE_LMDB]["p50"],
        **{f"{name}_per_s": statistics.median(rounds) for name, rounds in per_s.items()},
        **{f"{name}_cpu_us": statistics.median(one.cpu_us for one in most[name]) for name in most},
        **{f"{name}_{what}_ms": ms for name, found in half.items() for what, ms in found.items()},
        "whole_lag_p99_ms": max(float(np.percentile(one.lag_ms, 99)) for one in waits[WHOLE]),
    }


def _ratios(per_s: Mapping[str, Sequence[float]]) -> Figures:
    """Arbiter's requests a second over those of the others, neighbours of one round compared."""
    return {
        f"whole_over_{other}{store}": statistics.median(
            ours / theirs for ours, theirs in zip(per_s[side], per_s[other], strict=True)
        )
        for other in (SKELETON, PARTS, EMPTY)
        if other in per_s
        for side, store in ((WHOLE, ""), (WHOLE_LMDB, "_lmdb"))
    }


def _ratios_by_cpu(most: Mapping[str, Sequence[Most]]) -> Figures:
    """The same by the processor time of a call, which other work on the machine changes least."""
    used = {name: statistics.median(one.cpu_us for one in rounds) for name, rounds in most.items()}
    return {
        f"whole_over_{other}_by_cpu": used[other] / used[WHOLE]
        for other in (SKELETON, PARTS, EMPTY)
        if other in used
    }


def _percentiles(rounds: Sequence[Latencies]) -> Figures:
    """The median of the rounds' percentiles."""
    return {
        name: statistics.median(float(np.percentile(one.took_ms, percent)) for one in rounds)
        for name, percent in _PERCENTS.items()
    }
