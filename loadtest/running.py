"""A load test from its plan to its result: warm-up, then one step after the other."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import psutil

from engine.client import Access
from loadtest.objectives import Objectives, kept
from loadtest.profiles import Profile, requests_of
from loadtest.results import Result, Step, step_of
from loadtest.schedule import Arrivals, arrivals, dealt
from loadtest.sending import OPEN, Calls, Senders

AHEAD_S: Final = 0.5
"""Between handing out a schedule and its first instant, so that every process has it."""
FAILING_STEPS: Final = 2
"""Steps in a row that fail before a ladder ends: one may have been the machine's mood."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked, of whom, how fast and how long. `rates` in calls a second, one step each.

    With `ladder` they are climbed until `FAILING_STEPS` in a row broke the objectives.
    """

    name: str
    target: str
    profile: Profile
    folder: Path
    rates: Sequence[float]
    seconds: float
    arrivals: Arrivals
    warm_up_s: float
    deadline_s: float
    processes: int
    channels: int
    seed: int
    ladder: Objectives | None = None
    cores: Sequence[int] = ()
    server_pid: int | None = None
    server: str = ""
    access: Access = OPEN


def run(plan: Plan, *, told: Callable[[Step], None]) -> Result:
    """Runs the plan; `told` hears of each step when it is done. Raises TargetUnreachable and FileInvalid."""
    started = datetime.now(UTC).replace(microsecond=0)
    rng = np.random.default_rng(plan.seed)
    steps = []
    with Senders(
        plan.target,
        processes=plan.processes,
        channels=plan.channels,
        cores=plan.cores,
        access=plan.access,
    ) as senders:
        if plan.warm_up_s:
            _step(plan, senders, plan.rates[0], plan.warm_up_s, rng)
        for step in _steps(plan, senders, rng):
            steps.append(step)
            told(step)
    return Result(
        name=plan.name,
        started=started.isoformat(),
        target=plan.target,
        profile=plan.profile.name,
        arrivals=plan.arrivals,
        seed=plan.seed,
        processes=plan.processes,
        channels=plan.channels,
        warm_up_s=plan.warm_up_s,
        deadline_s=plan.deadline_s,
        server=plan.server,
        machine=_machine(),
        steps=tuple(steps),
    )


def climbing(start: float, *, factor: float, most: float) -> list[float]:
    """Rates of a ladder, each `factor` times the one before, rounded to whole calls a second."""
    rates = [start]
    while rates[-1] * factor <= most:
        rates.append(float(round(rates[-1] * factor)))
    return rates


def _steps(plan: Plan, senders: Senders, rng: np.random.Generator) -> Iterator[Step]:
    failing = 0
    for rate in plan.rates:
        step = _step(plan, senders, rate, plan.seconds, rng)
        yield step
        if plan.ladder is not None:
            failing = 0 if kept(step, plan.ladder) else failing + 1
            if failing == FAILING_STEPS:
                return


def _step(plan: Plan, senders: Senders, rate: float, seconds: float, rng: np.random.Generator) -> Step:
    instants = arrivals(plan.arrivals, rate=rate, seconds=seconds, rng=rng)
    requests = requests_of(plan.profile, plan.folder, count=len(instants), rng=rng)
    parts = dealt(instants, len(senders))
    server_before_s = cpu_s(plan.server_pid)
    start_ns = time.monotonic_ns() + round(AHEAD_S * 1e9)

    def calls(number: int) -> Calls:
        places = parts[number]
        return Calls(start_ns, instants[places], [requests[place] for place in places], plan.deadline_s)

    sents = senders.send(calls)
    server_after_s = cpu_s(plan.server_pid)
    used_s = None
    if server_before_s is not None and server_after_s is not None:
        used_s = server_after_s - server_before_s
    return step_of(sents, rate=rate, seconds=seconds, server_cpu_s=used_s)


def cpu_s(pid: int | None) -> float | None:
    """Processor time so far of a process and all it started; None where it cannot be seen."""
    if pid is None:
        return None
    try:
        server = psutil.Process(pid)
        everyone = [server, *server.children(recursive=True)]
        return sum(sum(process.cpu_times()[:2]) for process in everyone)
    except psutil.Error:
        return None


def _machine() -> str:
    cores = psutil.cpu_count()
    return f"{platform.system()} {platform.machine()}, {cores} cores, Python {platform.python_version()}"
