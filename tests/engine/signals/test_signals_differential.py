"""durable-rules says what the reference evaluator says, for any signal and any history."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from engine_in_a_process import Asked
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from signal_examples import NOW_MS, histories, patterns_of, signals

from engine.signals.patterns import Event, SignalPattern
from engine.signals.reference import evaluate


@pytest.fixture(scope="module")
def asked() -> Iterator[Asked]:
    """One process for all examples."""
    process = Asked()
    yield process
    process.stop()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(signal=signals, events=histories)
def test_both_back_ends_agree(asked: Asked, signal: SignalPattern, events: list[Event]) -> None:
    """The same signal stands since the same instant, or neither does."""
    (expected,) = evaluate(patterns_of(signal), events, NOW_MS)

    end = asked.end_of(signal, events)

    assert (expected.since_ms - NOW_MS if expected.value else None) == end


@settings(max_examples=100, deadline=None)
@given(signal=signals, events=histories, seed=st.integers())
def test_order_and_duplicates_change_nothing(signal: SignalPattern, events: list[Event], seed: int) -> None:
    """A history that comes shuffled and twice is the same history."""
    shuffled = [*events, *events]
    Random(seed).shuffle(shuffled)

    assert evaluate(patterns_of(signal), events, NOW_MS) == evaluate(patterns_of(signal), shuffled, NOW_MS)
