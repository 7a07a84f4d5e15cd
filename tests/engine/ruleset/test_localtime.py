"""Hours of local days: which instants they hold, through every change of the clocks."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.ruleset.localtime import DAYS, DailyPeriod, instant_in_zone, minute_of_day

MINUTE_MS = 60_000
ZURICH, NEW_YORK, LORD_HOWE, APIA = "Europe/Zurich", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia"
EVERY_DAY = frozenset(range(7))


def period(begins: str, ends: str, *days: str) -> DailyPeriod:
    """A period as an author writes it."""
    return DailyPeriod(minute_of_day(begins), minute_of_day(ends), frozenset(map(DAYS.index, days or DAYS)))


def at(written: str) -> int:
    """An instant in UTC."""
    return int(dt.datetime.fromisoformat(written + "+00:00").timestamp() * 1000)


def quiet(found: DailyPeriod, zone: str, *instants: str) -> list[bool]:
    """Whether each instant, in UTC, is inside."""
    return [found.until_ms(zone, at(instant)) is not None for instant in instants]


def test_a_period_holds_its_start_and_not_its_end() -> None:
    """Half-open, over midnight, by the clock of the place."""
    night = period("21:00", "08:00")

    winter = quiet(
        night, ZURICH, "2026-12-01T19:59", "2026-12-01T20:00", "2026-12-02T06:59", "2026-12-02T07:00"
    )

    assert winter == [False, True, True, False]
    assert night.until_ms(ZURICH, at("2026-12-01T20:00")) == at("2026-12-02T07:00")
    assert quiet(night, NEW_YORK, "2026-12-01T20:00", "2026-12-02T02:00") == [False, True]


def test_a_night_belongs_to_the_day_it_begins_on() -> None:
    """Friday's night lasts into Saturday; Thursday's is none."""
    friday = period("22:00", "06:00", "fri")

    inside = quiet(
        friday, "UTC", "2026-12-03T23:00", "2026-12-04T05:00", "2026-12-04T22:00", "2026-12-05T05:59"
    )

    assert inside == [False, False, True, True]


def test_periods_that_follow_each_other_end_together() -> None:
    """A whole Sunday is quiet until Monday begins, a whole weekend too; all week never ends."""
    sunday, weekend = period("00:00", "24:00", "sun"), period("00:00", "24:00", "sat", "sun")

    assert sunday.until_ms("UTC", at("2026-12-06T10:00")) == at("2026-12-07T00:00")
    assert weekend.until_ms("UTC", at("2026-12-05T10:00")) == at("2026-12-07T00:00")
    assert period("00:00", "24:00").until_ms("UTC", at("2026-12-05T10:00")) is not None


def test_an_hour_that_comes_twice_is_inside_both_times() -> None:
    """On 25 October 2026 clocks in Zurich go from 3:00 to 2:00: what ends at 2:30 ends at the second one."""
    until, since = period("22:00", "02:30"), period("02:30", "08:00")

    ends = quiet(
        until, ZURICH, "2026-10-25T00:29", "2026-10-25T00:45", "2026-10-25T01:29", "2026-10-25T01:30"
    )
    begins = quiet(
        since, ZURICH, "2026-10-25T00:29", "2026-10-25T00:30", "2026-10-25T01:15", "2026-10-25T07:00"
    )

    assert ends == [True, True, True, False]
    assert begins == [False, True, True, False]


def test_a_time_that_clocks_skip_is_when_they_skip_it() -> None:
    """On 29 March 2026 clocks in Zurich go from 2:00 to 3:00."""
    until, since = period("22:00", "02:30"), period("02:30", "08:00")

    ends = quiet(until, ZURICH, "2026-03-29T00:59", "2026-03-29T01:00")
    begins = quiet(
        since, ZURICH, "2026-03-29T00:59", "2026-03-29T01:00", "2026-03-29T05:59", "2026-03-29T06:00"
    )

    assert ends == [True, False]
    assert begins == [False, True, True, False]


def test_half_an_hour_and_a_whole_day_are_skipped_right_too() -> None:
    """Lord Howe moves by 30 minutes; Samoa had no 30 December 2011."""
    skipped = period("02:15", "03:00")

    assert quiet(skipped, LORD_HOWE, "2026-10-03T15:29", "2026-10-03T15:30", "2026-10-03T16:00") == [
        False, True, False,
    ]  # fmt: skip
    assert quiet(period("09:00", "17:00", "fri"), APIA, "2011-12-29T20:00", "2011-12-30T20:00") == [
        False,
        False,
    ]


@given(
    st.sampled_from([ZURICH, NEW_YORK, LORD_HOWE, "Asia/Kolkata", "America/Santiago", "Africa/Casablanca"]),
    st.integers(at("2000-01-01T00:00") // MINUTE_MS, at("2035-01-01T00:00") // MINUTE_MS),
    st.integers(0, 1439),
    st.integers(1, 1440),
)
def test_away_from_changes_the_clock_on_the_wall_decides(
    zone: str, minute: int, begins: int, ends: int
) -> None:
    """Where the offset stood for a day before and after, an instant is inside where its wall time is."""
    at_ms, place = minute * MINUTE_MS, ZoneInfo(zone)
    offsets = {
        dt.datetime.fromtimestamp(at_ms / 1000 + hours * 3600, place).utcoffset() for hours in range(-30, 31)
    }
    if len(offsets) > 1 or begins == ends % 1440:
        return
    local = dt.datetime.fromtimestamp(at_ms / 1000, place)
    shown = local.hour * 60 + local.minute

    inside = DailyPeriod(begins, ends, EVERY_DAY).until_ms(zone, at_ms) is not None

    assert inside == (begins <= shown < ends if begins < ends else shown >= begins or shown < ends)


def test_a_zone_that_nobody_knows_is_said_so() -> None:
    """Whoever asks about it all the same gets UTC."""
    night = period("21:00", "08:00")

    known = [night.knows(name) for name in (ZURICH, "Europe/Zurch", "", "../etc/passwd", "Europe")]

    assert known == [True, False, False, False, False]
    assert night.clock("Nowhere", at("2026-12-01T21:30")) == "2026-12-01 21:30"
    assert night.clock(ZURICH, at("2026-12-01T21:30")) == "2026-12-01 22:30"


def test_a_local_time_with_its_zone_is_an_instant() -> None:
    """As suites write it; with an offset where the hour comes twice."""
    assert instant_in_zone("2026-11-10T22:30[Europe/Zurich]") == at("2026-11-10T21:30")
    assert instant_in_zone("2026-10-25T02:30+02:00[Europe/Zurich]") == at("2026-10-25T00:30")
    assert instant_in_zone("2026-10-25T02:30+01:00[Europe/Zurich]") == at("2026-10-25T01:30")
    assert instant_in_zone("2026-11-10T22:30Z") is None
    assert instant_in_zone("2026-11-10T22:30[Europe/Zurch]") is None


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("2026-10-25T02:30[Europe/Zurich]", "show that time twice"),
        ("2026-03-29T02:30[Europe/Zurich]", "skip that time"),
        ("2026-11-10T22:30+02:00[Europe/Zurich]", "do not have that offset"),
        ("2026-31-10T22:30[Europe/Zurich]", "month must be in 1..12"),
    ],
)
def test_a_local_time_that_is_none_is_refused(written: str, why: str) -> None:
    """With what is wrong with it."""
    with pytest.raises(ValueError, match=why):
        instant_in_zone(written)
