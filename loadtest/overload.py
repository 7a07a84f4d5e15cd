"""Waves of more calls than a server can take: what it answers, whom it refuses, and how it recovers.

Each wave is a schedule of its own: so many times the peak for some seconds, then half the peak. Goodput is of
answers within the deadline that people are promised; an answer that nobody waited for is none.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import grpc
import numpy as np
import numpy.typing as npt

from loadtest.profiles import Profile, requests_of
from loadtest.running import cpu_s
from loadtest.schedule import arrivals
from loadtest.sending import HELD_BACK, UNSENT, Calls, Senders, Sent

SLO_MS: Final = 50.0
"""What 99 of 100 calls that are let in should keep."""
CALM: Final = 0.5
"""Share of the peak that is offered after a wave."""
PRIORITIES: Final = ("call-centre", "web", "web", "web", "web", "web", "web", "batch", "batch", "batch")
"""Of ten calls: one that somebody waits for on the phone, six of pages, three of a batch."""
_AHEAD_S: Final = 0.5
_DEADLINE_S: Final = 1.0
_GROWTH: Final = 1.2
_STEP_S: Final = 2.0
_ENOUGH: Final = 0.85
_REFUSED: Final = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]


@dataclass(frozen=True, slots=True)
class Wave:
    """What came of one wave; rates in calls a second, times in ms but for `recovered_s`.

    `held_back` were not sent by a client that throttles itself. `refused_by_priority` are shares of what was
    sent. `recovered_s` is from the end of the wave to the last call that was not answered.
    `of_peak_per_cpu_s`: answers for each second of the server's processor, as a share of those at the peak;
    it shows what refusing costs even where others use the processor too. None where that cannot be seen.
    """

    times_peak: float
    offered: float
    goodput: float
    refused: float
    held_back: float
    lost: float
    admitted_p50_ms: float
    admitted_p99_ms: float
    refusal_p50_ms: float
    refusal_p99_ms: float
    recovered_s: float
    of_peak_per_cpu_s: float | None
    refused_by_priority: dict[str, float]


@dataclass(frozen=True, slots=True)
class Scene:
    """Who asks what of which server."""

    senders: Senders
    profile: Profile
    folder: Path
    rng: np.random.Generator
    server_pid: int | None = None

    def send(self, rates: Sequence[tuple[float, float]], *, throttled: bool = False) -> _Told:
        """Offers each (rate, seconds) after the other, from one process."""
        parts, begin_s = [], 0.0
        for rate, seconds in rates:
            parts.append(arrivals("poisson", rate=rate, seconds=seconds, rng=self.rng) + round(begin_s * 1e9))
            begin_s += seconds
        instants = np.concatenate(parts)
        requests = requests_of(self.profile, self.folder, count=len(instants), rng=self.rng)
        priorities = list(islice(cycle(PRIORITIES), len(instants)))
        start_ns = time.monotonic_ns() + round(_AHEAD_S * 1e9)
        calls = Calls(start_ns, instants, requests, _DEADLINE_S, priorities, throttled)
        with _Meter(self.server_pid, start_ns, rates[0][1]) as meter:
            (sent,) = self.senders.send(lambda _: calls)
        return _Told(sent, priorities, meter.used_s)


@dataclass(frozen=True, slots=True)
class _Told:
    """How calls ended, their priorities, and what the first part took of the server's processor."""

    sent: Sent
    priorities: Sequence[str]
    cpu_s: float | None


class _Meter:
    """Reads the processor time of the server at the beginning and the end of a part, in a thread."""

    def __init__(self, pid: int | None, start_ns: int, seconds: float) -> None:
        self._pid = pid
        self._start_s = start_ns / 1e9
        self._seconds = seconds
        self._thread = threading.Thread(target=self._read, daemon=True)
        self.used_s: float | None = None

    def _read(self) -> None:
        time.sleep(max(0.0, self._start_s - time.monotonic()))
        before_s = cpu_s(self._pid)
        time.sleep(max(0.0, self._start_s + self._seconds - time.monotonic()))
        after_s = cpu_s(self._pid)
        if before_s is not None and after_s is not None:
            self.used_s = after_s - before_s

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.join()


