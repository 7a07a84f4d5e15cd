"""Streaming features: what is tallied of a customer's events, and the values of it at an instant.

Pure. A tally holds sums of whole numbers by step of time, or the newest step of a value, so events may come
late, disordered or in any batches: the same events give the same tallies, to the bit. Attribute values are
tallied in millionths. What is older than a window is dropped, and what comes in older changes nothing.

Values change with time alone where events leave windows; `next_change_ms` says when.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Final

import msgspec
import numpy as np

from feature_store.aggregates import MAX_DISTINCT, Aggregate, Wanted
from feature_store.schema import MAX_EXACT_INT, Feature, FeatureSchema
from feature_store.state import FeatureVector

MILLIONTHS: Final = 1_000_000
MAX_MAGNITUDE: Final = 1e12
"""Largest attribute value that is tallied: its millionths fit 64 bits."""
DAY_MS: Final = 86_400_000
_VALUE_BYTES: Final = 8

AttributeValues = Mapping[str, Wanted]
Steps = dict[int, int]


class Tally(msgspec.Struct, array_like=True):
    """What is kept of one feature. `definition` is the digest of what decides its values.

    `counts` and `sums` are by step; `newest` is the last step of each distinct value, by its digest;
    `last_ms` the latest event.
    """

    definition: bytes
    counts: Steps
    sums: Steps
    newest: dict[bytes, int]
    last_ms: int = 0


Tallies = dict[str, Tally]
"""By feature. Changed in place while events are applied."""


@dataclass(frozen=True, slots=True)
class Computed:
    """One feature with an aggregate, at its place in the vector."""

    place: int
    feature: Feature
    aggregate: Aggregate
    step_ms: int
    window_ms: int
    digest: bytes

    def edge(self, now_ms: int) -> int:
        """The newest step that is outside the window."""
        return (now_ms - self.window_ms) // self.step_ms

    def leaves_ms(self, step: int) -> int:
        """When a step leaves the window."""
        return step * self.step_ms + self.window_ms


class StreamingFeatures:
    """The features of a schema that are computed from events. Immutable; safe to share."""

    def __init__(self, schema: FeatureSchema) -> None:
        self.schema = schema
        self.computed = tuple(
            _computed(place, feature, feature.aggregate)
            for place, feature in enumerate(schema.feature)
            if feature.aggregate is not None
        )
        self._by_type: dict[str, list[Computed]] = {}
        for one in self.computed:
            for event_type in one.aggregate.events:
                self._by_type.setdefault(event_type, []).append(one)

    @property
    def event_types(self) -> frozenset[str]:
        """Types of events that any feature counts."""
        return frozenset(self._by_type)

    @cached_property
    def views(self) -> tuple[int, ...]:
        """Places of the views that hold a computed feature."""
        return tuple(sorted({int(self.schema.view_index[c.place]) for c in self.computed}))

    @property
    def half_fresh_ms(self) -> int:
        """Half the time after which a computed feature would be stale: then it is written again."""
        views = self.schema.view
        return min((views[view].freshness_ms // 2 for view in self.views), default=0)

    def apply(
        self, tallies: Tallies, event_type: str, at_ms: int, attributes: AttributeValues, *, now_ms: int
    ) -> bool:
        """Adds one event, in place; whether any feature counts it."""
        counted = False
        for one in self._by_type.get(event_type, ()):
            step = at_ms // one.step_ms
            if step > one.edge(now_ms) and _wanted(one.aggregate, attributes):
                tally = tallies.get(one.feature.name)
                if tally is None or tally.definition != one.digest:
                    tally = tallies[one.feature.name] = Tally(one.digest, {}, {}, {})
                _add(tally, one, step, at_ms, attributes)
                counted = True
        return counted

    def forget(self, tallies: Tallies, *, now_ms: int) -> None:
        """Drops, in place, what has left its window, and what is of no feature as it is defined now."""
        known = {one.feature.name: one for one in self.computed}
        for name in list(tallies):
            one, tally = known.get(name), tallies[name]
            if one is None or tally.definition != one.digest:
                del tallies[name]
            else:
                _cut(tally, one.edge(now_ms))
                if not (tally.counts or tally.sums or tally.newest or _holds_last(one, tally, now_ms)):
                    del tallies[name]

    def values(self, tallies: Tallies, *, now_ms: int) -> dict[int, float]:
        """The stored form of every computed feature at an instant, by place; NaN where absent."""
        return {one.place: self._value(one, tallies, now_ms) for one in self.computed}

    def _value(self, one: Computed, tallies: Tallies, now_ms: int) -> float:
        tally = tallies.get(one.feature.name)
        known = tally is not None and tally.definition == one.digest
        value = _FUNCTIONS[one.aggregate.function](one, tally if known and tally else _EMPTY, now_ms)
        return math.nan if value is None else _stored(one.feature, value)

    def next_change_ms(self, tallies: Tallies, *, now_ms: int) -> int | None:
        """The first instant after now at which a value may differ without further events; None for never."""
        changes = [
            change
            for one in self.computed
            if (tally := tallies.get(one.feature.name)) is not None
            and tally.definition == one.digest
            and (change := _next_change(one, tally, now_ms)) is not None
        ]
        return min(changes, default=None)

    def written(self, vector: FeatureVector, tallies: Tallies, *, now_ms: int) -> FeatureVector:
        """The vector with every computed feature as of now; its views are as fresh as that."""
        values = np.array(vector.values, dtype=np.float32)
        for place, value in self.values(tallies, now_ms=now_ms).items():
            values[place] = value
        times = list(vector.view_times_ms)
        for view in self.views:
            times[view] = max(times[view], now_ms)
        return FeatureVector(vector.schema_version, tuple(times), values)


def _computed(place: int, feature: Feature, aggregate: Aggregate) -> Computed:
    canonical = repr((feature.type, aggregate.canonical)).encode()
    digest = blake2b(canonical, digest_size=_VALUE_BYTES).digest()
    return Computed(place, feature, aggregate, aggregate.step_ms, aggregate.window, digest)


def _wanted(aggregate: Aggregate, attributes: AttributeValues) -> bool:
    """Whether an event satisfies every condition; a missing attribute satisfies none."""
    for name, wanted in aggregate.where.items():
        value = attributes.get(name)
        options = wanted if isinstance(wanted, tuple) else (wanted,)
        if not any(_same(value, option) for option in options):
            return False
    return aggregate.attribute is None or _tallied(aggregate, attributes) is not None


def _same(value: Wanted | None, wanted: Wanted) -> bool:
    """Equal, and not only because Python takes true for 1."""
    return value is not None and isinstance(value, bool) == isinstance(wanted, bool) and value == wanted


def _tallied(aggregate: Aggregate, attributes: AttributeValues) -> int | bytes | None:
    """The attribute's value as it is tallied: in millionths, or digested; None where it cannot be."""
    value = attributes.get(aggregate.attribute or "")
    if value is None:
        return None
    if aggregate.function == "distinct":
        return blake2b(repr(value).encode(errors="surrogatepass"), digest_size=_VALUE_BYTES).digest()
    if isinstance(value, (bool, str)) or not abs(value) <= MAX_MAGNITUDE:  # NaN is not either
        return None
    return value * MILLIONTHS if isinstance(value, int) else round(value * MILLIONTHS)


