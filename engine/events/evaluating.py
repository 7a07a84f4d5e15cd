"""Signals of customers whose events changed, by the evaluator of the rules that are live."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Protocol, Self

import structlog

from engine.events.applying import EventRules, Unsettled
from engine.events.relevance import told
from engine.signals.errors import SignalsUnavailable
from engine.signals.evaluator import Customer, SignalEvaluator
from engine.signals.patterns import SignalPatterns
from feature_store.state import Signal

_log = structlog.get_logger("engine.events")

Found = Mapping[str, tuple[Signal, ...] | None]
"""Signals by customer; None where they could not be evaluated."""


class Evaluator(Protocol):
    """Evaluates one version of a rule set's signals."""

    @property
    def version(self) -> str:
        """Content address of the patterns."""
        ...

    def evaluate_many(self, customers: Iterable[Customer], now_ms: int) -> list[tuple[Signal, ...]]:
        """The signals of many customers, in their order. Raises SignalsUnavailable."""
        ...

    def close(self) -> None:
        """Ends what it runs."""
        ...


class SignalRunner:
    """Holds one evaluator, and another one when the rules change. Safe for threads, which take turns."""

    def __init__(self, make: Callable[[SignalPatterns], Evaluator] = SignalEvaluator) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._evaluator: Evaluator | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def prepare(self, rules: EventRules) -> None:
        """Starts the worker."""
        nobody = Unsettled((), 0, b"")
        self.evaluate(rules, {"": nobody})

    def evaluate(self, rules: EventRules, customers: Mapping[str, Unsettled]) -> Found:
        """Signals of every customer. Where a batch fails, each customer is asked about alone."""
        found: dict[str, tuple[Signal, ...] | None] = {}
        by_instant: dict[int, list[str]] = {}
        for name, unsettled in customers.items():
            by_instant.setdefault(unsettled.now_ms, []).append(name)
        with self._lock:
            evaluator = self._of(rules)
            for now_ms, names in by_instant.items():
                found |= _evaluated(evaluator, {name: customers[name] for name in names}, now_ms)
        return found

    def close(self) -> None:
        """Ends the worker."""
        with self._lock:
            self._drop()

    def _of(self, rules: EventRules) -> Evaluator:
        if self._evaluator is None or self._evaluator.version != rules.patterns.version:
            self._drop()
            self._evaluator = self._make(rules.patterns)
        return self._evaluator

    def _drop(self) -> None:
        if self._evaluator is not None:
            self._evaluator.close()
            self._evaluator = None


def _evaluated(
    evaluator: Evaluator, customers: Mapping[str, Unsettled], now_ms: int
) -> dict[str, tuple[Signal, ...] | None]:
    asked = [(name, told(unsettled.events)) for name, unsettled in customers.items()]
    try:
        return dict(zip(customers, evaluator.evaluate_many(asked, now_ms), strict=True))
    except SignalsUnavailable as error:
        if len(customers) > 1:
            alone = (_evaluated(evaluator, {name: one}, now_ms) for name, one in customers.items())
            return {name: signals for found in alone for name, signals in found.items()}
        _log.error("events.signals_unavailable", error=str(error), advice="they are tried again later")
        return dict.fromkeys(customers)
