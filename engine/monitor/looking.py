"""Looks at one decision in so many on its way: how long each step takes, and which stage removes what.

Of most decisions this costs a turn of an iterator. One that is looked at pays some 40 us at its end.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator
from itertools import cycle, repeat
from time import perf_counter
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram

from engine.core.steps import Step
from engine.domain import Decision, Stage

BUCKETS_S: Final = (
    0.000_005, 0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.01, 0.05, 0.25,
)  # fmt: skip
"""Limits of the histograms of steps: some take microseconds, one that waits for a store milliseconds."""

_MODELS: Final = {Step.CHURN: "churn", Step.PROPENSITY: "propensity"}
_STORE: Final = {Step.RESOLVE: "resolve", Step.FETCH: "read", Step.HOLD: "hold"}


def one_in(every: int) -> Iterator[bool]:
    """True for the first of `every` turns, without end; never for 0. A turn is atomic."""
    return cycle((True, *repeat(False, every - 1))) if every else repeat(False)


class Traced(Protocol):
    """A call whose steps are to be told elsewhere as well."""

    def decided(self, look: DecisionLook, decision_id: str, channel: str, decision: Decision) -> None:
        """A decision of the call has ended; must neither wait nor raise."""
        ...


class StepTimes:
    """The metrics of decisions that are looked at."""

    def __init__(self, registry: CollectorRegistry, *, every: int) -> None:
        self._turns = one_in(every)
        self._steps = Histogram(
            "arbiter_step_seconds",
            "Time of a step of a decision, in seconds; one decision in so many is timed.",
            ["step"],
            buckets=BUCKETS_S,
            registry=registry,
        )
        self._models = Histogram(
            "arbiter_model_seconds",
            "Time to score a customer with a model, in seconds; of decisions that are timed.",
            ["model"],
            buckets=BUCKETS_S,
            registry=registry,
        )
        self._store = Histogram(
            "arbiter_store_seconds",
            "Time that the store takes for a decision, in seconds; of decisions that are timed.",
            ["operation"],
            buckets=BUCKETS_S,
            registry=registry,
        )
        self._suppressed = Counter(
            "arbiter_suppressed_actions",
            "Actions that a stage removed, in decisions that are timed.",
            ["stage"],
            registry=registry,
        )
        self._timing_steps = {step: self._steps.labels(step.value).observe for step in Step}
        self._timing_models = {step: self._models.labels(name).observe for step, name in _MODELS.items()}
        self._timing_store = {step: self._store.labels(name).observe for step, name in _STORE.items()}
        self._counting = {stage: self._suppressed.labels(stage.value).inc for stage in Stage}

    def look(self, traced: Traced | None = None) -> DecisionLook | None:
        """Who looks at the next decision; None where it is not its turn and nobody traces it."""
        turn = next(self._turns)
        return DecisionLook(self if turn else None, traced) if turn or traced is not None else None

    def observe(self, took_s: dict[Step, float], decision: Decision) -> None:
        """Counts a decision whose steps took so long."""
        for step, seconds in took_s.items():
            self._timing_steps[step](seconds)
            for timing in (self._timing_models, self._timing_store):
                if step in timing:
                    timing[step](seconds)
        for stage, count in Tally(fate.stage for fate in decision.suppressed).items():
            self._counting[stage](count)


class DecisionLook:
    """Implements `engine.service.watching.Look`: notes when steps end, and tells of them when all is done."""

    __slots__ = ("_times", "_traced", "began", "passings")

    def __init__(self, times: StepTimes | None, traced: Traced | None) -> None:
        self._times = times
        self._traced = traced
        self.passings: list[tuple[Step, float]] = []
        self.began = perf_counter()

    def passed(self, step: Step) -> None:
        """A step has ended."""
        self.passings.append((step, perf_counter()))

    def ended(self, decision_id: str, channel: str, decision: Decision) -> None:
        """All is done."""
        if self._times is not None:
            self._times.observe(self._took_s(), decision)
        if self._traced is not None:
            self._traced.decided(self, decision_id, channel, decision)

    def _took_s(self) -> dict[Step, float]:
        """Seconds of each step; of one that ended twice, together."""
        took: dict[Step, float] = {}
        last = self.began
        for step, ended in self.passings:
            took[step] = took.get(step, 0.0) + ended - last
            last = ended
        return took
