"""Whether a difference is drift: larger than matters, and than chance explains, for all that is looked at.

Every variable (an input, a score, an action mix) is tested by several measures. A variable's chance is the
smallest of theirs times their number, PSI and Jensen-Shannon being one, as they rise and fall together; over
the variables of a window Benjamini and Hochberg's rule decides, at a level that leaves one false alarm in a
hundred days to a variable, whatever the others do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from engine.monitor.drift.chances import (
    chi2_critical,
    chi2_tail,
    kolmogorov_critical,
    kolmogorov_tail,
    normal_critical,
    shares_differ,
)
from engine.monitor.drift.distances import (
    JS_OVER_PSI,
    Histogram,
    jensen_shannon,
    kolmogorov_smirnov,
    pooled,
    psi,
)

FALSE_ALARMS_A_DAY: Final = 0.01
"""What a variable that does not drift may cost in false alarms a day, all windows of the day together."""
FEWEST: Final = 100
"""Independent customers without which nothing is tested."""
FIRST_LOOK: Final = 1_000
"""Decisions at which a window that still runs is first judged; then at twice as many each time."""
_FEWEST_IN_A_BIN: Final = 10.0
_BINS: Final = 10
_MANY_BINS: Final = 50
"""For what has no order, such as actions: only rare ones are put together."""


class Measure(StrEnum):
    """What is measured of a variable."""

    PSI = "psi"
    JENSEN_SHANNON = "jensen_shannon"
    KOLMOGOROV_SMIRNOV = "kolmogorov_smirnov"
    MISSING = "missing"
    UNKNOWN = "unknown"


FLOORS: Final[Mapping[Measure, float]] = {
    Measure.PSI: 0.05,
    Measure.JENSEN_SHANNON: 0.05 * JS_OVER_PSI,
    Measure.KOLMOGOROV_SMIRNOV: 0.08,
    Measure.MISSING: 0.005,
    Measure.UNKNOWN: 0.005,
}
"""What a difference must exceed to matter, however certain it is. 0.05 of PSI is a shift by a fifth of a
deviation, or ten points of a category's share; of missing and unknown it is half a percentage point."""


class Kind(StrEnum):
    """What a variable is."""

    INPUT = "input"
    SCORE = "score"
    MIX = "mix"


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One variable in one sample: its histogram, and how many independent customers that is worth."""

    bins: Histogram
    effective: float
    missing: int = 0
    unknown: int = 0

    @property
    def asked(self) -> float:
        """How often the variable was asked for."""
        return float(self.bins.sum()) + self.missing + self.unknown

    def share(self, cases: float) -> float:
        """Cases as a share of how often it was asked for."""
        return cases / self.asked if self.asked else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Variable:
    """One variable now and in the reference, over the same bins. `ordered` where bins have an order.

    `labels` name the bins of what has no edges, `edges` are where those of a number part.
    """

    name: str
    kind: Kind
    ordered: bool
    reference: Side
    now: Side
    edges: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Measured:
    """One measure. It is `over` where it exceeds its threshold: what matters, and what chance explains."""

    value: float
    threshold: float
    chance: float
    over: bool


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """What was found of one variable; no measures where there is too little to judge from."""

    variable: Variable
    measures: Mapping[Measure, Measured]

    @property
    def alarms(self) -> tuple[Measure, ...]:
        """The measures that are over their thresholds."""
        return tuple(measure for measure, measured in self.measures.items() if measured.over)


@dataclass(frozen=True, slots=True)
class _Test:
    """A measure before the window's level is known. `critical` gives its value at a chance."""

    measure: Measure
    value: float
    chance: float
    critical: Callable[[float], float]


def level(decisions: int, *, windows_a_day: int) -> float:
    """The level to judge one window at, by how many decisions it has now.

    A window is looked at as it grows, and each look may err: the k-th has 1 / (k (k + 1)) of the window's
    level, which adds up to no more than all of it. Each window, and the day, has its part of the day's.
    """
    look = 1 + max(0, math.floor(math.log2(max(decisions, 1) / FIRST_LOOK)))
    return FALSE_ALARMS_A_DAY / (windows_a_day + 1) / (look * (look + 1))


