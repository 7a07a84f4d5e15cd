"""Waves of more calls than a server can take: what it answers, whom it refuses, and how it recovers.

Each wave is a schedule of its own: a little more than the peak for what the server can answer just now, as
machines are shared and their speed changes by the minute; a calm; so many times the peak; and a calm again.
Goodput is of answers within the deadline that people are promised; an answer that nobody waited for is none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Final

import grpc
import numpy as np
import numpy.typing as npt

from loadtest.profiles import Profile, requests_of
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
_BRIM: Final = 1.2
"""Times the peak that are offered before a wave, so that there is always more to do."""
_GLANCE_S: Final = 0.2
_WELL: Final = 0.9
"""Share of the calls of a fifth of a second that are answered when all is well; chance refuses some."""
_REFUSED: Final = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]


@dataclass(frozen=True, slots=True)
class Wave:
    """What came of one wave; rates in calls a second, times in ms but for `recovered_s`.

    `at_peak` is the goodput shortly before, with a little more offered than the peak. `held_back` were not
    sent by a client that throttles itself. `refused_by_priority` are shares of what was sent. `recovered_s`
    is from the end of the wave until nine of ten calls of each fifth of a second are answered.
    """

    times_peak: float
    at_peak: float
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
    refused_by_priority: dict[str, float]

    @property
    def of_peak(self) -> float:
        """Goodput as a share of what it was at the peak."""
        return self.goodput / self.at_peak if self.at_peak else 0.0


@dataclass(frozen=True, slots=True)
class Scene:
    """Who asks what of which server."""

    senders: Senders
    profile: Profile
    folder: Path
    rng: np.random.Generator

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
        (sent,) = self.senders.send(lambda _: calls)
        return _Told(sent, priorities)


@dataclass(frozen=True, slots=True)
class _Told:
    """How calls ended, and their priorities."""

    sent: Sent
    priorities: Sequence[str]


def peak_of(scene: Scene, *, start: float, told: Callable[[float, float], None]) -> float:
    """The most answers a second: climbs until less and less of what is offered is answered.

    `told` gets both of each step.
    """
    best, rate, failing = 0.0, start, 0
    while failing < 2:
        answered = float(_good(scene.send([(rate, _STEP_S)]).sent).sum()) / _STEP_S
        told(rate, answered)
        best = max(best, answered)
        failing = failing + 1 if answered < _ENOUGH * rate else 0
        rate *= _GROWTH
    return best


def wave(
    scene: Scene,
    *,
    peak: float,
    times: float,
    seconds: float,
    throttled: bool = False,
    before_s: float = 2.0,
    calm_s: float = 3.0,
) -> Wave:
    """One wave, what came before, and the calm after it."""
    parts = [(_BRIM * peak, before_s), (CALM * peak, 1.0), (times * peak, seconds), (CALM * peak, calm_s)]
    told = scene.send(parts, throttled=throttled)
    sent = told.sent
    begin_s = before_s + 1.0
    at_s = sent.instants / 1e9
    flood = (begin_s <= at_s) & (at_s < begin_s + seconds)
    took_ms = sent.took / 1e6
    good, refused = _good(sent), sent.codes == _REFUSED
    admitted = took_ms[flood & (sent.codes == 0)]
    refusals = took_ms[flood & refused]
    held_back = sent.codes == HELD_BACK
    lost = ~held_back & ~refused & (sent.codes != 0)
    return Wave(
        times_peak=times,
        at_peak=float(((at_s < before_s) & good).sum()) / before_s,
        offered=float(flood.sum()) / seconds,
        goodput=float((flood & good).sum()) / seconds,
        refused=float((flood & refused).sum()) / seconds,
        held_back=float((flood & held_back).sum()) / seconds,
        lost=float((flood & lost).sum()) / seconds,
        admitted_p50_ms=_at(admitted, 50),
        admitted_p99_ms=_at(admitted, 99),
        refusal_p50_ms=_at(refusals, 50),
        refusal_p99_ms=_at(refusals, 99),
        recovered_s=_recovered_s(sent, begin_s + seconds),
        refused_by_priority=_by_priority(
            flood & ~held_back & (sent.codes != UNSENT), refused, told.priorities
        ),
    )


def _good(sent: Sent) -> npt.NDArray[np.bool_]:
    good: npt.NDArray[np.bool_] = sent.codes == 0
    return good


def _recovered_s(sent: Sent, end_s: float) -> float:
    """From the end of the wave to that of the last fifth of a second in which too few calls were answered."""
    bins = np.floor((sent.instants / 1e9 - end_s) / _GLANCE_S).astype(np.int64)
    calm = bins >= 0
    asked, answered = np.bincount(bins[calm]), np.bincount(bins[calm & _good(sent)], minlength=1)
    answered = np.pad(answered, (0, len(asked) - len(answered)))
    (bad,) = np.nonzero(answered < _WELL * asked)
    return float(bad[-1] + 1) * _GLANCE_S if len(bad) else 0.0


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
