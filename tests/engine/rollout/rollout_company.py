"""Decisions for many customers, what people answer, and who watches: what tests of rollouts share."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from engine.bootstrap import Application, model_servers, wall_clock_ms
from engine.decisionlog.record import DecisionRecord
from engine.service.arms import model_scores
from engine.service.following_models import ModelsFollower
from engine.service.outcomes import OutcomeReport
from engine.service.requests import DecisionQuery
from engine.service.rollouts import RolloutLeader
from engine.service.watching import Unwatched
from engine.snapshots import lineups
from feature_store.state import OutcomeType
from model_registry import promote

MODEL = "propensity"


class Noted(Unwatched):
    """Keeps what a server told of its models."""

    def __init__(self) -> None:
        self.refused: list[str] = []
        self.changes: list[tuple[str, str]] = []
        self.switches = 0
        self.models: dict[str, int] = {}

    def scoring(self, models: Mapping[str, int]) -> None:
        self.models = dict(models)

    def models_switched(self) -> None:
        self.switches += 1

    def model_refused(self, model: str) -> None:
        self.refused.append(model)

    def rollout_changed(self, model: str, kind: str) -> None:
        self.changes.append((model, kind))


def profiled(application: Application, count: int) -> list[str]:
    """Customers of the company whom the model scores on the web, and who get a proposal."""
    found: list[str] = []
    for customer in application.store.customers():
        decision = decide(application, customer).decision
        if decision.actions and model_scores(decision):
            found.append(customer)
        if len(found) == count:
            return found
    raise AssertionError(f"only {len(found)} such customers")


def decide(application: Application, customer: str) -> DecisionRecord:
    """A decision for the account page."""
    query = DecisionQuery(customer_id=customer, channel="web", placement="account_banner")
    return application.decisions.decide(query).record


def follower_of(application: Application, watch: Unwatched | None = None) -> ModelsFollower:
    """A follower that looks when a test says so."""
    return ModelsFollower(
        lineups=lineups(application.settings),
        live=application.live,
        shadow=application.model_shadow,
        arms=application.arms,
        servers=model_servers(application.settings),
        watch=watch or Noted(),
    )


def leader_of(application: Application, watch: Unwatched | None = None) -> RolloutLeader:
    """A leader that ticks when a test says so; it promotes without gates."""

    def make_champion(model: str, version: int, reason: str) -> None:
        promote(application.settings.registry, model, version, reason=reason)

    return RolloutLeader(
        registry=application.settings.registry,
        arms=application.arms,
        servers=model_servers(application.settings),
        promote=make_champion,
        clock=wall_clock_ms,
        watch=watch or Noted(),
    )


def answer(application: Application, record: DecisionRecord, *, accepts: bool) -> None:
    """The customer answers to the first action."""
    report = OutcomeReport(
        outcome_id=f"{record.decision_id}:answer",
        decision_id=record.decision_id,
        action_id=record.decision.actions[0].action_id,
        outcome=OutcomeType.ACCEPTED if accepts else OutcomeType.DECLINED,
        at_ms=None,
    )
    assert application.outcomes.record(report)


def versions_of(records: Iterable[DecisionRecord], model: str = MODEL) -> Counter[int]:
    """How many decisions each version of a model scored."""
    return Counter(record.decision.versions.models[model] for record in records)


@dataclass
class Load:
    """Threads that decide without pause: times, records, and what went wrong."""

    application: Application
    customers: list[str]
    records: list[tuple[int, DecisionRecord]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def ask(self, offset: int) -> None:
        """One thread's work."""
        place = offset
        while not self.stop.is_set():
            place += 1
            began = wall_clock_ms()
            try:
                record = decide(self.application, self.customers[place % len(self.customers)])
            except Exception as error:
                self.wrong.append(repr(error))
            else:
                self.records.append((began, record))

    def seen_s(self, version: int, *, since_ms: int, model: str = MODEL) -> float:
        """Seconds from an instant to the first decision, asked for after it, that a version scored."""
        place = 0
        for _ in range(4000):
            found = self.records[place:]
            place += len(found)
            for began, record in found:
                if began >= since_ms and record.decision.versions.models[model] == version:
                    return (began - since_ms) / 1000
            self.stop.wait(0.005)
        raise AssertionError(f"nothing scored by {model}/{version}; wrong: {self.wrong[:3]}")


@contextmanager
def under_load(application: Application, customers: list[str], threads: int = 2) -> Iterator[Load]:
    """Threads that decide until the block ends."""
    load = Load(application, customers)
    workers = [threading.Thread(target=load.ask, args=(number * 37,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield load
    finally:
        load.stop.set()
        for worker in workers:
            worker.join()
