"""Customer state: the embedded store and Redis in one run, and Redis beside redis-py alone.

Both stores hold the same customers of the demo company, byte for byte, which is looked at first. They are
measured in turns, and the best turn counts: other work on the machine makes a turn slower, never faster.
This process, with all it starts, has one core and the redis-server another, where there are two.

- `redis_over_raw_mget`: a store's `read`, with checks and decoding, over redis-py's MGET of the same keys.
- decisions: whole ones of the demo's rules and models, logged, as a server makes them.
- events: batches of 500 through the service, signals included.
- load: `arbiter store load` of a CSV file of new customers, without the look through it before.
- event seen: from handing an event in to the first decision that obeys it; the next one, if all is well.
"""

from __future__ import annotations

import gc
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from engine.bench import company
from engine.bench.company import Side
from engine.bench.events import events
from engine.bench.parts import Disagreement, PartMissing
from engine.bench.raw_redis import RawRedis, raw_redis
from engine.bench.redis_process import RedisProcess
from engine.bench.timing import in_turns, per_item_us, percentile
from engine.bootstrap import wall_clock_ms
from engine.events.applying import Verdict
from engine.service.requests import DecisionQuery
from engine.settings import EMBEDDED
from feature_store import layout
from feature_store.bulk import load_table
from feature_store.errors import LoadError
from feature_store.redis.keys import DECIDED, Keys
from feature_store.state import CustomerState
from feature_store.tables import ColumnMap, open_table

Figures = dict[str, float]
_READ_TOGETHER: Final = 10
"""About half a millisecond of reads."""
_BATCH: Final = 500
_PLACES: Final = (("web", "account_banner"), ("app", "home_card"), ("call_center", "screen_pop"))
_SEEN_WITHIN_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Work:
    """How much is measured: customers with a past, turns of each store, and what a turn has of each kind."""

    customers: int = 300
    turns: int = 6
    batches: int = 3
    probes: int = 60
    loads: int = 3
    loaded: int = 25_000


DEFAULT: Final = Work()


def measure(work: Work = DEFAULT) -> Figures:
    """All figures of both stores. Raises PartMissing, and Disagreement."""
    with ExitStack() as stack:
        server = stack.enter_context(RedisProcess())
        stack.enter_context(_apart(server.pid))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-store-")))
        places = (("lmdb", EMBEDDED), ("redis", server.url))
        sides = [stack.enter_context(company.opened_side(folder / name, name, url)) for name, url in places]
        lmdb, redis = sides
        names = company.fill(lmdb, work.customers)
        company.copy(lmdb, redis, names)
        raw = stack.enter_context(raw_redis(server.url))
        stack.enter_context(_frozen())
        return {
            **_reads(sides, raw, names, work),
            **_decisions(sides, names, work),
            **_seen(sides, work),
            **_events(sides, names, work),
            **_loads(sides, folder, work),
        }


@contextmanager
def _apart(server: int) -> Iterator[None]:
    """Keeps this process on one core and the server on another, where there are two, during the block."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(server, {cores[1]})
        os.sched_setaffinity(0, {cores[0]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


@contextmanager
def _frozen() -> Iterator[None]:
    """What is loaded now does not concern the garbage collector during the block, as in a server."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _reads(sides: Sequence[Side], raw: RawRedis, names: Sequence[str], work: Work) -> Figures:
    """Microseconds of one customer, by redis-py alone and by the stores."""
    lmdb, redis = (side.application.store for side in sides)
    keys = Keys(sides[1].application.settings.store_prefix)
    keys_of = [keys.of(name, DECIDED) for name in names]
    for name, asked in zip(names, keys_of, strict=True):
        _agree(name, raw.values(asked), redis.read(name), lmdb.read(name))
    timed = partial(per_item_us, rounds=5, at_once=_READ_TOGETHER)
    raw_us, redis_us, lmdb_us = in_turns(
        lambda: timed(raw.values, keys_of),
        lambda: timed(redis.read, names),
        lambda: timed(lmdb.read, names),
        turns=work.turns,
    )
    return {
        "redis_over_raw_mget": redis_us / raw_us,
        "raw_mget_us": raw_us,
        "redis_read_us": redis_us,
        "lmdb_read_us": lmdb_us,
    }


def _agree(
    name: str, raw: Sequence[bytes | None], redis: CustomerState | None, lmdb: CustomerState | None
) -> None:
    """Raises Disagreement unless all three say the same of a customer."""
    features, consents, contacts, signals, parts = raw
    alone = features and layout.decode_state(name, features, consents, contacts, signals, parts)
    if not alone or not _facts(alone) == _facts(redis) == _facts(lmdb):
        raise Disagreement(f"customer {name}: the stores do not hold the same")