def _add(tally: Tally, one: Computed, step: int, at_ms: int, attributes: AttributeValues) -> None:
    aggregate = one.aggregate
    amount = None if aggregate.attribute is None else _tallied(aggregate, attributes)
    tally.last_ms = max(tally.last_ms, at_ms)
    if isinstance(amount, bytes):
        tally.newest[amount] = max(step, tally.newest.get(amount, step))
        if len(tally.newest) > MAX_DISTINCT:
            del tally.newest[min(tally.newest, key=lambda value: (tally.newest[value], value))]
        return
    if amount is not None:
        tally.sums[step] = tally.sums.get(step, 0) + amount
    if aggregate.function in ("count", "rfm") or (aggregate.function == "decay" and amount is None):
        tally.counts[step] = tally.counts.get(step, 0) + 1


def _cut(tally: Tally, edge: int) -> None:
    """Drops steps outside the window."""
    for steps in (tally.counts, tally.sums):
        for step in [s for s in steps if s <= edge]:
            del steps[step]
    for value in [v for v, step in tally.newest.items() if step <= edge]:
        del tally.newest[value]


def _inside(steps: Steps, edge: int) -> list[tuple[int, int]]:
    """The steps of a window, oldest first."""
    return sorted((step, amount) for step, amount in steps.items() if step > edge)


