"""The part of a customer's events that signals look at, in one order whatever order they came in."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from engine.signals.patterns import Event

MAX_EVENTS: Final = 512
"""The newest events of one customer that count. Joins of two grow with its square: 131,000 at most."""


def recent(events: Iterable[Event], *, types: Collection[str], now_ms: int) -> tuple[Event, ...]:
    """Events of known types until now, each id once (the earliest), oldest first, the newest MAX_EVENTS."""
    known = (e for e in events if e.type in types and e.at_ms <= now_ms)
    once: dict[str, Event] = {}
    for event in sorted(known, key=_order):
        once.setdefault(event.id, event)
    return tuple(once.values())[-MAX_EVENTS:]


def _order(event: Event) -> tuple[int, str, str, str]:
    return event.at_ms, event.id, event.type, repr(sorted(event.attributes.items()))
