"""What happened to the demo company's customers lately: events from the seed that signals are made of.

The data counts failed payments, calls and visits; the events are made to fit those counts. The others
(faults, use, stays abroad, ends of commitments) are drawn.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

from engine.signals.patterns import Event, Value
from feature_store.schema import FeatureSchema
from feature_store.state import FeatureVector

_DAY_MS: Final = 86_400_000
_HOUR_MS: Final = 3_600_000
_TROUBLED_LINES = 0.004
_ABROAD = 0.004
_USE_DROPPED = 0.004
_COMMITMENT_ENDS = 0.008


def events_of(
    customer_id: str, vector: FeatureVector, schema: FeatureSchema, now_ms: int, *, dice: random.Random
) -> list[Event]:
    """The recent events of one customer; none for most. The same dice give the same events."""
    told = _Telling(customer_id, now_ms)

    def count(feature: str) -> float:
        return float(vector.values[schema.index[feature]])

    return [
        *_payments(told, count("failed_payments_90d")),
        *_calls(told, count("support_calls_30d"), dice),
        *_visits(told, count("cancel_page_visits_7d"), dice),
        *_drawn(told, dice),
    ]


class _Telling:
    """Makes events of one customer, with ids in order."""

    def __init__(self, customer_id: str, now_ms: int) -> None:
        self._customer_id = customer_id
        self.now_ms = now_ms
        self._count = 0

    def event(self, type_: str, age_ms: int, **attributes: Value) -> Event:
        self._count += 1
        return Event(f"{self._customer_id}-{self._count}", type_, self.now_ms - age_ms, attributes)


def _payments(told: _Telling, failed: float) -> Iterator[Event]:
    """Three failures in 90 days are made three within the last week."""
    if failed >= 3:
        for days in (6, 4, 1):
            yield told.event("payment_failed", days * _DAY_MS, amount=79.0, invoice=f"day-{days}")


def _calls(told: _Telling, calls: float, dice: random.Random) -> Iterator[Event]:
    """Who calls often has complained; some called the same day."""
    if calls >= 4:
        yield told.event("complaint_opened", _DAY_MS, topic="service")
        if dice.random() < 0.5:
            yield told.event("call_received", _DAY_MS - 3 * _HOUR_MS, reason="technical")


def _visits(told: _Telling, visits: float, dice: random.Random) -> Iterator[Event]:
    """The cancellation page on three days, or three times in one evening, and then the notice period."""
    if visits >= 3:
        step_ms = _DAY_MS if dice.random() < 0.5 else 60_000
        for n in (3, 2, 1):
            age_ms = _DAY_MS + n * step_ms
            yield told.event(
                "page_viewed", age_ms, path="/cancel", day=str((told.now_ms - age_ms) // _DAY_MS)
            )
        yield told.event("search_made", _DAY_MS, topic="notice_period")


def _drawn(told: _Telling, dice: random.Random) -> Iterator[Event]:
    if dice.random() < _TROUBLED_LINES:
        yield told.event("outage_reported", 5 * _DAY_MS, service="internet")
        yield told.event("outage_reported", 2 * _DAY_MS, service="internet")
    if dice.random() < _ABROAD:
        yield told.event("roaming_session", 5 * _HOUR_MS, country="IT")
    if dice.random() < _USE_DROPPED:
        yield told.event("usage_compared", 6 * _HOUR_MS, ratio=0.3)
    if dice.random() < _COMMITMENT_ENDS:
        ends_at = told.now_ms + dice.randint(10, 50) * _DAY_MS
        yield told.event("commitment_announced", 3 * _DAY_MS, ends_at=ends_at)
        if dice.random() < 0.5:
            yield told.event("contact_made", 2 * _DAY_MS, channel="call_center")
