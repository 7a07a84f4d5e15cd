"""What it costs to hold what a decision counts on, over the embedded store: reservations, units of budgets.

All sides decide with the demo company's rules and models, for customers of their own, and take turns; they
differ in one contact policy. Times are medians and include the logs. On a disk most of a held decision is the
store's fsync; TMPDIR says where the store lies.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from engine.bootstrap import wall_clock_ms
from engine.core import contact
from engine.core.rulebook import ContactKind, ContactPolicy, CountedPer, SourcePosition
from engine.core.snapshot import Snapshot
from engine.decisionlog.log import DecisionLog
from engine.service.decisions import Decisions
from engine.service.live import LiveSnapshot
from engine.service.requests import DecisionQuery
from engine.settings import Settings
from engine.snapshots import load_snapshot
from feature_store.embedded import EmbeddedStore, open_embedded
from feature_store.loading import load_customers
from feature_store.state import OutcomeType

DECISIONS: Final = 300
_PLENTY, _WEEK_MS, _HALF_HOUR_MS = 1_000_000, 7 * 86_400_000, 1_800_000
_SHOWN: Final = frozenset({OutcomeType.SHOWN})
_HELD: Final = frozenset({OutcomeType.SHOWN, OutcomeType.RESERVED})


def measure(decisions: int = DECISIONS) -> dict[str, float]:
    """Medians of the three sides in microseconds, and what holding costs over the first."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        settings = Settings(data_dir=Path(folder))
        snapshot = load_snapshot(settings)
        store = open_embedded(Path(folder) / "store")
        stack.callback(store.close)
        sides: dict[str, Decisions] = {}
        for name, policy in _policies(snapshot).items():
            log = stack.enter_context(DecisionLog(Path(folder) / name))
            sides[name] = _decisions(_limited(snapshot, policy), store, log)
        names = _customers(store, settings, snapshot, decisions * len(sides))
        took = _took(sides, names, decisions)
    return {
        **{f"hold_{name}_us": us for name, us in took.items()},
        "reserved_over_counted": took["reserved"] / took["counted"],
        "budget_over_counted": took["budget"] / took["counted"],
    }


def _policies(snapshot: Snapshot) -> Mapping[str, ContactPolicy]:
    """A cap that counts what was shown, one that counts decisions, and a budget; none is ever reached."""
    counted = ContactPolicy(
        id="bench",
        kind=ContactKind.CAP,
        per=CountedPer.ACTION,
        counts=_SHOWN,
        limit=_PLENTY,
        window_ms=_WEEK_MS,
        reason="",
        scope=np.ones(len(snapshot.rulebook.actions), dtype=np.bool_),
        position=SourcePosition("bench", 1, 1),
        reserve_ms=_HALF_HOUR_MS,
    )
    return {
        "counted": counted,
        "reserved": replace(counted, counts=_HELD),
        "budget": replace(counted, counts=_HELD, kind=ContactKind.BUDGET),
    }


def _limited(snapshot: Snapshot, policy: ContactPolicy) -> Snapshot:
    return replace(snapshot, limits=contact.lay_out([policy], snapshot.catalogue, snapshot.layout))


def _decisions(snapshot: Snapshot, store: EmbeddedStore, log: DecisionLog) -> Decisions:
    live = LiveSnapshot(lambda: snapshot)
    return Decisions(live=live, store=store, log=log, clock=wall_clock_ms, request_id_ttl_ms=1_000)


def _customers(store: EmbeddedStore, settings: Settings, snapshot: Snapshot, count: int) -> Iterator[str]:
    """New customers with features of the demo's."""
    path = settings.feature_schema.parent / "customers.csv.gz"
    loaded = load_customers(path, schema=snapshot.schema, as_of_ms=wall_clock_ms())
    store.put_customers((f"B{i}", loaded[i % len(loaded)][1]) for i in range(count))
    return (f"B{i}" for i in range(count))


def _took(sides: Mapping[str, Decisions], names: Iterator[str], decisions: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(decisions):
        for name, deciding in sides.items():
            query = DecisionQuery(customer_id=next(names), channel="web", limit=1)
            started = time.perf_counter()
            deciding.decide(query)
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(taken) * 1e6 for name, taken in times.items()}
