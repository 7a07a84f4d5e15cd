"""How far two histograms over the same bins are apart: PSI, Jensen-Shannon, Kolmogorov-Smirnov.

A histogram is float64 or int64 of shape (bins,). What chance alone does to each distance is in `chances`:
under no drift PSI is about (1/n + 1/m) chi2(bins - 1), Jensen-Shannon an eighth of that.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Histogram = npt.NDArray[np.float64]

JS_OVER_PSI: Final = 1 / (8 * np.log(2.0))
"""What Jensen-Shannon in bits is of PSI where the two histograms are close."""
_HALF: Final = 0.5
"""Added to each bin for PSI, which an empty one would make infinite."""


def psi(reference: Histogram, now: Histogram) -> float:
    """Population stability index: 0 where the shares are the same, about d*d for a shift by d deviations."""
    expected, found = _shares(reference + _HALF), _shares(now + _HALF)
    return float(np.sum((found - expected) * np.log(found / expected)))


def jensen_shannon(reference: Histogram, now: Histogram) -> float:
    """Jensen-Shannon divergence in bits: 0 where the shares are the same, 1 where no bin is in both."""
    expected, found = _shares(reference), _shares(now)
    middle = (expected + found) / 2
    return max(0.0, (_divergence(expected, middle) + _divergence(found, middle)) / 2)


def kolmogorov_smirnov(reference: Histogram, now: Histogram) -> float:
    """Largest gap between the two cumulative shares, 0 to 1; bins in their order."""
    return float(np.max(np.abs(np.cumsum(_shares(reference)) - np.cumsum(_shares(now)))))


def _shares(counts: Histogram) -> Histogram:
    shares: Histogram = counts / counts.sum()
    return shares


def _divergence(shares: Histogram, middle: Histogram) -> float:
    there = shares > 0
    return float(np.sum(shares[there] * np.log2(shares[there] / middle[there])))


def pooled(
    reference: Histogram, now: Histogram, *, ordered: bool, fewest: float, at_most: int
) -> tuple[Histogram, Histogram]:
    """Both histograms with thin bins put together, neighbours where the bins have an order.

    In a pooled bin at least `fewest` cases of the smaller histogram are expected if nothing has changed;
    there are `at_most` bins. What is put together goes by both histograms added up, which tells nothing of
    how they differ, so no difference is made or hidden by the choice.
    """
    together = reference + now
    least = fewest * together.sum() / min(reference.sum(), now.sum())
    if len(together) > at_most:
        least = max(least, together.sum() / at_most)
    places = np.arange(len(together)) if ordered else np.argsort(-together, kind="stable")
    group = np.zeros(len(together), dtype=np.intp)
    group[places] = _groups(together[places], least)
    return _summed(group, reference), _summed(group, now)


def _summed(group: npt.NDArray[np.intp], counts: Histogram) -> Histogram:
    return np.bincount(group, weights=counts).astype(np.float64)


def _groups(counts: Histogram, least: float) -> npt.NDArray[np.intp]:
    """A number for each bin: a new one as soon as the bins of the last hold enough."""
    numbers = np.zeros(len(counts), dtype=np.intp)
    number, held = 0, 0.0
    for place, count in enumerate(counts.tolist()):
        numbers[place] = number
        held += count
        if held >= least:
            number, held = number + 1, 0.0
    if held < least and number:  # what is left at the end goes to the last that has enough
        numbers[numbers == number] = number - 1
    return numbers
