"""Calls that were sent, without sending any."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from loadtest.results import Result, Step, step_of
from loadtest.sending import Sent

OK = 0
SHED = 8
MakeStep = Callable[..., Step]


@pytest.fixture
def make_step() -> MakeStep:
    """A step of evenly sent calls that took `took_ms` each, ms, with gRPC status `codes`."""

    def make(
        *, rate: float = 100.0, seconds: float = 10.0, took_ms: float = 2.0, codes: int = OK, seed: int = 1
    ) -> Step:
        count = round(rate * seconds)
        rng = np.random.default_rng(seed)
        sent = Sent(
            instants=(np.arange(count) * (1e9 / rate)).astype(np.int64),
            lag=np.full(count, 50_000, dtype=np.int64),
            took=(took_ms * 1e6 * rng.uniform(0.9, 1.1, count)).astype(np.int64),
            codes=np.full(count, codes, dtype=np.int16),
            degraded=np.zeros(count, dtype=np.bool_),
            cpu_s=1.0,
        )
        return step_of([sent], rate=rate, seconds=seconds, server_cpu_s=None)

    return make


@pytest.fixture
def make_result() -> Callable[..., Result]:
    """A run of given steps."""

    def make(*steps: Step) -> Result:
        return Result(
            name="a run",
            started="2026-11-01T12:00:00+00:00",
            target="localhost:1",
            profile="company",
            arrivals="constant",
            seed=1,
            processes=1,
            channels=4,
            warm_up_s=0,
            deadline_s=1,
            steps=steps,
        )

    return make
