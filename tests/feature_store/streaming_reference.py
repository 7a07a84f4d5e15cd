"""What streaming features are, computed from a list of events without any state: slow and plain."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from feature_store.aggregates import Aggregate, Wanted

DAY_MS = 86_400_000


@dataclass(frozen=True)
class Happened:
    """One event of a customer."""

    type: str
    at_ms: int
    attributes: Mapping[str, Wanted]


def value_of(aggregate: Aggregate, events: Sequence[Happened], now_ms: int) -> float | None:
    """The value at now, by the definition in feature_store/aggregates.py."""
    step = aggregate.step_ms
    inside = [
        e
        for e in events
        if e.type in aggregate.events
        and e.at_ms // step > (now_ms - aggregate.window) // step
        and all(
            e.attributes.get(name) in (wanted if isinstance(wanted, tuple) else (wanted,))
            for name, wanted in aggregate.where.items()
        )
        and (aggregate.attribute is None or aggregate.attribute in e.attributes)
    ]
    amounts = (
        [round(float(e.attributes[aggregate.attribute]) * 1e6) for e in inside] if _sums(aggregate) else []
    )
    match aggregate.function:
        case "count":
            return len(inside)
        case "sum":
            return sum(amounts) / 1e6
        case "distinct":
            return len({e.attributes[aggregate.attribute or ""] for e in inside})
        case "last_seen":
            latest = max((e.at_ms for e in inside), default=None)
            return None if latest is None else (now_ms - latest) // (aggregate.unit or 1)
        case "decay":
            weights = [amount / 1e6 for amount in amounts] or [1.0] * len(inside)
            return sum(
                weight * 0.5 ** ((now_ms // step - e.at_ms // step) * step / (aggregate.half_life or 1))
                for weight, e in zip(weights, inside, strict=True)
            )
        case "rfm":
            return _rfm(aggregate, inside, sum(amounts) / 1e6, now_ms)
    raise AssertionError(aggregate.function)


def _sums(aggregate: Aggregate) -> bool:
    return aggregate.attribute is not None and aggregate.function in ("sum", "decay", "rfm")


def _rfm(aggregate: Aggregate, inside: Sequence[Happened], monetary: float, now_ms: int) -> float | None:
    cuts = aggregate.cuts
    assert cuts is not None
    if not inside:
        return None
    days = (now_ms - max(e.at_ms for e in inside)) / DAY_MS
    recency = len(cuts.recency_days) + 1 - bisect_right(cuts.recency_days, days)
    return (
        100 * recency
        + 10 * (1 + bisect_right(cuts.frequency, len(inside)))
        + (1 + bisect_right(cuts.monetary, monetary))
    )


def same(found: float, expected: float | None) -> bool:
    """Whether a stored value is the expected one, rounded to float32; NaN where there is none."""
    if expected is None:
        return math.isnan(found)
    return math.isclose(found, expected, rel_tol=1e-6, abs_tol=1e-6)
