"""What it costs a decision to be watched: metrics alone, and with one in 32 timed by step.

What a server tells of one call, without the call, in processor time; the fastest of several turns counts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from time import thread_time
from typing import Final

from engine.core.steps import Step
from engine.domain import Decision, Stage, SuppressedAction, Versions
from engine.monitor.metrics import Metrics
from engine.service.watching import UNWATCHED, Watch

CALLS: Final = 2_000
TURNS: Final = 15
_SUPPRESSED: Final = 28
_METHOD: Final = "arbiter.v1.DecisionService/Decide"
_STEPS: Final = tuple(step for step in Step if step not in (Step.RESOLVE, Step.HOLD))
_STAGES: Final = tuple(Stage)
_MULTIPROCESS: Final = "PROMETHEUS_MULTIPROC_DIR"


def measure() -> dict[str, float]:
    """Microseconds of a decision, in a server of one process and of several."""
    with tempfile.TemporaryDirectory() as folder:
        several = subprocess.run(
            [sys.executable, "-m", "engine.bench.watching"],
            env=os.environ | {_MULTIPROCESS: folder},
            check=True,
            capture_output=True,
            text=True,
        )
    told = {f"{name}_several_us": value for name, value in json.loads(several.stdout).items()}
    return {f"{name}_us": value for name, value in here().items()} | told


def here() -> dict[str, float]:
    """The same of this process: being watched, and how much of it are the times of steps."""
    watches: dict[str, Watch] = {
        "nobody": UNWATCHED,
        "untimed": Metrics(timed_every=0),
        "timed": Metrics(timed_every=32),
    }
    took = {name: [_told_us(watch) for _ in range(TURNS)] for name, watch in watches.items()}
    fastest = {name: min(turns) for name, turns in took.items()}
    return {
        "watched": fastest["timed"] - fastest["nobody"],
        "watched_steps": fastest["timed"] - fastest["untimed"],
    }


def _told_us(watch: Watch) -> float:
    decision = _decision()
    began = thread_time()
    for _ in range(CALLS):
        _tell(watch, decision)
    return (thread_time() - began) / CALLS * 1e6


def _tell(watch: Watch, decision: Decision) -> None:
    """What a server tells of one call."""
    watch.started(0.000_1)
    look = watch.look()
    for step in _STEPS:
        if look is not None:
            look.passed(step)
    watch.decided("web", "action")
    if look is not None:
        look.ended("", "web", decision)
    watch.called(_METHOD, "OK", 0.000_5)


def _decision() -> Decision:
    """One of many suppressed actions."""
    fates = tuple(
        SuppressedAction(f"a{number}", _STAGES[number % len(_STAGES)], (), None)
        for number in range(_SUPPRESSED)
    )
    return Decision(
        versions=Versions(rules="", catalogue="", feature_schema="", models={}, engine=""),
        actions=(),
        suppressed=fates,
        no_action=(),
        consents=(),
        profiled=False,
        degraded_by=(),
        missing_inputs=(),
        churn=None,
    )


if __name__ == "__main__":
    sys.stdout.write(json.dumps(here()))
