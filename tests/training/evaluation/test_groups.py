"""Parts of the customers, and how far apart a model treats them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from training.evaluation.groups import gaps_of, groups_of
from training.evaluation.held_out import HeldOut


def test_each_part_has_its_own_figures(held: HeldOut) -> None:
    """The south leaves more often than it is promised, which its calibration error shows."""
    north, south, everyone = groups_of(held)

    assert [g.value for g in (north, south, everyone)] == ["north", "south", "only one"]
    assert north.rows + south.rows == everyone.rows == len(held.labels)
    assert south.rate > south.mean_probability + 0.1
    assert south.ece > 2 * north.ece
    assert everyone.selected == pytest.approx(0.2, abs=0.01)


def test_a_planted_gap_is_found_and_its_ends_are_named(held: HeldOut) -> None:
    """Promise minus rate: the south is promised too little. An attribute with one value has no gap."""
    gaps = gaps_of(held, seed=1)

    promise = next(gap for gap in gaps if gap.measure == "promise")
    assert (promise.attribute, promise.lowest, promise.highest) == ("region", "south", "north")
    assert promise.size.low > 0.1
    assert {gap.attribute for gap in gaps} == {"region"}


def test_gaps_are_the_same_at_every_run(held: HeldOut) -> None:
    """They are drawn from a seed."""
    assert gaps_of(held, seed=4) == gaps_of(held, seed=4)


def test_small_parts_are_shown_but_not_compared(held: HeldOut) -> None:
    """Forty rows, or a part where nobody has the label, say nothing sure."""
    few = np.where(np.arange(len(held.labels)) < 40, "few", "many")
    calm = np.where(held.labels > 0.5, "loud", "calm")

    sized = replace(held, groups={"size": few, "mood": calm})

    assert [group.judged for group in groups_of(sized)] == [False, True, False, False]
    assert [group.auc is None for group in groups_of(sized)] == [False, False, True, True]
    assert gaps_of(sized, seed=1) == ()
