"""What generated code calls: operations of CEL that Python spells or bounds differently.

Functions of the checked forms return None where CEL has an error.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from typing import Final
from zoneinfo import ZoneInfo

from engine.ruleset.expression import INT_MAX, INT_MIN
from engine.ruleset.sequences import COLLECTION_NAMES

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
FIRST_MS: Final = (dt.datetime(1, 1, 1, tzinfo=dt.UTC) - _EPOCH) // dt.timedelta(milliseconds=1)
LAST_MS: Final = FIRST_MS + 3_652_059 * 86_400_000 - 1
MAX_SPAN_MS: Final = (2**63 - 1) // 1_000_000
"""Longest duration: the reference counts nanoseconds in 64 bits, which is 292 years."""
MAX_SEARCHED: Final = 256
"""Longest text a pattern is searched in; bounds the time of a backtracking search."""
_INT_TEXT = re.compile(r"[ \t\n\v\f\r]*[-+]?[0-9]+[ \t\n\v\f\r]*\Z")


def int64(value: int) -> int | None:
    """The value where it fits 64 bits."""
    return value if INT_MIN <= value <= INT_MAX else None


def divide_int(dividend: int, divisor: int) -> int | None:
    """Division that truncates toward zero."""
    if divisor == 0:
        return None
    quotient = abs(dividend) // abs(divisor)
    return int64(quotient if (dividend < 0) == (divisor < 0) else -quotient)


def remainder_int(dividend: int, divisor: int) -> int | None:
    """Remainder with the sign of the dividend."""
    if divisor == 0 or (dividend == INT_MIN and divisor == -1):
        return None
    rest = abs(dividend) % abs(divisor)
    return -rest if dividend < 0 else rest


def divide_double(dividend: float, divisor: float) -> float:
    """IEEE division: by zero it is infinite, or no number."""
    if divisor != 0.0:
        return dividend / divisor
    if dividend == 0.0 or dividend != dividend:
        return math.nan
    return math.copysign(math.inf, dividend) * math.copysign(1.0, divisor)


def int_of_double(value: float) -> int | None:
    """Truncates toward zero."""
    return int(value) if INT_MIN < value < INT_MAX else None


def int_of_text(text: str) -> int | None:
    """A decimal whole number, blanks around it allowed."""
    return int64(int(text)) if len(text) <= 64 and _INT_TEXT.match(text) else None


def search(pattern: re.Pattern[str], text: str) -> bool | None:
    """Whether the pattern occurs anywhere in the text."""
    return pattern.search(text) is not None if len(text) <= MAX_SEARCHED else None


def shift(instant_ms: int, by_ms: int) -> int | None:
    """An instant some time later, within the years 1 to 9999."""
    moved = instant_ms + by_ms
    return moved if FIRST_MS <= moved <= LAST_MS else None


def span(duration_ms: int) -> int | None:
    """A duration that fits 64 bits of nanoseconds."""
    return duration_ms if -MAX_SPAN_MS <= duration_ms <= MAX_SPAN_MS else None


def text_of_instant(instant_ms: int) -> str:
    """RFC 3339, with milliseconds where there are any."""
    whole, rest = divmod(instant_ms, 1000)
    text = (_EPOCH + dt.timedelta(seconds=whole)).isoformat().removesuffix("+00:00")
    return f"{text}.{rest:03d}Z" if rest else f"{text}Z"


def text_of_span(duration_ms: int) -> str:
    """Seconds with an `s`, with milliseconds where there are any."""
    whole, rest = divmod(abs(duration_ms), 1000)
    sign = "-" if duration_ms < 0 else ""
    return f"{sign}{whole}.{rest:03d}s" if rest else f"{sign}{whole}s"


def truncated(duration_ms: int, unit_ms: int) -> int:
    """Whole units in a duration, toward zero."""
    return duration_ms // unit_ms if duration_ms >= 0 else -(-duration_ms // unit_ms)


def duration_milliseconds(duration_ms: int) -> int:
    """Milliseconds beyond the last full second, with the sign of the duration."""
    return duration_ms % 1000 if duration_ms >= 0 else -(-duration_ms % 1000)


def full_year(instant_ms: int, zone: dt.tzinfo) -> int | None:
    """Year of an instant."""
    local = _local(instant_ms, zone)
    return None if local is None else local.year


def month(instant_ms: int, zone: dt.tzinfo) -> int | None:
    """Month of an instant; January is 0."""
    local = _local(instant_ms, zone)
    return None if local is None else local.month - 1


def date(instant_ms: int, zone: dt.tzinfo) -> int | None:
    """Day of the month; the first is 1."""
    local = _local(instant_ms, zone)
    return None if local is None else local.day


def day_of_month(instant_ms: int, zone: dt.tzinfo) -> int | None:
    """Day of the month; the first is 0."""
    local = _local(instant_ms, zone)
    return None if local is None else local.day - 1


def day_of_year(instant_ms: int, zone: dt.tzinfo) -> int | None:
    """Day of the year; the first is 0."""
    local = _local(instant_ms, zone)
    return None if local is None else local.timetuple().tm_yday - 1


def day_of_week(instant_ms: int, zone: dt.tzinfo) -> int | None:
    """Day of the week; Sunday is 0."""
    local = _local(instant_ms, zone)
    return None if local is None else local.isoweekday() % 7


def hours(instant_ms: int, zone: dt.tzinfo) -> int | None:
    """Hour of the day."""
    local = _local(instant_ms, zone)
    return None if local is None else local.hour


def minutes(instant_ms: int, zone: dt.tzinfo) -> int | None:
    """Minute of the hour."""
    local = _local(instant_ms, zone)
    return None if local is None else local.minute


def _local(instant_ms: int, zone: dt.tzinfo) -> dt.datetime | None:
    try:
        return (_EPOCH + dt.timedelta(milliseconds=instant_ms)).astimezone(zone)
    except (OverflowError, ValueError):
        return None


def zone_named(name: str) -> ZoneInfo | None:
    """A time zone by its IANA name; None where there is none."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return None


NAMES: Final[dict[str, object]] = COLLECTION_NAMES | {
    f.__name__: f
    for f in (
        int64, divide_int, remainder_int, divide_double, int_of_double, int_of_text, search, shift,
        truncated, span, text_of_instant, text_of_span, duration_milliseconds,
        full_year, month, date, day_of_month, day_of_year, day_of_week, hours, minutes,
    )
}  # fmt: skip
"""Names generated code may call."""
