"""What breaks durable-rules used plainly does not break signals."""

from __future__ import annotations

import os
import signal as os_signal
from collections.abc import Callable
from pathlib import Path

import pytest
from signal_examples import HOUR_MS, NOW_MS, NUMBER, TEXT, at, patterns_of, stands

from engine.signals.errors import SignalsUnavailable
from engine.signals.evaluator import SignalEvaluator
from engine.signals.history import MAX_EVENTS
from engine.signals.patterns import (
    AllPattern,
    AnyPattern,
    Comparison,
    CountPattern,
    Event,
    EventPattern,
    SequencePattern,
    SignalPattern,
)
from engine.signals.program import ProgramRefused, compile_signal, lint
from engine.signals.reference import evaluate

Opening = Callable[..., SignalEvaluator]
LOGIN, PAYMENT = EventPattern("login"), EventPattern("payment")


def _names(evaluator: SignalEvaluator, events: list[Event]) -> list[str]:
    return [signal.name for signal in evaluator.evaluate("C1", events, NOW_MS) if signal.value]


def test_more_customers_than_a_rule_set_has_states(opened: Opening) -> None:
    """1,025 customers in a row, one more than durable-rules holds ids of, each get their own answer."""
    evaluator = opened(patterns_of(stands(CountPattern(LOGIN, 2, HOUR_MS))))
    customers = [(f"C{n}", at("login", 1, *([2] if n % 2 else []))) for n in range(1_025)]

    answers = evaluator.evaluate_many(customers, NOW_MS)

    assert [bool(n % 2) for n in range(1_025)] == [signal.value for (signal,) in answers]


def test_more_signals_of_one_event_than_may_match_together(opened: Opening) -> None:
    """65 signals and more that one event raises all stand."""
    signals = [stands(LOGIN, name=f"s{n}") for n in range(70)]

    assert [s.id for s in signals] == _names(opened(patterns_of(*signals)), at("login", 5))


def test_ids_with_one_hash_are_different_ids(opened: Opening) -> None:
    """Customers and events whose ids collide in 32 bits, as durable-rules hashes them, stay apart."""
    first, second = _colliding()
    evaluator = opened(patterns_of(stands(CountPattern(LOGIN, 2, HOUR_MS))))
    twice = [Event(first, "login", NOW_MS - 2), Event(second, "login", NOW_MS - 1)]

    answers = evaluator.evaluate_many([(first, twice), (second, twice[:1])], NOW_MS)

    assert [signal.value for (signal,) in answers] == [True, False]


def _colliding() -> tuple[str, str]:
    """Two ids with the same FNV-1 hash of 32 bits, found among the first few hundred thousand."""
    seen: dict[int, str] = {}
    for n in range(1_000_000):
        name = f"customer-{n}"
        hashed = 2166136261
        for byte in name.encode():
            hashed = (hashed * 16777619) % 2**32 ^ byte
        if hashed in seen:
            return seen[hashed], name
        seen[hashed] = name
    raise AssertionError("no two ids collide")


@pytest.mark.parametrize("value", [1e-05, 1e300, 5e-324, 10**30, 2**63])
def test_numbers_the_engine_refuses_never_reach_it(opened: Opening, value: float) -> None:
    """A number written 1e-05, or beyond 64 bits, is compared like any other."""
    above = EventPattern("payment", (Comparison("amount", NUMBER, "above", 0.0),))

    assert _names(opened(patterns_of(stands(above))), at("payment", 1, amount=value)) == ["it"]


@pytest.mark.parametrize(
    "text", ["1", "", "ä", "a\u0308", "\U0001f600", '"}\\', "\x00", "\ud800", "x" * 100_000]
)
def test_text_is_text(opened: Opening, text: str) -> None:
    """Any text equals itself and nothing else: not a number that looks like it, nor another writing of it."""
    same = EventPattern("call", (Comparison("place", TEXT, "equals", text),))
    evaluator = opened(patterns_of(stands(same)))

    assert _names(evaluator, at("call", 1, place=text)) == ["it"]
    assert _names(evaluator, at("call", 1, place=1) + at("call", 2, place=text + " ")) == []


def test_events_out_of_order_and_twice(opened: Opening) -> None:
    """Three failed payments that arrive late, backwards and twice are three."""
    evaluator = opened(patterns_of(stands(CountPattern(PAYMENT, 3, HOUR_MS), name="three")))
    three = at("payment", 30, 20, 10)

    assert _names(evaluator, [*three[:2], *three[:2]]) == []
    assert _names(evaluator, [*reversed(three), *three]) == ["three"]


def test_counts_above_sixty_four(opened: Opening) -> None:
    """A count of 100 stands with 100 events and not with 99."""
    evaluator = opened(patterns_of(stands(CountPattern(LOGIN, 100, HOUR_MS))))

    assert _names(evaluator, at("login", *range(99))) == []
    assert _names(evaluator, at("login", *range(100))) == ["it"]


