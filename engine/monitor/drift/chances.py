"""How likely chance alone is to give a difference: tails of the distributions that drift is tested with.

Exact sums and bisection in place of SciPy, which a server does not need for anything else.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from statistics import NormalDist
from typing import Final

_FEW: Final = 10.0
"""Expected cases below which a share is tested exactly: the normal approximation is poor there."""
_HALVINGS: Final = 200
_NORMAL: Final = NormalDist()


def chi2_tail(value: float, freedom: int) -> float:
    """Probability that a chi-squared variable with so many degrees of freedom exceeds a value."""
    half = value / 2
    if freedom <= 0 or half <= 0:
        return 1.0
    if freedom % 2:
        tail, shape = math.erfc(math.sqrt(half)), 0.5
    else:
        tail, shape = math.exp(-half), 1.0
    while shape < freedom / 2:  # Q(a + 1, x) = Q(a, x) + x^a e^-x / Gamma(a + 1)
        tail += math.exp(shape * math.log(half) - half - math.lgamma(shape + 1))
        shape += 1
    return min(float(tail), 1.0)


@lru_cache(maxsize=4096)
def chi2_critical(chance: float, freedom: int) -> float:
    """The value that chi-squared exceeds with a probability of `chance`, which is above 0."""
    return _where(lambda value: chi2_tail(value, freedom), chance)


def kolmogorov_tail(value: float) -> float:
    """Probability that Kolmogorov's statistic, sqrt(n) times the largest gap, exceeds a value."""
    if value < 0.2:  # 1 to more digits than a float has
        return 1.0
    tail = 2 * sum((1.0 if k % 2 else -1.0) * math.exp(-2 * k * k * value * value) for k in range(1, 101))
    return min(max(tail, 0.0), 1.0)


@lru_cache(maxsize=4096)
def kolmogorov_critical(chance: float) -> float:
    """The value that Kolmogorov's statistic exceeds with a probability of `chance`, which is above 0."""
    return _where(kolmogorov_tail, chance)


def normal_critical(chance: float) -> float:
    """The size that a standard normal variable exceeds, up or down, with a probability of `chance`."""
    return -_NORMAL.inv_cdf(chance / 2)


def shares_differ(cases: float, of: float, cases_before: float, of_before: float) -> float:
    """Probability that two shares that are the same in truth differ as much as these, either way.

    Numbers need not be whole: dependent cases count for fewer. Exact where few cases are expected.
    """
    share = (cases + cases_before) / (of + of_before)
    if share <= 0.0 or share >= 1.0:
        return 1.0
    rarer = min(share, 1 - share)
    if rarer * min(of, of_before) < _FEW:
        return _exactly(round(cases), round(of), round(cases_before), round(of_before))
    spread = math.sqrt(share * (1 - share) * (1 / of + 1 / of_before))
    return 2 * _NORMAL.cdf(-abs(cases / of - cases_before / of_before) / spread)


def _exactly(cases: int, of: int, cases_before: int, of_before: int) -> float:
    """Fisher's exact test: twice the smaller tail of the hypergeometric distribution."""
    together = cases + cases_before
    everyone = of + of_before
    most, least = min(together, of), max(0, together - of_before)
    below = math.fsum(_drawn(k, of, together, everyone) for k in range(least, cases + 1))
    above = math.fsum(_drawn(k, of, together, everyone) for k in range(cases, most + 1))
    return min(1.0, 2 * min(below, above))


def _drawn(cases: int, of: int, together: int, everyone: int) -> float:
    """Probability that so many of all cases are among the `of` drawn."""
    ways = _log_choose(together, cases) + _log_choose(everyone - together, of - cases)
    return math.exp(ways - _log_choose(everyone, of))


def _log_choose(everyone: int, chosen: int) -> float:
    if not 0 <= chosen <= everyone:
        return -math.inf
    return math.lgamma(everyone + 1) - math.lgamma(chosen + 1) - math.lgamma(everyone - chosen + 1)


def _where(tail: Callable[[float], float], chance: float) -> float:
    """Where a falling tail passes a chance, by bisection."""
    low, high = 0.0, 1.0
    while tail(high) > chance:
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if tail(middle) > chance else (low, middle)
    return high
