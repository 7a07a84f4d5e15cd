"""What a server counts and times, for Prometheus. docs/monitoring.md tells people what each metric is for."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.samples import Sample

from engine.monitor.looking import DecisionLook, StepTimes, Traced, one_in
from engine.monitor.words import REASON, FewWords

RULES_INFO: Final = "arbiter_rules_info"
MODELS_INFO: Final = "arbiter_models_info"
BUCKETS_S: Final = (0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5)
"""Limits of the latency histogram: fine about the millisecond that a decision takes."""

FAULTS: Final = ("INTERNAL", "UNKNOWN", "UNAVAILABLE", "DATA_LOSS", "DEADLINE_EXCEEDED")
"""Status codes of calls that a caller did nothing wrong in."""

ALERTED: Final = (
    ("arbiter.v1.DecisionService/Decide", "DECISION_NOT_LOGGED"),
    ("arbiter.v1.DecisionService/DecideBatch", "DECISION_NOT_LOGGED"),
    ("arbiter.v1.ConsentService/RecordConsent", "CONSENT_NOT_RECORDED"),
)
"""Errors whose first one alerts somebody: an increase needs a value to increase from."""


class Metrics:
    """Implements `engine.service.watching.Watch`. Safe for threads; the values of processes add up.

    A call or decision costs a few microseconds: what labels lead to is looked up once.
    """

    def __init__(self, *, timed_every: int = 1, traced: Callable[[], Traced | None] | None = None) -> None:
        """The steps of the first in `timed_every` decisions are timed; with 0 of none.

        `traced` gives the traced call that is made now, if any.
        """
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
        self._waited = Histogram(
            "arbiter_rpc_wait_seconds",
            "Time that a call waited for a thread, in seconds; one call in so many is timed.",
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self._errors = self._counter(
            "arbiter_rpc_errors", "Calls and items of batches that ended in an error.", "method", "reason"
        )
        self._traced = traced
        self._reasons = FewWords(form=REASON, most=64)
        for method, reason in ALERTED:
            self._errors.labels(method, self._reasons.of(reason))
        self._steps = StepTimes(self.registry, every=timed_every)
        self._waits_timed = one_in(timed_every)
        self._in_flight: deque[None] = deque()  # one for each call: adding and taking are atomic and cheap
        self._decisions = self._counter(
            "arbiter_decisions", "Decisions logged, with an action or with none.", "channel", "outcome"
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
        self._shed = self._counter(
            "arbiter_shed_calls", "Calls turned away under load, by priority and why.", "priority", "reason"
        )
        self._degraded = self._counter(
            "arbiter_degraded_decisions", "Decisions that lacked something, by what kind of thing.", "by"
        )
        self._priorities, self._shed_reasons, self._lacks = FewWords(), FewWords(), FewWords()
        self._ready = Gauge(
            "arbiter_ready",
            "0 while any process cannot do the work of a service.",
            ["service"],
            registry=self.registry,
            multiprocess_mode="livemin",
        )
        self._reachable = self._gauge(
            "arbiter_store_reachable", "0 while the store does not answer some process."
        )
        self._answer = Gauge(
            "arbiter_store_answer_seconds",
            "How long the store took to answer a read, every few seconds; of processes the longest.",
            registry=self.registry,
            multiprocess_mode="livemax",
        )
        self._rereads = self._counter(
            "arbiter_security_rereads",
            "Files of TLS, tokens and roles read anew, or refused.",
            "what",
            "result",
        )
        self._certified = self._gauge(
            "arbiter_tls_certificate_expiry_seconds",
            "When a certificate that is served with ends, in seconds since the epoch.",
            "certificate",
        )
        self._exposed = self._gauge(
            "arbiter_exposed", "1 where other machines may call everything without a proof."
        )
        self._rules = ""
        self._models: Mapping[str, int] = {}
        self._switching = threading.Lock()
        self._counting_calls: dict[tuple[str, str], tuple[Callable[[], None], Callable[[float], None]]] = {}
        self._counting_decisions: dict[tuple[str, str], Callable[[], None]] = {}
        self._successful.set(1)
        self._checkpointed.set(1)
        self._reachable.set(1)

    def _counter(self, name: str, told: str, *labels: str) -> Counter:
        return Counter(name, told, labels, registry=self.registry)

    def _gauge(self, name: str, told: str, *labels: str) -> Gauge:
        """Of several processes what one serves counts, and what one failed in; the dead do not count."""
        mode: Literal["livemax", "livemin"] = "livemax" if labels else "livemin"
        return Gauge(name, told, labels, registry=self.registry, multiprocess_mode=mode)

    @property
    def in_flight(self) -> int:
        """Calls that are being handled now."""
        return len(self._in_flight)

    def started(self, waited_s: float) -> None:
        """A handler begins a call."""
        self._in_flight.append(None)
        if next(self._waits_timed):
            self._waited.observe(waited_s)

    def refused(self, method: str, reason: str) -> None:
        """A call ended in an error."""
        self._errors.labels(method, self._reasons.of(reason)).inc()

    def look(self) -> DecisionLook | None:
        """Looks at one decision in so many."""
        return self._steps.look() if self._traced is None else self._steps.look(self._traced())

    def called(self, method: str, code: str, seconds: float) -> None:
        """A call was answered."""
        with suppress(IndexError):  # who calls without `started` was never in flight
            self._in_flight.pop()
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
                self._model_refusals.labels(model)  # 0, for an alert on the first one
                self._rollout_changes.labels(model, "roll_back")
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

    def shed(self, priority: str, reason: str) -> None:
        """A call was turned away under load."""
        self._shed.labels(self._priorities.of(priority), self._shed_reasons.of(reason)).inc()

    def degraded(self, by: str) -> None:
        """A decision lacked something: only its kind is counted, as names of features and models are many."""
        self._degraded.labels(self._lacks.of(by.partition(":")[0])).inc()

    def ready(self, service: str, *, ready: bool) -> None:
        """Whether a service can do its work."""
        self._ready.labels(service).set(int(ready))

    def store_asked(self, seconds: float | None) -> None:
        """The store answered, or did not."""
        self._reachable.set(int(seconds is not None))
        if seconds is not None:
            self._answer.set(seconds)

    def security_reread(self, what: str, *, well: bool) -> None:
        """Certificates, roles or token keys were read anew, or refused."""
        self._rereads.labels(what, "read" if well else "refused").inc()

    def certified(self, *, until_s: float) -> None:
        """The server's certificate is valid until then."""
        self._certified.labels("server").set(until_s)

    def exposed(self, *, open_to_all: bool) -> None:
        """Whether other machines may call everything."""
        self._exposed.set(int(open_to_all))

    def totals(self) -> dict[str, float]:
        """What this process has counted so far: calls, those that were our fault, shed, degraded."""
        calls = _samples(self._calls)
        return {
            "calls": sum(sample.value for sample in calls),
            "faults": sum(sample.value for sample in calls if sample.labels["code"] in FAULTS),
            "shed": sum(sample.value for sample in _samples(self._shed)),
            "degraded": sum(sample.value for sample in _samples(self._degraded)),
        }


def _samples(counter: Counter) -> list[Sample]:
    """The series of a counter, in this process."""
    return [each for family in counter.collect() for each in family.samples if each.name.endswith("_total")]
