"""What commands read from metrics: series, differences between two looks, quantiles as PromQL has them."""

from __future__ import annotations

import math
import socket

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from engine.core.steps import Step
from engine.monitor.exposition import exposed
from engine.monitor.metrics import Metrics
from engine.monitor.scraping import MetricsUnreachable, Scrape, quantile, read_scrape, scrape, since
from engine.monitor.work import work_between

DECIDE, EXPLAIN = "arbiter.v1.DecisionService/Decide", "arbiter.v1.DecisionService/Explain"


def read(metrics: Metrics, at_s: float) -> Scrape:
    """What a look at metrics sees."""
    return read_scrape(generate_latest(metrics.registry).decode(), at_s=at_s)


def test_series_are_added_up_by_the_labels_asked_for() -> None:
    """All of a name, those with some labels, or by the values of one."""
    metrics = Metrics()
    for method, code in ((DECIDE, "OK"), (DECIDE, "INTERNAL"), (EXPLAIN, "OK")):
        metrics.called(method, code, 0.001)

    found = read(metrics, 0.0)

    assert found.total("arbiter_rpc_calls_total") == 3
    assert found.total("arbiter_rpc_calls_total", method=DECIDE) == 2
    assert found.by("code", "arbiter_rpc_calls_total") == {"OK": 2, "INTERNAL": 1}
    assert found.value("arbiter_store_reachable") == 1
    assert found.value("arbiter_nothing") is None


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 0.002), (0.25, 0.001), (0.75, 0.003), (0.99, 0.004), (1.0, 0.004)]
)
def test_a_quantile_lies_between_the_limits_of_its_bucket(share: float, expected: float) -> None:
    """As `histogram_quantile` of PromQL interpolates; beyond the last limit it is that limit."""
    registry = CollectorRegistry()
    seconds = Histogram("h", "h", buckets=(0.001, 0.002, 0.003, 0.004), registry=registry)
    for value in (0.0005, 0.0015, 0.0025, 9.0):
        seconds.observe(value)

    buckets = read_scrape(generate_latest(registry).decode(), at_s=0.0).buckets("h")

    assert quantile(share, buckets) == pytest.approx(expected)


def test_nothing_observed_has_no_quantile() -> None:
    """Neither without observations nor without a histogram."""
    assert quantile(0.5, {0.1: 0.0, math.inf: 0.0}) is None
    assert quantile(0.5, {}) is None


def test_a_histogram_that_began_anew_counts_from_its_start() -> None:
    """A server that was restarted in between is not below nothing."""
    assert since({0.1: 5.0, math.inf: 7.0}, {0.1: 2.0, math.inf: 3.0}) == {0.1: 3.0, math.inf: 4.0}
    assert since({0.1: 1.0, math.inf: 1.0}, {0.1: 2.0, math.inf: 3.0}) == {0.1: 1.0, math.inf: 1.0}


def test_work_is_what_was_gained_between_two_looks() -> None:
    """Rates, latencies of the calls in between alone, and who failed."""
    metrics = Metrics()
    for _ in range(100):
        metrics.called(DECIDE, "OK", 1.0)
    before = read(metrics, 10.0)
    for _ in range(20):
        metrics.called(DECIDE, "OK", 0.0004)
    metrics.called(EXPLAIN, "UNAVAILABLE", 0.0004)
    metrics.shed("batch", "queue_full")
    metrics.degraded("model:churn")
    metrics.started(0.0)
    metrics.serving("sha256:a")
    metrics.scoring({"churn": 3})

    work = work_between(before, read(metrics, 12.0))

    assert (work.calls_per_s, work.shed_per_s, work.degraded_per_s) == (10.5, 0.5, 0.5)
    assert [(m.name, m.calls_per_s, m.faults_per_s) for m in work.methods] == [
        (DECIDE, 10.0, 0.0),
        (EXPLAIN, 0.5, 0.5),
    ]
    assert all(m.p99_s is not None and m.p99_s <= 0.0005 for m in work.methods)
    assert (work.rules, work.models, work.store_reachable) == (("sha256:a",), ("churn/3",), True)


def test_steps_and_processes_are_those_of_the_time_in_between() -> None:
    """Means of what was timed, and the share of a core each process used."""
    text = (
        'arbiter_step_seconds_sum{{step="fetch"}} {0}\narbiter_step_seconds_count{{step="fetch"}} {1}\n'
        'arbiter_process_cpu_seconds{{pid="7"}} {2}\narbiter_process_resident_bytes{{pid="7"}} 1024\n'
        'arbiter_process_resident_bytes{{pid="12"}} 2048\n'
    )

    work = work_between(
        read_scrape(text.format(1.0, 10, 5.0), at_s=0.0), read_scrape(text.format(1.5, 15, 6.0), at_s=4.0)
    )

    assert [(step.name, step.mean_s) for step in work.steps] == [(Step.FETCH, pytest.approx(0.1))]
    assert [(p.pid, p.cpu_share, p.resident_bytes) for p in work.processes] == [
        ("7", 0.25, 1024), ("12", None, 2048),
    ]  # fmt: skip


def test_an_endpoint_is_read_over_http() -> None:
    """And where nobody listens, or somebody else does, that is said."""
    metrics = Metrics()
    with exposed(metrics.registry, host="127.0.0.1", port=0) as port:
        found = scrape(f"127.0.0.1:{port}")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{silent.getsockname()[1]}"

        with pytest.raises(MetricsUnreachable, match=f"no metrics at {nobody}"):
            scrape(nobody)

    assert found.value("arbiter_rules_last_reload_successful") == 1