def _facts(state: CustomerState | None) -> object:
    """The state as a value that can be compared."""
    if state is None or state.features is None:
        return None
    features = (state.features.schema_version, state.features.view_times_ms, state.features.values.tobytes())
    return features, state.consents, state.contacts, state.signals, state.contacts_token


def _decisions(sides: Sequence[Side], names: Sequence[str], work: Work) -> Figures:
    """Milliseconds of a whole decision."""
    queries = [
        DecisionQuery(customer_id=name, channel=channel, placement=placement)
        for name, (channel, placement) in zip(names, itertools.cycle(_PLACES), strict=False)
    ]

    def decided_ms(side: Side) -> list[float]:
        return [_took_ms(partial(side.application.decisions.decide, query)) for query in queries]

    return _percentiles(sides, "decision", decided_ms, turns=work.turns)


def _seen(sides: Sequence[Side], work: Work) -> Figures:
    """Milliseconds from handing in that a customer went abroad to the first decision that knows."""
    numbers = itertools.count()

    def seen_ms(side: Side) -> list[float]:
        return [_seen_ms(side, f"T{next(numbers):05}") for _ in range(work.probes)]

    return _percentiles(sides, "event_seen", seen_ms, turns=work.loads)


def _seen_ms(side: Side, name: str) -> float:
    decisions, query = side.application.decisions, company.newcomer(side, name)
    if not company.is_at_home(decisions.decide(query).record.decision):
        raise Disagreement(f"customer {name}: travels before the event")
    departure = company.departure(name)

    def until_seen() -> None:
        side.application.intake.ingest([departure])
        give_up_s = time.perf_counter() + _SEEN_WITHIN_S
        while company.is_at_home(decisions.decide(query).record.decision):
            if time.perf_counter() > give_up_s:
                raise Disagreement(f"customer {name}: no decision sees the event")

    return _took_ms(until_seen)


def _events(sides: Sequence[Side], names: Sequence[str], work: Work) -> Figures:
    """Events of one core a second, those of the best batch; batches are alike and each is new."""
    seeds = itertools.count(wall_clock_ms())

    def batch_s(side: Side) -> float:
        customers = itertools.cycle(names)
        batch = [replace(event, customer_id=next(customers)) for event in events(_BATCH, seed=next(seeds))]
        started = time.perf_counter()
        fates = side.application.intake.ingest(batch)
        took_s = time.perf_counter() - started
        if any(fate.verdict is not Verdict.APPLIED for fate in fates):
            raise Disagreement("the demo's rules do not take the benchmark's events")
        return took_s

    best_s = in_turns(*(partial(batch_s, side) for side in sides), turns=work.turns * work.batches)
    return {f"{side.name}_events_per_s": _BATCH / took_s for side, took_s in zip(sides, best_s, strict=True)}


def _loads(sides: Sequence[Side], folder: Path, work: Work) -> Figures:
    """New customers of a CSV a second, those of the best file."""
    numbers = itertools.count()

    def load_s(side: Side) -> float:
        prefix = f"L{next(numbers)}-"
        path = folder / f"{prefix}.csv"
        company.write_newcomers(path, side.application.settings, work.loaded, prefix)
        return _loaded_s(side, path)

    best_s = in_turns(*(partial(load_s, side) for side in sides), turns=work.loads)
    return {
        f"{side.name}_load_per_s": work.loaded / took_s for side, took_s in zip(sides, best_s, strict=True)
    }


def _loaded_s(side: Side, path: Path) -> float:
    started = time.perf_counter()
    try:
        table = open_table(path, schema=side.application.live.current.schema, columns=ColumnMap())
    except LoadError as error:
        raise PartMissing(str(error)) from error
    mark = path.with_suffix(".mark")
    for _ in load_table(side.application.store, table, as_of_ms=wall_clock_ms(), mark_file=mark):
        pass
    return time.perf_counter() - started


def _percentiles(
    sides: Sequence[Side], what: str, took_ms: Callable[[Side], list[float]], *, turns: int
) -> Figures:
    """50th and 99th percentile of the times of one turn, each that of the best turn."""
    found = [[took_ms(side) for side in sides] for _ in range(turns)]
    return {
        f"{side.name}_{what}_p{percent}_ms": min(percentile(turn[place], percent) for turn in found)
        for place, side in enumerate(sides)
        for percent in (50, 99)
    }


def _took_ms(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1000
