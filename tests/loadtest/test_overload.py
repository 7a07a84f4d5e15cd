"""A client that throttles itself, and waves told from what came of their calls."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.overload import PRIORITIES, Scene, wave
from loadtest.profiles import load_profile
from loadtest.sending import HELD_BACK, Calls, Senders, Sent
from loadtest.throttle import MEMORY_S, SENT_PER_ANSWER, Throttle

OK, REFUSED = 0, grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]


def sent_and_answered(
    throttle: Throttle, *, asked: float, capacity: float, seconds: float
) -> tuple[int, int]:
    """Calls sent, and answered, by a server that answers so many a second and refuses the rest at once."""
    sent, answered, tokens = 0, 0, 0.0
    for number in range(int(asked * seconds)):
        now_s = number / asked
        tokens = min(5.0, tokens + capacity / asked)
        if throttle.admits(now_s):
            sent += 1
            if tokens >= 1.0:
                tokens -= 1.0
                answered += 1
                throttle.answered(now_s)
    return sent, answered


@pytest.mark.parametrize("times", [2.0, 5.0, 20.0])
def test_throttled_client_sends_little_more_than_is_answered(times: float) -> None:
    """And loses next to nothing of what the server can answer."""
    throttle = Throttle(random.Random(1))

    sent, answered = sent_and_answered(throttle, asked=1_000 * times, capacity=1_000, seconds=10)

    assert answered >= 0.95 * 10_000
    assert sent <= 1.15 * SENT_PER_ANSWER * 10_000


def test_throttled_client_sends_all_where_nothing_is_refused() -> None:
    """It costs nothing in quiet times."""
    throttle = Throttle(random.Random(1))

    sent, answered = sent_and_answered(throttle, asked=500, capacity=1_000, seconds=10)

    assert (sent, answered) == (5_000, 5_000)


def test_throttled_client_is_back_soon_after_a_wave() -> None:
    """Within a few times its memory it sends all again."""
    throttle = Throttle(random.Random(1))
    sent_and_answered(throttle, asked=5_000, capacity=1_000, seconds=5)

    for number in range(2_500):
        now_s = 5.0 + number / 500
        if throttle.admits(now_s):
            throttle.answered(now_s)

    assert all(throttle.admits(10.0) for _ in range(50))
    assert 4 * MEMORY_S < 5.0


@settings(max_examples=50, deadline=None)
@given(silence_s=st.floats(0.0, 60.0), seed=st.integers(0, 1 << 30))
def test_client_never_falls_silent_for_good(silence_s: float, seed: int) -> None:
    """After a server that answered nothing, some call soon tries."""
    throttle = Throttle(random.Random(seed))
    for number in range(500):
        throttle.admits(number / 500)

    later_s = 1.0 + silence_s
    tried = [throttle.admits(later_s + number / 100) for number in range(2_000)]

    assert any(tried)


class _Played(Senders):
    """Plays a server: `ends` gives code and milliseconds of each call by its instant in seconds."""

    def __init__(self, ends: Callable[[float, str], tuple[int, float]]) -> None:
        self._ends = ends

    def send(self, calls: Callable[[int], Calls]) -> list[Sent]:
        told = calls(0)
        ended = [
            self._ends(instant / 1e9, priority)
            for instant, priority in zip(told.instants.tolist(), told.priorities, strict=True)
        ]
        count = len(ended)
        return [
            Sent(
                told.instants,
                np.zeros(count, dtype=np.int64),
                np.array([round(ms * 1e6) for _, ms in ended], dtype=np.int64),
                np.array([code for code, _ in ended], dtype=np.int16),
                np.zeros(count, dtype=np.bool_),
                0.0,
            )
        ]


def scene(ends: Callable[[float, str], tuple[int, float]]) -> Scene:
    """A scene with a played server."""
    profile, folder = load_profile("company")
    return Scene(_Played(ends), profile, Path(folder), np.random.default_rng(1))


def test_wave_is_told_apart_from_the_calm_after_it() -> None:
    """And from what came before: rates are of the wave, recovery until nearly all are answered."""

    def ends(at_s: float, priority: str) -> tuple[int, float]:
        if at_s < 1.5:
            return (OK, 5.0)
        if at_s >= 1.6:
            return (REFUSED, 1.0) if at_s < 1.95 or 2.1 < at_s < 2.11 else (OK, 2.0)
        return (REFUSED, 1.0) if priority == "batch" else (OK, 20.0)

    found = wave(scene(ends), peak=1_000.0, times=5.0, seconds=0.1, before_s=0.5, calm_s=1.0)

    assert found.offered == pytest.approx(5_000, rel=0.2)
    assert found.goodput == pytest.approx(0.7 * found.offered, rel=0.05)
    assert found.refused == pytest.approx(0.3 * found.offered, rel=0.05)
    assert (found.admitted_p99_ms, found.refusal_p99_ms) == (20.0, 1.0)
    assert found.refused_by_priority == {"call-centre": 0.0, "web": 0.0, "batch": 1.0}
    assert found.recovered_s == pytest.approx(0.4)
    assert (found.lost, found.held_back) == (0.0, 0.0)
    assert found.at_peak == pytest.approx(1_200, rel=0.15)
    assert found.of_peak == found.goodput / found.at_peak


def test_calls_held_back_are_neither_refused_nor_lost() -> None:
    """They never reached the server, so they are in no share of what it refused."""
    found = wave(
        scene(lambda at_s, _: (HELD_BACK, 0.0) if at_s < 1.15 else (REFUSED, 1.0)),
        peak=1_000.0,
        times=2.0,
        seconds=0.1,
        before_s=0.1,
        calm_s=0.1,
    )

    assert found.held_back == pytest.approx(found.refused, rel=0.4)
    assert found.lost == 0.0
    assert set(found.refused_by_priority.values()) == {1.0}
    assert set(found.refused_by_priority) == set(PRIORITIES)
