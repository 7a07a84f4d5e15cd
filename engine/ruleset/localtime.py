"""Hours of local days, through every change of the clocks.

A period begins at the first instant at which a wall clock shows its start, and ends at the last at which one
shows its end: where clocks go back and an hour comes twice, both are inside. A time that clocks skip is the
instant at which they skip it.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from engine.ruleset.runtime import zone_named

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES: Final = 24 * 60
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MILLISECOND: Final = dt.timedelta(milliseconds=1)
_UTC: Final = ZoneInfo("UTC")
_NEAR: Final = (-2, -1, 0, 1)
"""Days on which a period may have begun that now lies in, from today; clocks may skip or repeat a day."""
_JOINED: Final = 14
"""Periods that are followed where one ends as the next begins; whoever is quiet all week never ends."""
_ZONED = re.compile(r"(?P<clock>[^\[\]]+)\[(?P<zone>[A-Za-z0-9_+/-]+)\]\Z")


@dataclass(frozen=True, slots=True)
class DailyPeriod:
    """From a minute of the day to another, of the next day where not later, on days counted from Monday."""

    from_minute: int
    to_minute: int
    days: frozenset[int]

    def until_ms(self, zone: str, now_ms: int) -> int | None:
        """When the period that now lies in ends, with those that follow at once; None outside."""
        end_ms = self._end_ms(zone, now_ms)
        for _ in range(_JOINED):
            later_ms = None if end_ms is None else self._end_ms(zone, end_ms)
            if later_ms is None:
                break
            end_ms = later_ms
        return end_ms

    def _end_ms(self, zone: str, at_ms: int) -> int | None:
        today = _local(zone, at_ms).date().toordinal()
        spans = (
            _span(zone, today + ahead, self.from_minute, self.to_minute)
            for ahead in _NEAR
            if (today + ahead - 1) % 7 in self.days
        )
        return max((end for start, end in spans if start <= at_ms < end), default=None)

    def clock(self, zone: str, at_ms: int) -> str:
        """Date and time on a wall there, such as 2026-11-10 22:15."""
        return f"{_local(zone, at_ms):%Y-%m-%d %H:%M}"

    def knows(self, zone: str) -> bool:
        """Whether a time zone of that name exists."""
        return _zone(zone) is not None


def minute_of_day(written: str) -> int:
    """The minute of the day of a time such as 21:30 or 24:00."""
    hours, _, minutes = written.partition(":")
    return 60 * int(hours) + int(minutes)


def instant_in_zone(written: str) -> int | None:
    """The instant of a local time such as 2026-11-10T22:30[Europe/Zurich]; None where it is not written so.

    Raises ValueError where no clock there shows that time, or where it comes twice and no offset says which.
    """
    found = _ZONED.match(written)
    zone = _zone(found["zone"]) if found else None
    if found is None or zone is None:
        return None
    local = dt.datetime.fromisoformat(found["clock"])
    if local.tzinfo is not None:
        at_ms = _ms(local)
        if local.replace(tzinfo=None) != _local(zone.key, at_ms).replace(tzinfo=None):
            raise ValueError(f"clocks in {zone.key} do not have that offset then")
        return at_ms
    early, late = _both(zone, local)
    if early > late:
        raise ValueError(f"clocks in {zone.key} skip that time")
    if early < late:
        raise ValueError(f"clocks in {zone.key} show that time twice; write its offset too")
    return early


@lru_cache(maxsize=1024)
def _zone(name: str) -> ZoneInfo | None:
    return zone_named(name)


def _local(zone: str, at_ms: int) -> dt.datetime:
    return (_EPOCH + at_ms * _MILLISECOND).astimezone(_zone(zone) or _UTC)


@lru_cache(maxsize=16_384)
def _span(zone: str, day: int, from_minute: int, to_minute: int) -> tuple[int, int]:
    """The period that begins on a day, as instants."""
    midnight = dt.datetime.fromordinal(day)
    to_minute += 0 if to_minute > from_minute else DAY_MINUTES
    place = _zone(zone) or _UTC
    start = min(_shown(place, midnight + dt.timedelta(minutes=from_minute)))
    return start, max(_shown(place, midnight + dt.timedelta(minutes=to_minute)))


def _shown(zone: ZoneInfo, local: dt.datetime) -> Iterator[int]:
    """The instants at which clocks show a local time; where they skip it, the one at which they do."""
    early, late = _both(zone, local)
    yield from (early, late) if early <= late else (_skip(zone, late, early),)


def _both(zone: ZoneInfo, local: dt.datetime) -> tuple[int, int]:
    """A local time read with the offset before a change of the clocks, and with the one after it."""
    return tuple(_ms(local.replace(tzinfo=zone, fold=fold)) for fold in (0, 1))  # type: ignore[return-value]  # two


def _skip(zone: ZoneInfo, before_ms: int, after_ms: int) -> int:
    """The second between two instants at which the offset changes."""
    offset = _local(zone.key, before_ms).utcoffset()
    low, high = before_ms // 1000, after_ms // 1000
    while high - low > 1:
        middle = (low + high) // 2
        if _local(zone.key, middle * 1000).utcoffset() == offset:
            low = middle
        else:
            high = middle
    return high * 1000


def _ms(instant: dt.datetime) -> int:
    return (instant - _EPOCH) // _MILLISECOND
