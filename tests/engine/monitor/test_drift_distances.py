"""Distances between histograms, and counts that add up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.spatial import distance

from engine.monitor.drift.distances import JS_OVER_PSI, jensen_shannon, kolmogorov_smirnov, pooled, psi

_bins = st.integers(2, 12)
_pairs = _bins.flatmap(
    lambda size: st.tuples(
        *(
            arrays.arrays(np.float64, size, elements=st.integers(0, 500).map(float)).filter(np.any)
            for _ in "ab"
        )
    )
)
Pair = tuple[np.ndarray, np.ndarray]


@given(_pairs)
def test_distances_are_never_negative_and_the_same_both_ways(pair: Pair) -> None:
    """0 only tells that nothing differs; Jensen-Shannon and the gap are at most 1."""
    one, other = pair

    for measure in (psi, jensen_shannon, kolmogorov_smirnov):
        assert measure(one, other) >= 0
        assert measure(one, one) == pytest.approx(0, abs=1e-12)
    assert jensen_shannon(one, other) == pytest.approx(jensen_shannon(other, one))
    assert jensen_shannon(one, other) <= 1 + 1e-12
    assert kolmogorov_smirnov(one, other) == pytest.approx(kolmogorov_smirnov(other, one))
    assert kolmogorov_smirnov(one, other) <= 1 + 1e-12


@given(_pairs)
def test_jensen_shannon_is_the_square_of_scipys_distance(pair: Pair) -> None:
    """In bits."""
    one, other = pair

    assert jensen_shannon(one, other) == pytest.approx(
        distance.jensenshannon(one, other, base=2) ** 2, abs=1e-9
    )


def test_close_histograms_have_jensen_shannon_in_proportion_to_psi() -> None:
    """An eighth, in bits: what its threshold is made from."""
    one = np.array([3000.0, 4000.0, 3000.0])
    other = np.array([3060.0, 3980.0, 2960.0])

    assert jensen_shannon(one, other) / psi(one, other) == pytest.approx(JS_OVER_PSI, rel=0.01)


@given(_pairs, st.booleans(), st.integers(2, 10))
def test_pooled_bins_hold_what_there_was(pair: Pair, ordered: bool, at_most: int) -> None:
    """No value is lost, and no bin is thinner than wanted unless there is only one."""
    one, other = pair

    before, after = pooled(one, other, ordered=ordered, fewest=5.0, at_most=at_most)

    assert (before.sum(), after.sum()) == (one.sum(), other.sum())
    assert len(before) == len(after) <= max(at_most, len(one))
    share = (before + after) / (before + after).sum()
    assert len(before) == 1 or np.all(share * min(one.sum(), other.sum()) >= 5.0 - 1e-9)


def test_ordered_bins_are_pooled_with_their_neighbours() -> None:
    """A thin bin joins the next one; without an order the rare ones come together."""
    counts = np.array([500.0, 1.0, 500.0, 1.0, 500.0])

    before, _ = pooled(counts, counts, ordered=True, fewest=10.0, at_most=10)
    apart, _ = pooled(counts, counts, ordered=False, fewest=10.0, at_most=10)

    assert before.tolist() == [500.0, 501.0, 501.0]
    assert sorted(apart.tolist()) == [500.0, 500.0, 502.0]