def judge(variables: Sequence[Variable], *, level: float) -> list[Verdict]:
    """A verdict on each variable of one window, in their order."""
    tests = [_tests(variable) for variable in variables]
    chances = [min(test.chance for test in found) * _count(found) for found in tests if found]
    cutoff = benjamini_hochberg(chances, level)
    return [
        Verdict(variable, {test.measure: _measured(test, cutoff / _count(found)) for test in found})
        for variable, found in zip(variables, tests, strict=True)
    ]


def _count(tests: Sequence[_Test]) -> int:
    """How many chances to err there are."""
    return sum(test.measure is not Measure.JENSEN_SHANNON for test in tests)


def benjamini_hochberg(chances: Sequence[float], level: float) -> float:
    """The largest chance that is a discovery, or could be, at a false discovery rate of `level`."""
    count = max(len(chances), 1)
    passed = [rank for rank, chance in enumerate(sorted(chances), start=1) if chance <= level * rank / count]
    return level * max(passed, default=1) / count


def _measured(test: _Test, cutoff: float) -> Measured:
    floor = FLOORS[test.measure]
    over = bool(test.value > floor and test.chance <= cutoff)
    return Measured(float(test.value), float(max(floor, test.critical(cutoff))), float(test.chance), over)


def _tests(variable: Variable) -> list[_Test]:
    if min(variable.reference.effective, variable.now.effective) < FEWEST:
        return []
    tests = _of_bins(variable)
    if variable.kind is Kind.INPUT:
        shares = (
            (Measure.MISSING, variable.reference.missing, variable.now.missing),
            (Measure.UNKNOWN, variable.reference.unknown, variable.now.unknown),
        )  # where there is none of either, nothing can be found and no chance to err is spent
        tests += [_of_share(variable, *share) for share in shares if share[1] or share[2]]
    return tests


def _of_bins(variable: Variable) -> list[_Test]:
    reference, now = _weighed(variable.reference), _weighed(variable.now)
    if min(reference.sum(), now.sum()) < FEWEST:
        return []
    before, after = pooled(
        reference,
        now,
        ordered=variable.ordered,
        fewest=_FEWEST_IN_A_BIN,
        at_most=_BINS if variable.ordered else _MANY_BINS,
    )
    freedom = len(before) - 1
    if not freedom:
        return []
    spread = 1 / reference.sum() + 1 / now.sum()
    index, divergence = psi(before, after), jensen_shannon(before, after)
    tests = [
        _Test(
            Measure.PSI,
            index,
            chi2_tail(index / spread, freedom),
            lambda chance: spread * chi2_critical(chance, freedom),
        ),
        _Test(
            Measure.JENSEN_SHANNON,
            divergence,
            chi2_tail(divergence / JS_OVER_PSI / spread, freedom),
            lambda chance: JS_OVER_PSI * spread * chi2_critical(chance, freedom),
        ),
    ]
    if variable.ordered:
        gap = kolmogorov_smirnov(before, after)
        tests.append(
            _Test(
                Measure.KOLMOGOROV_SMIRNOV,
                gap,
                kolmogorov_tail(gap / math.sqrt(spread)),
                lambda chance: kolmogorov_critical(chance) * math.sqrt(spread),
            )
        )
    return tests


def _weighed(side: Side) -> Histogram:
    """The histogram as that of so many independent customers."""
    histogram: Histogram = side.bins * (side.effective / side.asked if side.asked else 0.0)
    return histogram


def _of_share(variable: Variable, measure: Measure, before: int, after: int) -> _Test:
    reference, now = variable.reference, variable.now
    share_before, share_now = reference.share(before), now.share(after)
    chance = shares_differ(
        share_now * now.effective, now.effective, share_before * reference.effective, reference.effective
    )
    together = (share_now * now.effective + share_before * reference.effective) / (
        now.effective + reference.effective
    )
    spread = math.sqrt(together * (1 - together) * (1 / now.effective + 1 / reference.effective))
    return _Test(
        measure,
        abs(share_now - share_before),
        chance,
        lambda wanted: normal_critical(wanted) * spread,
    )
