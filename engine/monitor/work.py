"""What a server did between two looks at its metrics."""

from __future__ import annotations

from dataclasses import dataclass

from engine.core.steps import Step
from engine.monitor.metrics import FAULTS
from engine.monitor.scraping import Scrape, quantile, since


@dataclass(frozen=True, slots=True)
class MethodWork:
    """Calls of one method; latencies are None where there was none."""

    name: str
    calls_per_s: float
    faults_per_s: float
    p50_s: float | None
    p99_s: float | None


@dataclass(frozen=True, slots=True)
class StepWork:
    """The mean time of one step of a decision."""

    name: str
    mean_s: float


@dataclass(frozen=True, slots=True)
class ProcessWork:
    """One process; `cpu_share` is None where it is new, and 1 is a whole core."""

    pid: str
    cpu_share: float | None
    resident_bytes: int


@dataclass(frozen=True, slots=True)
class Work:
    """What a server did, and how it stands at the later look."""

    calls_per_s: float
    shed_per_s: float
    degraded_per_s: float
    in_flight: int
    rules: tuple[str, ...]
    models: tuple[str, ...]
    store_reachable: bool
    alarms: int
    methods: tuple[MethodWork, ...]
    steps: tuple[StepWork, ...]
    processes: tuple[ProcessWork, ...]


def work_between(before: Scrape, now: Scrape) -> Work:
    """From one look to the next. A server that began anew in between counts from its start."""
    models = [point.labels for point in now.series.get("arbiter_models_info", ())]
    return Work(
        calls_per_s=_per_s(before, now, "arbiter_rpc_calls_total"),
        shed_per_s=_per_s(before, now, "arbiter_shed_calls_total"),
        degraded_per_s=_per_s(before, now, "arbiter_degraded_decisions_total"),
        in_flight=int(now.total("arbiter_rpc_in_flight")),
        rules=tuple(sorted(now.by("version", "arbiter_rules_info"))),
        models=tuple(sorted(f"{labels['model']}/{labels['version']}" for labels in models)),
        store_reachable=now.value("arbiter_store_reachable") != 0,
        alarms=len(now.series.get("arbiter_drift_alarm", ())),
        methods=_methods(before, now),
        steps=_steps(before, now),
        processes=_processes(before, now),
    )


def _gained(before: Scrape, now: Scrape, name: str, **labels: str) -> float:
    """What a counter gained; all of it where it began anew."""
    total = now.total(name, **labels)
    gained = total - before.total(name, **labels)
    return total if gained < 0 else gained


def _per_s(before: Scrape, now: Scrape, name: str, **labels: str) -> float:
    return _gained(before, now, name, **labels) / max(now.at_s - before.at_s, 1e-9)


def _methods(before: Scrape, now: Scrape) -> tuple[MethodWork, ...]:
    """The methods that were called, the busiest first."""
    found = []
    for method in now.by("method", "arbiter_rpc_calls_total"):
        calls_per_s = _per_s(before, now, "arbiter_rpc_calls_total", method=method)
        if not calls_per_s:
            continue
        buckets = since(
            now.buckets("arbiter_rpc_seconds", method=method),
            before.buckets("arbiter_rpc_seconds", method=method),
        )
        faults_per_s = sum(
            _per_s(before, now, "arbiter_rpc_calls_total", method=method, code=code) for code in FAULTS
        )
        found.append(
            MethodWork(method, calls_per_s, faults_per_s, quantile(0.5, buckets), quantile(0.99, buckets))
        )
    return tuple(sorted(found, key=lambda method: -method.calls_per_s))


def _steps(before: Scrape, now: Scrape) -> tuple[StepWork, ...]:
    """The steps of the decisions that were timed, in their order."""
    found = []
    for step in Step:
        count = _gained(before, now, "arbiter_step_seconds_count", step=step.value)
        if count:
            taken_s = _gained(before, now, "arbiter_step_seconds_sum", step=step.value)
            found.append(StepWork(step.value, taken_s / count))
    return tuple(found)


def _processes(before: Scrape, now: Scrape) -> tuple[ProcessWork, ...]:
    """The processes that run, by number."""
    cpu_before = before.by("pid", "arbiter_process_cpu_seconds")
    cpu_now = now.by("pid", "arbiter_process_cpu_seconds")
    resident = now.by("pid", "arbiter_process_resident_bytes")
    took_s = max(now.at_s - before.at_s, 1e-9)
    return tuple(
        ProcessWork(
            pid,
            (cpu_now[pid] - cpu_before[pid]) / took_s if pid in cpu_now and pid in cpu_before else None,
            int(held),
        )
        for pid, held in sorted(resident.items(), key=lambda item: item[0].zfill(12))
    )