def _count(one: Computed, tally: Tally, now_ms: int) -> float | None:
    edge = one.edge(now_ms)
    return sum(n for step, n in tally.counts.items() if step > edge)


def _sum(one: Computed, tally: Tally, now_ms: int) -> float | None:
    edge = one.edge(now_ms)
    return sum(amount for step, amount in tally.sums.items() if step > edge) / MILLIONTHS


def _last_seen(one: Computed, tally: Tally, now_ms: int) -> float | None:
    if not _holds_last(one, tally, now_ms):
        return None
    assert one.aggregate.unit is not None  # else refused
    return max(now_ms - tally.last_ms, 0) // one.aggregate.unit


def _holds_last(one: Computed, tally: Tally, now_ms: int) -> bool:
    """Whether the latest event is in the window."""
    return tally.last_ms > 0 and tally.last_ms // one.step_ms > one.edge(now_ms)


def _distinct(one: Computed, tally: Tally, now_ms: int) -> float | None:
    edge = one.edge(now_ms)
    return sum(step > edge for step in tally.newest.values())


def _decay(one: Computed, tally: Tally, now_ms: int) -> float | None:
    """The sum in order of time, so that rounding is the same whatever order the events came in."""
    assert one.aggregate.half_life is not None  # else refused
    scale = 1 if one.aggregate.attribute is None else MILLIONTHS
    steps = tally.counts if one.aggregate.attribute is None else tally.sums
    now, rate = now_ms // one.step_ms, one.step_ms / one.aggregate.half_life
    return math.fsum(
        amount / scale * 2.0 ** (-max(now - step, 0) * rate)
        for step, amount in _inside(steps, one.edge(now_ms))
    )


def _rfm(one: Computed, tally: Tally, now_ms: int) -> float | None:
    cuts = one.aggregate.cuts
    assert cuts is not None  # else refused
    if not _holds_last(one, tally, now_ms):
        return None
    days = max(now_ms - tally.last_ms, 0) / DAY_MS
    recency = len(cuts.recency_days) + 1 - bisect_right(cuts.recency_days, days)
    frequency = 1 + bisect_right(cuts.frequency, _count(one, tally, now_ms) or 0)
    monetary = 1 + bisect_right(cuts.monetary, _sum(one, tally, now_ms) or 0)
    return 100 * recency + 10 * frequency + monetary


_FUNCTIONS: Final[Mapping[str, Callable[[Computed, Tally, int], float | None]]] = {
    "count": _count,
    "sum": _sum,
    "last_seen": _last_seen,
    "distinct": _distinct,
    "decay": _decay,
    "rfm": _rfm,
}
_EMPTY: Final = Tally(b"", {}, {}, {})


def _stored(feature: Feature, value: float) -> float:
    if feature.type == "bool":
        return float(value > 0)
    if feature.type == "int":
        return float(max(-MAX_EXACT_INT, min(MAX_EXACT_INT, round(value))))
    return feature.encode(float(value)) or 0.0


def _next_change(one: Computed, tally: Tally, now_ms: int) -> int | None:
    """The first instant after now at which the value of one feature may differ."""
    edge = one.edge(now_ms)
    held = [step for step in (*tally.counts, *tally.sums, *tally.newest.values()) if step > edge]
    changes = [one.leaves_ms(min(held))] if held else []
    if held and one.aggregate.function == "decay":
        changes.append((now_ms // one.step_ms + 1) * one.step_ms)
    if one.aggregate.function in ("last_seen", "rfm") and _holds_last(one, tally, now_ms):
        changes += [one.leaves_ms(tally.last_ms // one.step_ms), *_ages(one, tally.last_ms, now_ms)]
    return min(changes, default=None)


def _ages(one: Computed, last_ms: int, now_ms: int) -> list[int]:
    """Instants after now at which the latest event gets an age that counts."""
    if one.aggregate.unit is not None:
        return [last_ms + (max(now_ms - last_ms, 0) // one.aggregate.unit + 1) * one.aggregate.unit]
    cuts = one.aggregate.cuts.recency_days if one.aggregate.cuts is not None else ()
    instants = (last_ms + math.ceil(days * DAY_MS) for days in cuts)
    return [at for at in instants if at > now_ms]