def test_a_customer_with_very_many_events_costs_bounded_time(opened: Opening) -> None:
    """Only the newest events count, however many come, and three steps over all of them end in time."""
    steps = SequencePattern((LOGIN, LOGIN, LOGIN), 10**6)
    evaluator = opened(patterns_of(stands(steps)), time_limit_s=60.0)
    events = at("login", *range(20 * MAX_EVENTS))

    (signal,) = evaluator.evaluate("C1", events, NOW_MS)

    assert (signal.value, signal.since_ms) == (True, NOW_MS)


def test_a_deep_pattern_is_evaluated(opened: Opening) -> None:
    """Parts of parts of parts are spans like any other."""
    inner = AllPattern((CountPattern(LOGIN, 2, 50), AnyPattern((PAYMENT, EventPattern("call")))), 60)
    signal = stands(SequencePattern((inner, PAYMENT), 100))
    events = at("login", 90, 70) + at("call", 60) + at("payment", 20)

    assert evaluate(patterns_of(signal), events, NOW_MS) == opened(patterns_of(signal)).evaluate(
        "C1", events, NOW_MS
    )


def test_a_worker_does_not_grow(opened: Opening) -> None:
    """Ten thousand evaluations, matches or none, leave the worker as large as the first 2,000 did."""
    evaluator = opened(patterns_of(stands(CountPattern(LOGIN, 2, HOUR_MS))))
    customers = [("C1", at("login", *range(1 + n % 2))) for n in range(2_000)]
    evaluator.evaluate_many(customers, NOW_MS)
    before = _pages(evaluator)

    for _ in range(5):
        evaluator.evaluate_many(customers, NOW_MS)

    assert _pages(evaluator) - before < 500


def _pages(evaluator: SignalEvaluator) -> int:
    """Memory of the worker, in pages of 4 KiB."""
    assert evaluator._worker is not None
    return int(Path(f"/proc/{evaluator._worker.process.pid}/statm").read_text().split()[1])


def test_a_worker_that_was_killed_is_replaced(opened: Opening) -> None:
    """The question that found the worker dead is answered by a new one."""
    evaluator = opened(patterns_of(stands(LOGIN)))
    _names(evaluator, at("login", 1))
    first = evaluator._worker
    assert first is not None
    first.process.kill()
    first.process.join()

    assert _names(evaluator, at("login", 1)) == ["it"]


def test_a_worker_that_hangs_is_replaced(opened: Opening) -> None:
    """A question that takes too long is refused in time, and the next one is answered."""
    evaluator = opened(patterns_of(stands(LOGIN)), time_limit_s=1.0)
    _names(evaluator, at("login", 1))
    stopped = evaluator._worker
    assert stopped is not None
    assert stopped.process.pid is not None
    _stop(stopped.process.pid)

    with pytest.raises(SignalsUnavailable, match="within 1 s"):
        evaluator.evaluate("C1", at("login", 1), NOW_MS)

    assert _names(evaluator, at("login", 1)) == ["it"]


def _stop(pid: int) -> None:
    os.kill(pid, os_signal.SIGSTOP)


def test_a_worker_is_recycled(opened: Opening) -> None:
    """After its share of evaluations a worker makes room for a new one, and nobody notices."""
    evaluator = opened(patterns_of(stands(LOGIN)), recycle_after=2)
    workers = set()

    for _ in range(5):
        assert _names(evaluator, at("login", 1)) == ["it"]
        assert evaluator._worker is not None
        workers.add(evaluator._worker.process.pid)

    assert len(workers) == 3


@pytest.mark.parametrize(
    "definition",
    [
        {"r": {"all": [{"m": {"$nex": {"x": 1}}}]}},
        {"r": {"all": [{"m": {"x": {"$div": {"$l": {"a": "x"}, "$r": 0}}}}]}},
        {"r": {"all": [{"m": {"n": 1}}, {"b$not": {"n": 2}}]}},
        {"r": {"all": [{"m": {"x": 1e-05}}]}},
    ],
)
def test_what_is_not_safe_is_refused(definition: object) -> None:
    """The lint refuses $nex, $div, negation and decimals wherever they stand."""
    with pytest.raises(ProgramRefused):
        lint(definition)


def test_a_pattern_larger_than_a_rule_set_is_refused() -> None:
    """A signal that would need more rules than durable-rules survives is refused before it is built."""
    wide = AnyPattern(tuple(AnyPattern((LOGIN,) * 16) for _ in range(16)))

    with pytest.raises(ProgramRefused, match="200 are allowed"):
        compile_signal(SignalPattern("wide", "too wide", 1, wide))
