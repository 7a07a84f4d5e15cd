"""Chance is what SciPy says it is."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from engine.monitor.drift.chances import (
    chi2_critical,
    chi2_tail,
    kolmogorov_critical,
    kolmogorov_tail,
    normal_critical,
    shares_differ,
)


@given(st.floats(0, 300), st.integers(1, 60))
def test_the_tail_of_chi_squared_is_scipys(value: float, freedom: int) -> None:
    """For even and odd degrees of freedom, down to the smallest chances that are asked for."""
    assert chi2_tail(value, freedom) == pytest.approx(stats.chi2.sf(value, freedom), rel=1e-9, abs=1e-300)


@given(st.floats(1e-12, 0.999), st.integers(1, 60))
def test_a_critical_value_is_exceeded_with_its_chance(chance: float, freedom: int) -> None:
    """The inverse, and the one of SciPy."""
    assert chi2_critical(chance, freedom) == pytest.approx(
        stats.chi2.isf(chance, freedom), rel=1e-7, abs=1e-9
    )
    assert kolmogorov_tail(kolmogorov_critical(chance)) == pytest.approx(chance, rel=1e-6)


@given(st.floats(0, 5))
def test_the_tail_of_kolmogorov_is_scipys(value: float) -> None:
    """The limit distribution of the largest gap."""
    assert kolmogorov_tail(value) == pytest.approx(stats.kstwobign.sf(value), rel=1e-6, abs=1e-12)


def test_the_normal_value_is_two_sided() -> None:
    """1.96 is exceeded one time in twenty, up or down."""
    assert normal_critical(0.05) == pytest.approx(1.959964, abs=1e-6)


@pytest.mark.parametrize(
    ("cases", "of", "before", "of_before"), [(0, 100, 3, 4000), (7, 300, 9, 4225), (2, 50, 1, 60)]
)
def test_few_cases_are_tested_exactly(cases: int, of: int, before: int, of_before: int) -> None:
    """Twice the smaller tail of the hypergeometric distribution."""
    drawn = stats.hypergeom(of + of_before, cases + before, of)
    expected = min(1.0, 2 * min(drawn.cdf(cases), drawn.sf(cases - 1)))

    assert shares_differ(cases, of, before, of_before) == pytest.approx(expected, rel=1e-9)


def test_many_cases_are_tested_by_the_normal_approximation() -> None:
    """As a z test of two shares with a common variance."""
    share = (160 + 169) / (2000 + 4225)
    spread = math.sqrt(share * (1 - share) * (1 / 2000 + 1 / 4225))

    assert shares_differ(160, 2000, 169, 4225) == pytest.approx(
        2 * stats.norm.sf((0.08 - 0.04) / spread), rel=1e-9
    )


def test_shares_of_nobody_or_everybody_do_not_differ() -> None:
    """Where there is no case on either side, or nothing else."""
    assert shares_differ(0, 100, 0, 4000) == 1.0
    assert shares_differ(100, 100, 4000, 4000) == 1.0


@given(st.integers(0, 40), st.integers(40, 400), st.integers(0, 40), st.integers(40, 400))
def test_a_chance_is_a_chance(cases: int, of: int, before: int, of_before: int) -> None:
    """Between 0 and 1, and 1 where the shares are the same."""
    assert 0 <= shares_differ(cases, of, before, of_before) <= 1
    assert shares_differ(cases, of, cases, of) == pytest.approx(1.0)


def test_psi_of_no_drift_is_the_scaled_chi_squared_that_thresholds_assume() -> None:
    """With 100 rows and 10 bins 0.1 is exceeded most of the time: no threshold for so few."""
    rng = np.random.default_rng(1)
    chance = chi2_tail(0.1 / (1 / 100), 9)
    drawn = rng.chisquare(9, 20_000) / 100

    assert chance == pytest.approx(np.mean(drawn > 0.1), abs=0.01)
