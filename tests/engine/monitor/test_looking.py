"""One decision in so many is looked at: which, what is told of it, and that its answer is the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from arbiter_at_work import AT_RISK, connect, failure_of, query, scene, settings_for
from prometheus_client import CollectorRegistry

from engine.bootstrap import Application, build_server, open_application
from engine.core.pipeline import decide
from engine.core.steps import Step
from engine.domain import Decision
from engine.monitor.looking import StepTimes
from engine.monitor.metrics import Metrics
from engine.service.decisions import Answer


def value(registry: CollectorRegistry, name: str, **labels: str) -> float:
    """The value of one series; 0 where there is none."""
    return registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
def answer(application: Application) -> Answer:
    """A decision of the demo company."""
    return application.decisions.decide(query(AT_RISK))


@pytest.fixture
def told(answer: Answer) -> tuple[str, str, Decision]:
    """What a look is told at the end."""
    record = answer.record
    return record.decision_id, record.request.channel, record.decision


@pytest.mark.parametrize(("every", "looked_at"), [(1, [0, 1, 2, 3, 4, 5]), (3, [0, 3]), (100, [0]), (0, [])])
def test_the_first_of_so_many_is_looked_at(every: int, looked_at: list[int]) -> None:
    """Regularly, and never where it is switched off."""
    times = StepTimes(CollectorRegistry(), every=every)

    found = [number for number in range(6) if times.look() is not None]

    assert found == looked_at


def test_a_step_that_ends_twice_is_one_observation(told: tuple[str, str, Decision]) -> None:
    """Rules are applied before and after scoring; what counts is how long they take together."""
    registry = CollectorRegistry()
    look = StepTimes(registry, every=1).look()
    assert look is not None
    look.began = 100.0
    look.passings = [(Step.POLICY, 100.5), (Step.CHURN, 102.5), (Step.POLICY, 102.75)]

    look.ended(*told)

    assert value(registry, "arbiter_step_seconds_count", step="policy") == 1
    assert value(registry, "arbiter_step_seconds_sum", step="policy") == pytest.approx(0.75)
    assert value(registry, "arbiter_step_seconds_sum", step="churn") == pytest.approx(2.0)
    assert value(registry, "arbiter_model_seconds_sum", model="churn") == pytest.approx(2.0)


def test_the_store_is_timed_by_what_it_is_asked_for(told: tuple[str, str, Decision]) -> None:
    """Operators look for a slow store among operations, not among steps of a decision."""
    registry = CollectorRegistry()
    look = StepTimes(registry, every=1).look()
    assert look is not None
    for step in (Step.RESOLVE, Step.FETCH, Step.HOLD):
        look.passed(step)

    look.ended(*told)

    counts = [
        value(registry, "arbiter_store_seconds_count", operation=o) for o in ("resolve", "read", "hold")
    ]
    assert counts == [1, 1, 1]


def test_what_stages_removed_is_counted(told: tuple[str, str, Decision]) -> None:
    """Every suppressed candidate is in exactly one stage."""
    registry, decision = CollectorRegistry(), told[2]
    look = StepTimes(registry, every=1).look()
    assert look is not None

    look.ended(*told)

    stages = {fate.stage for fate in decision.suppressed}
    counted = {s: value(registry, "arbiter_suppressed_actions_total", stage=s.value) for s in stages}
    assert counted == {s: sum(fate.stage is s for fate in decision.suppressed) for s in stages}
    assert sum(counted.values()) == len(decision.suppressed) > 0


def test_looking_does_not_change_the_answer(application: Application, answer: Answer) -> None:
    """The core tells where it is and gets nothing back."""
    record, passed = answer.record, list[Step]()

    looked_at = decide(
        answer.snapshot, record.request, record.state, now_ms=record.now_ms, passed=passed.append
    )

    assert looked_at == record.decision
    assert passed == [
        Step.CONSENT, Step.POLICY, Step.CHURN, Step.PROPENSITY, Step.POLICY, Step.CONTACT, Step.ARBITRATE,
        Step.EXPLAIN,
    ]  # fmt: skip


def test_a_served_decision_is_timed_from_the_store_to_the_reply(data_dir: Path) -> None:
    """Each step that every decision makes was timed once; a refused call is counted by its reason."""
    metrics = Metrics()

    with open_application(settings_for(data_dir), watch=metrics) as application:
        server = build_server(application, reuse_port=False)
        server.start()
        with connect(f"localhost:{server.port}", timeout_s=30.0) as arbiter:
            arbiter.decide(scene(AT_RISK))
            failure_of(lambda: arbiter.decide(scene(AT_RISK, "nobody")))
        server.drain(1.0)

    each = (
        Step.FETCH, Step.PREPARE, Step.CONSENT, Step.POLICY, Step.CONTACT, Step.ARBITRATE, Step.EXPLAIN,
        Step.LOG, Step.TELL, Step.REPLY,
    )  # fmt: skip
    counts = {s: value(metrics.registry, "arbiter_step_seconds_count", step=s.value) for s in each}
    assert counts == dict.fromkeys(each, 1)
    method = "arbiter.v1.DecisionService/Decide"
    refused = value(metrics.registry, "arbiter_rpc_errors_total", method=method, reason="CUSTOMER_UNKNOWN")
    assert refused == 1
    assert value(metrics.registry, "arbiter_rpc_wait_seconds_count") == 2
    assert metrics.in_flight == 0
