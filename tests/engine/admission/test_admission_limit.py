"""How many calls are let in: by what waiting would cost, and by how urgent they are."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import cycle, islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.service.admission import MOST, AdmissionLimit, Priority

WAIT_S = 0.025
SERVERS = 4
_TO_LEARN = 100


def busy(
    limit: AdmissionLimit,
    *,
    gap_s: float,
    answers: int,
    now_s: float = 0.0,
    of: Sequence[Priority] = (Priority.BATCH,),
) -> float:
    """Answers so many calls at that pace, with always as many waiting as are let in; gives the time then.

    `of` are their priorities in turns.
    """
    for priority in islice(cycle(of), answers):
        while limit.admits(Priority.CALL_CENTRE):
            limit.enter()
        now_s += gap_s
        limit.leave(priority, now_s)
    return now_s


def empty(
    limit: AdmissionLimit, *, gap_s: float, now_s: float, of: Sequence[Priority] = (Priority.BATCH,)
) -> None:
    """Answers all that is in flight, at that pace."""
    for priority in islice(cycle(of), limit.in_flight):
        now_s += gap_s
        limit.leave(priority, now_s)


def let_in(limit: AdmissionLimit, priority: Priority) -> int:
    """How many calls of a priority come in until one is refused."""
    count = 0
    while limit.admits(priority):
        limit.enter()
        count += 1
    return count


@pytest.mark.parametrize("gap_s", [0.000_2, 0.001, 0.002, 0.004])
def test_limit_is_what_can_be_answered_in_the_time_one_may_wait(gap_s: float) -> None:
    """Calls in flight times the time between answers is the wait."""
    limit = AdmissionLimit(wait_s=WAIT_S, servers=SERVERS)

    busy(limit, gap_s=gap_s, answers=200)

    assert limit.limit * gap_s == pytest.approx(WAIT_S, rel=0.1, abs=gap_s)


def test_answers_between_which_nobody_waited_teach_nothing() -> None:
    """A quiet hour is no sign of a slow server."""
    limit = AdmissionLimit(wait_s=WAIT_S, servers=SERVERS)
    before = limit.limit

    for minute in range(60):
        limit.enter()
        limit.leave(Priority.CALL_CENTRE, 60.0 * minute)

    assert limit.limit == before


def test_limit_follows_a_service_that_gets_slow_and_quick_again() -> None:
    """Within a hundred answers, both ways; three times over."""
    limit, now_s = AdmissionLimit(wait_s=WAIT_S, servers=SERVERS), 0.0

    for _ in range(3):
        now_s = busy(limit, gap_s=0.010, answers=100, now_s=now_s)
        slow = limit.limit
        now_s = busy(limit, gap_s=0.000_5, answers=100, now_s=now_s)

        assert slow == SERVERS + SERVERS // 2
        assert limit.limit >= 40


def test_one_stall_is_over_when_it_is_seen() -> None:
    """A pause of a second leaves room for most of what was let in before."""
    limit = AdmissionLimit(wait_s=WAIT_S, servers=SERVERS)
    now_s = busy(limit, gap_s=0.001, answers=200)
    before = limit.limit

    busy(limit, gap_s=1.0, answers=1, now_s=now_s)

    assert limit.limit > before // 2


def test_service_that_cannot_be_slower_still_serves() -> None:
    """As many as there are threads, never fewer: none of them waits for another."""
    limit = AdmissionLimit(wait_s=WAIT_S, servers=SERVERS)

    empty(limit, gap_s=30.0, now_s=busy(limit, gap_s=30.0, answers=200))

    assert let_in(limit, Priority.WEB) == SERVERS


def test_service_of_no_time_has_a_limit_too() -> None:
    """Each call holds its request in memory."""
    limit = AdmissionLimit(wait_s=10.0, servers=SERVERS)

    busy(limit, gap_s=0.0, answers=2_000)

    assert limit.limit == MOST


def test_urgent_calls_have_room_that_others_cannot_take() -> None:
    """Batches fill less than half, the web most, and the call centre still comes in."""
    limit = AdmissionLimit(wait_s=WAIT_S, servers=SERVERS)
    empty(limit, gap_s=0.001, now_s=busy(limit, gap_s=0.001, answers=200))

    taken = [let_in(limit, priority) for priority in (Priority.BATCH, Priority.WEB, Priority.CALL_CENTRE)]

    assert taken == pytest.approx([10, 10, 5], abs=1)


@pytest.mark.parametrize(("urgent", "share"), [(0, 0.8), (1, 0.75), (2, 0.5), (3, 0.25)])
def test_who_is_passed_by_the_more_urgent_has_the_room_that_they_leave(urgent: int, share: float) -> None:
    """Of four answers so many to the call centre: a page waits for its own and for those who pass it."""
    limit = AdmissionLimit(wait_s=WAIT_S, servers=SERVERS)
    answered = [Priority.CALL_CENTRE] * urgent + [Priority.WEB] * (4 - urgent)

    now_s = busy(limit, gap_s=0.000_1, answers=400, of=answered)
    empty(limit, gap_s=0.000_1, now_s=now_s, of=answered)

    assert let_in(limit, Priority.BATCH) <= 0.13 * limit.limit  # not none: at last there were threads free
    assert limit.in_flight + let_in(limit, Priority.WEB) == pytest.approx(250 * share, abs=13)


def test_room_is_back_as_soon_as_there_is_time() -> None:
    """After a flood that left nothing for batches, as many answers as fill two hundred ms of a calm."""
    limit = AdmissionLimit(wait_s=WAIT_S, servers=SERVERS)
    now_s = busy(limit, gap_s=0.001, answers=400, of=[Priority.CALL_CENTRE, Priority.WEB])
    empty(limit, gap_s=0.001, now_s=now_s, of=[Priority.WEB])
    flooded = let_in(limit, Priority.BATCH)
    empty(limit, gap_s=0.001, now_s=now_s)

    for _ in range(60):
        limit.enter()
        limit.leave(Priority.WEB, now_s)

    assert flooded == SERVERS // 2
    assert let_in(limit, Priority.BATCH) == pytest.approx(10, abs=1)


Steps = st.lists(
    st.tuples(st.sampled_from(Priority), st.booleans(), st.floats(0.0, 0.2)), min_size=1, max_size=300
)


@settings(max_examples=200, deadline=None)
@given(steps=Steps, wait_s=st.floats(0.001, 1.0), servers=st.integers(1, 16))
def test_never_more_than_the_limit_and_never_the_less_urgent_first(
    steps: list[tuple[Priority, bool, float]], wait_s: float, servers: int
) -> None:
    """Whatever comes and whatever answers take."""
    limit, inside, now_s = AdmissionLimit(wait_s=wait_s, servers=servers), deque[Priority](), 0.0

    for priority, answered, gap_s in steps:
        now_s += gap_s
        if answered and inside:
            limit.leave(inside.popleft(), now_s)
        admitted = [limit.admits(each) for each in Priority]
        assert admitted == sorted(admitted, reverse=True)
        if limit.admits(priority):
            assert len(inside) < limit.limit
            limit.enter()
            inside.append(priority)
        assert limit.in_flight == len(inside)


@settings(max_examples=100, deadline=None)
@given(gaps=st.lists(st.floats(0.0, 5.0), max_size=100))
def test_whatever_happened_the_limit_recovers(gaps: list[float]) -> None:
    """Two hundred answers at a millisecond each, and all is as if nothing had been."""
    limit, now_s = AdmissionLimit(wait_s=WAIT_S, servers=SERVERS), 0.0
    for gap_s in gaps:
        now_s = busy(limit, gap_s=gap_s, answers=1, now_s=now_s)

    busy(limit, gap_s=0.001, answers=300, now_s=now_s)

    assert 23 <= limit.limit <= 26


def simulated(offered: float, *, pace_s: float, seconds: float) -> tuple[float, float]:
    """Goodput, and the longest time from arrival to answer once the pace is learnt, of a server that takes
    `pace_s` for each call.
    """
    limit = AdmissionLimit(wait_s=WAIT_S, servers=1)
    waiting: deque[float] = deque()
    done, worst_s, free_s = 0, 0.0, 0.0
    for number in range(int(offered * seconds)):
        now_s = number / offered
        while waiting and max(free_s, waiting[0]) + pace_s <= now_s:
            came_s = waiting.popleft()
            free_s = max(free_s, came_s) + pace_s
            limit.leave(Priority.WEB, free_s)
            done += 1
            if done > _TO_LEARN:
                worst_s = max(worst_s, free_s - came_s)
        if limit.admits(Priority.WEB):
            limit.enter()
            waiting.append(now_s)
    return done / seconds, worst_s


@pytest.mark.parametrize("overload", [1.0, 2.0, 5.0, 20.0])
@pytest.mark.parametrize("pace_s", [0.000_3, 0.002, 0.008])
def test_goodput_does_not_fall_with_the_load_and_nobody_waits_long(overload: float, pace_s: float) -> None:
    """Where refusing costs nothing: the server is always at work, on calls that came just now."""
    goodput, worst_s = simulated(overload / pace_s, pace_s=pace_s, seconds=2.0)

    assert goodput >= 0.95 / pace_s
    assert worst_s <= WAIT_S + 2 * pace_s


def waited(urgent: float, *, overload: float, pace_s: float, seconds: float) -> float:
    """The time that 99 of 100 pages are answered in once the pace is learnt, where so much of what can be
    answered is asked by the call centre, and `overload` times that by pages.
    """
    limit, rng = AdmissionLimit(wait_s=WAIT_S, servers=1), np.random.default_rng(1)
    arrivals = sorted(
        [(at, Priority.CALL_CENTRE) for at in rng.uniform(0, seconds, int(urgent / pace_s * seconds))]
        + [(at, Priority.WEB) for at in rng.uniform(0, seconds, int(overload / pace_s * seconds))]
    )
    waiting: dict[Priority, deque[float]] = {priority: deque() for priority in Priority}
    took: list[float] = []
    free_s = 0.0
    for now_s, came in arrivals:
        while any(waiting.values()) and free_s + pace_s <= now_s:
            priority = next(each for each in Priority if waiting[each])
            came_s = waiting[priority].popleft()
            free_s += pace_s
            limit.leave(priority, free_s)
            if priority is Priority.WEB:
                took.append(free_s - came_s)
        if limit.admits(came):
            free_s = free_s if limit.in_flight else max(free_s, now_s)
            limit.enter()
            waiting[came].append(now_s)
    return float(np.percentile(took[_TO_LEARN:], 99))


@pytest.mark.parametrize("urgent", [0.0, 0.3, 0.5])
def test_pages_do_not_wait_long_for_a_call_centre_that_asks_much(urgent: float) -> None:
    """Who is let in is answered within twice the time that one may wait, by 99 of 100."""
    assert waited(urgent, overload=4.0, pace_s=0.001_5, seconds=20.0) <= 2 * WAIT_S
