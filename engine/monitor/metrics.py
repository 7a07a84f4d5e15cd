"""What a server counts and times, for Prometheus. docs/monitoring.md tells people what each metric is for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

RULES_INFO: Final = "arbiter_rules_info"
MODELS_INFO: Final = "arbiter_models_info"
BUCKETS_S: Final = (0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5)
"""Limits of the latency histogram: fine about the millisecond that a decision takes."""


class Metrics:
    """Implements `engine.service.watching.Watch`. Safe for threads; the values of processes add up.

    A call or decision costs a few microseconds: what labels lead to is looked up once.
    """

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # they double the series; nobody reads them
        self.registry = CollectorRegistry()
        self._calls = self._counter(
            "arbiter_rpc_calls", "Calls answered, by method and gRPC status code.", "method", "code"
        )
        self._seconds = Histogram(
            "arbiter_rpc_seconds",
            "Time from the handler's start of a call to its answer, in seconds.",
            ["method"],
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self._decisions = self._counter(
            "arbiter_decisions", "Decisions logged, with an action or with none.", "channel", "outcome"
        )
        self._degraded = self._counter(
            "arbiter_degraded", "Decisions made with less than all, by what they did without.", "by"
        )
        self._unrecorded = self._counter(
            "arbiter_unrecorded_decisions", "Decisions that the log did not take at once.", "outcome"
        )
        self._reloads = self._counter("arbiter_rules_reloads", "Rules and models loaded anew and served.")
        self._failures = self._counter(
            "arbiter_rules_reload_failures", "Rules or models refused; those before go on serving."
        )
        self._successful = self._gauge(
            "arbiter_rules_last_reload_successful", "0 while any process has refused what it should serve."
        )
        self._checkpoint_failures = self._counter(
            "arbiter_checkpoint_failures",
            "Times the head of a hash chain could not be noted outside its log.",
        )
        self._checkpointed = self._gauge(
            "arbiter_last_checkpoint_successful", "0 while any process cannot note the heads of its chains."
        )
        self._info = self._gauge(RULES_INFO, "1 for each version of the rules that serves.", "version")
        self._models_info = self._gauge(
            MODELS_INFO, "1 for each version of a model that scores all but shares.", "model", "version"
        )
        self._model_switches = self._counter(
            "arbiter_models_switches", "Times other model versions or shares were taken up."
        )
        self._model_refusals = self._counter(
            "arbiter_models_refused", "Versions refused; what scored before goes on.", "model"
        )
        self._shadow_scores = self._counter(
            "arbiter_models_shadow_decisions", "Decisions in the shadow of a model.", "model", "result"
        )
        self._rollout_changes = self._counter(
            "arbiter_rollout_changes", "Changes that rollouts made by themselves.", "model", "change"
        )
        self._rules = ""
        self._models: Mapping[str, int] = {}
        self._switching = threading.Lock()
        self._counting_calls: dict[tuple[str, str], tuple[Callable[[], None], Callable[[float], None]]] = {}
        self._counting_decisions: dict[tuple[str, str], Callable[[], None]] = {}
        self._successful.set(1)
        self._checkpointed.set(1)

    def _counter(self, name: str, told: str, *labels: str) -> Counter:
        return Counter(name, told, labels, registry=self.registry)

    def _gauge(self, name: str, told: str, *labels: str) -> Gauge:
        """Of several processes what one serves counts, and what one failed in; the dead do not count."""
        mode: Literal["livemax", "livemin"] = "livemax" if labels else "livemin"
        return Gauge(name, told, labels, registry=self.registry, multiprocess_mode=mode)

    def called(self, method: str, code: str, seconds: float) -> None:
        """A call was answered."""
        counting = self._counting_calls.get((method, code))
        if counting is None:
            counted, timed = self._calls.labels(method, code), self._seconds.labels(method)
            counting = self._counting_calls[method, code] = counted.inc, timed.observe
        counting[0]()
        counting[1](seconds)

    def decided(self, channel: str, outcome: str) -> None:
        """A decision was logged."""
        counting = self._counting_decisions.get((channel, outcome))
        if counting is None:
            counting = self._decisions.labels(channel, outcome).inc
            self._counting_decisions[channel, outcome] = counting
        counting()

    def degraded(self, by: str) -> None:
        """A decision did without something."""
        self._degraded.labels(by).inc()

    def unrecorded(self, outcome: str) -> None:
        """What became of a decision that the log did not take."""
        self._unrecorded.labels(outcome).inc()

    def serving(self, rules: str) -> None:
        """A version of the rules serves from now on."""
        with self._switching:
            if self._rules:
                self._info.labels(self._rules).set(0)
            self._info.labels(rules).set(1)
            self._rules = rules

    def reloaded(self, *, well: bool) -> None:
        """Rules and models were loaded anew, or refused."""
        (self._reloads if well else self._failures).inc()
        self._successful.set(int(well))

    def checkpointed(self, *, well: bool) -> None:
        """The heads of the hash chains were noted outside the logs, or those of one could not be."""
        if not well:
            self._checkpoint_failures.inc()
        self._checkpointed.set(int(well))

    def scoring(self, models: Mapping[str, int]) -> None:
        """These versions of models score from now on."""
        with self._switching:
            for model, version in self._models.items():
                self._models_info.labels(model, str(version)).set(0)
            for model, version in models.items():
                self._models_info.labels(model, str(version)).set(1)
            self._models = dict(models)

    def models_switched(self) -> None:
        """Other versions or shares were taken up."""
        self._model_switches.inc()

    def model_refused(self, model: str) -> None:
        """A version was to serve and cannot."""
        self._model_refusals.labels(model).inc()

    def shadow_scored(self, model: str, result: str) -> None:
        """What became of a decision in a model's shadow."""
        self._shadow_scores.labels(model, result).inc()

    def rollout_changed(self, model: str, kind: str) -> None:
        """A rollout was changed by this process."""
        self._rollout_changes.labels(model, kind).inc()