@dataclass(frozen=True, slots=True)
class Peak:
    """The most that a server answers a second, and for each second of its processor then."""

    answered: float
    per_cpu_s: float | None


def peak_of(scene: Scene, *, start: float, told: Callable[[float, float], None]) -> Peak:
    """Climbs until less and less of what is offered is answered; `told` gets both of each step."""
    best, rate, failing = Peak(0.0, None), start, 0
    while failing < 2:
        step = scene.send([(rate, _STEP_S)])
        count = float(_good(step.sent).sum())
        told(rate, count / _STEP_S)
        if count / _STEP_S > best.answered:
            best = Peak(count / _STEP_S, count / step.cpu_s if step.cpu_s else None)
        failing = failing + 1 if count / _STEP_S < _ENOUGH * rate else 0
        rate *= _GROWTH
    return best


def wave(
    scene: Scene, *, peak: Peak, times: float, seconds: float, throttled: bool = False, calm_s: float = 3.0
) -> Wave:
    """One wave and the calm after it."""
    rates = [(times * peak.answered, seconds), (CALM * peak.answered, calm_s)]
    told = scene.send(rates, throttled=throttled)
    sent = told.sent
    flood = sent.instants < round(seconds * 1e9)
    took_ms = sent.took / 1e6
    good, refused = _good(sent), sent.codes == _REFUSED
    admitted = took_ms[flood & (sent.codes == 0)]
    refusals = took_ms[flood & refused]
    held_back = sent.codes == HELD_BACK
    lost = ~held_back & ~refused & (sent.codes != 0)
    return Wave(
        times_peak=times,
        offered=float(flood.sum()) / seconds,
        goodput=float((flood & good).sum()) / seconds,
        refused=float((flood & refused).sum()) / seconds,
        held_back=float((flood & held_back).sum()) / seconds,
        lost=float((flood & lost).sum()) / seconds,
        admitted_p50_ms=_at(admitted, 50),
        admitted_p99_ms=_at(admitted, 99),
        refusal_p50_ms=_at(refusals, 50),
        refusal_p99_ms=_at(refusals, 99),
        recovered_s=_recovered_s(sent, seconds),
        of_peak_per_cpu_s=_per_cpu_s(float((flood & good).sum()), told.cpu_s, peak),
        refused_by_priority=_by_priority(
            flood & ~held_back & (sent.codes != UNSENT), refused, told.priorities
        ),
    )


def _good(sent: Sent) -> npt.NDArray[np.bool_]:
    good: npt.NDArray[np.bool_] = sent.codes == 0
    return good


def _per_cpu_s(answered: float, used_s: float | None, peak: Peak) -> float | None:
    return answered / used_s / peak.per_cpu_s if used_s and peak.per_cpu_s else None


def _recovered_s(sent: Sent, wave_s: float) -> float:
    """From the end of the wave to the last call that was not answered; 0 where all were."""
    calm = sent.instants >= round(wave_s * 1e9)
    bad = calm & (sent.codes != 0)
    return float(sent.instants[bad].max()) / 1e9 - wave_s if bad.any() else 0.0


def _by_priority(
    sent: npt.NDArray[np.bool_], refused: npt.NDArray[np.bool_], priorities: Sequence[str]
) -> dict[str, float]:
    names = np.array(priorities)
    shares = {}
    for name in dict.fromkeys(PRIORITIES):
        of = sent & (names == name)
        shares[name] = float((of & refused).sum()) / max(1, int(of.sum()))
    return shares


def _at(values: npt.NDArray[np.float64], percentile: float) -> float:
    return float(np.percentile(values, percentile)) if len(values) else 0.0
