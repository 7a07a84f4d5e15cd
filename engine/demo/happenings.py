"""What happened to the demo company's customers lately: events from the seed.

The data counts failed payments, calls, sessions, visits and gigabytes; the events are made so that counting
them gives those numbers again. The others (faults, use, stays abroad, ends of commitments) are drawn.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Final

from engine.events.raw import RawEvent
from engine.signals.patterns import Value
from feature_store.schema import FeatureSchema
from feature_store.state import FeatureVector

_DAY_MS: Final = 86_400_000
_HOUR_MS: Final = 3_600_000
_TROUBLED_LINES = 0.004
_ABROAD = 0.004
_USE_DROPPED = 0.004
_COMMITMENT_ENDS = 0.008
_SEARCHED = 0.04
_TOPICS: Final = ("invoice", "wifi", "roaming", "sim_card")  # none that a signal asks for
_BOUGHT = 0.06
_PRODUCTS: Final = (("day_pass", 9.9), ("headset", 59.0), ("router", 149.0), ("phone", 649.0))


def events_of(
    customer_id: str,
    vector: FeatureVector,
    schema: FeatureSchema,
    now_ms: int,
    *,
    dice: random.Random,
    quiet: bool = False,
) -> list[RawEvent]:
    """The recent events of one customer, none of which makes a signal where the days were `quiet`.

    The same dice give the same events.
    """
    told = _Telling(customer_id, now_ms)

    def count(feature: str) -> float:
        value = float(vector.values[schema.index[feature]])
        return 0.0 if math.isnan(value) else value

    ordinary = [
        *_payments(told, round(count("failed_payments_90d")), quiet),
        *_calls(told, round(count("support_calls_30d")), dice, quiet),
        *_visits(told, round(count("cancel_page_visits_7d")), dice, quiet),
        *_use(told, round(count("app_sessions_30d")), round(count("data_usage_gb_30d"), 1)),
    ]
    return ordinary if quiet else [*ordinary, *_drawn(told, dice)]


class _Telling:
    """Makes events of one customer, with ids in order."""

    def __init__(self, customer_id: str, now_ms: int) -> None:
        self._customer_id = customer_id
        self.now_ms = now_ms
        self._count = 0

    def event(self, type_: str, age_ms: int, **attributes: Value) -> RawEvent:
        self._count += 1
        name = f"demo-{self._customer_id}-{self._count}"
        at_ms = self.now_ms - age_ms
        return RawEvent(name, type_, self._customer_id, None, at_ms, attributes, self.now_ms, late=True)


def _payments(told: _Telling, failed: int, quiet: bool) -> Iterator[RawEvent]:
    """Three failures in 90 days are made three within the last week; others lie weeks apart."""
    lately = (6, 4, 1) if failed >= 3 and not quiet else ()
    for days in (*lately, *(20 + 15 * n for n in range(failed - len(lately)))):
        yield told.event("payment_failed", days * _DAY_MS, amount=79.0, invoice=f"day-{days}")


def _calls(told: _Telling, calls: int, dice: random.Random, quiet: bool) -> Iterator[RawEvent]:
    """Who calls often has complained; some called the same day, the others before."""
    again = 0
    if calls >= 4 and not quiet:
        yield told.event("complaint_opened", _DAY_MS, topic="service")
        if dice.random() < 0.5:
            again = 1
            yield told.event("call_received", _DAY_MS - 3 * _HOUR_MS, reason="technical")
    for n in range(calls - again):
        yield told.event("call_received", (3 + 4 * n) * _DAY_MS, reason="billing")


def _visits(told: _Telling, visits: int, dice: random.Random, quiet: bool) -> Iterator[RawEvent]:
    """The cancellation page on three days, or three times in one evening, and then the notice period."""
    often = visits >= 3 and not quiet
    step_ms = _DAY_MS if often and dice.random() < 0.5 else 60_000
    for n in range(visits, 0, -1):
        age_ms = _DAY_MS + min(n, 3) * step_ms
        yield told.event("page_viewed", age_ms, path="/cancel", day=str((told.now_ms - age_ms) // _DAY_MS))
    if often:
        yield told.event("search_made", _DAY_MS, topic="notice_period")


def _use(told: _Telling, sessions: int, gigabytes: float) -> Iterator[RawEvent]:
    """Sessions and data of the month, each in two reports."""
    for days, share in ((3, sessions // 2), (12, sessions - sessions // 2)):
        if share:
            yield told.event("login", days * _DAY_MS, channel="app", sessions=share)
    first = round(gigabytes / 2, 1)
    for days, amount in ((4, first), (17, round(gigabytes - first, 1))):
        if amount:
            yield told.event("data_used", days * _DAY_MS, gigabytes=amount)


def _drawn(told: _Telling, dice: random.Random) -> Iterator[RawEvent]:
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
    yield from _asked(told, dice)
    yield from _bought(told, dice)


def _asked(told: _Telling, dice: random.Random) -> Iterator[RawEvent]:
    """Some look for help, a few of them again and again about other things."""
    if dice.random() < _SEARCHED:
        for topic in dice.sample(_TOPICS, dice.randint(1, len(_TOPICS))):
            yield told.event("search_made", dice.randint(1, 25) * _DAY_MS, topic=topic)


def _bought(told: _Telling, dice: random.Random) -> Iterator[RawEvent]:
    """Some buy day passes and devices, most of them seldom."""
    if dice.random() < _BOUGHT:
        for _ in range(dice.choice((1, 1, 1, 2, 2, 5))):
            product, price = dice.choice(_PRODUCTS)
            yield told.event("purchase_made", dice.randint(1, 300) * _DAY_MS, amount=price, product=product)
