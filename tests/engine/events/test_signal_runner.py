"""Signals that cannot be evaluated for one customer cost nobody else theirs, and are tried again later."""

from __future__ import annotations

from collections.abc import Iterable

from engine.bootstrap import Application, wall_clock_ms
from engine.events.applying import apply_events, postpone_signals
from engine.events.evaluating import SignalRunner
from engine.events.raw import RawEvent
from engine.schemas_kept import event_rules
from engine.signals.errors import SignalsUnavailable
from engine.signals.evaluator import Customer
from engine.signals.patterns import SignalPatterns
from feature_store.state import CustomerRecord, Signal


class Troubled:
    """An evaluator whose worker dies of one customer."""

    def __init__(self, patterns: SignalPatterns) -> None:
        self.version = patterns.version

    def evaluate_many(self, customers: Iterable[Customer], now_ms: int) -> list[tuple[Signal, ...]]:
        names = [name for name, _ in customers]
        if "deadly" in names:
            raise SignalsUnavailable("the worker died twice")
        return [(Signal("fine", True, now_ms, now_ms + 1),) for _ in names]

    def close(self) -> None:
        """Nothing runs."""


def test_one_deadly_customer_takes_no_signals_from_others(company: Application) -> None:
    """Each is asked about alone where a batch fails; whose signals are not known is due again in minutes."""
    rules = event_rules(company.settings, company.live.current)
    now_ms = wall_clock_ms()
    raw = RawEvent("e", "complaint_opened", "any", None, None, {}, now_ms)
    made = apply_events(rules, CustomerRecord(), [rules.check.check(raw, "any")], now_ms=now_ms)
    assert made.unsettled is not None
    assert made.change is not None

    with SignalRunner(Troubled) as runner:
        found = runner.evaluate(rules, dict.fromkeys(("one", "deadly", "two"), made.unsettled))
    record = CustomerRecord(stream=made.change.stream or b"")
    later = postpone_signals(rules, record, made.unsettled, until_ms=now_ms + 300_000)

    assert {name: None if told is None else len(told) for name, told in found.items()} == {
        "one": 1,
        "deadly": None,
        "two": 1,
    }
    assert made.change.due_at_ms == now_ms
    assert later is not None
    assert later.due_at_ms == now_ms + 300_000
    assert postpone_signals(rules, CustomerRecord(), made.unsettled, until_ms=1) is None
