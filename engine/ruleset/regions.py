"""Regions of the space of inputs: unions of boxes, each a set of values for some of the variables.

A variable that a box does not name may have any value. Operations that would grow too large give a larger
region back, so a region is exact or too large, never too small.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Final

from engine.ruleset.values import ValueSet, meet, without

Variable = Hashable
"""Name of an input, or whatever else tells one computed value from another."""
Box = Mapping[Variable, ValueSet]
Region = tuple[Box, ...]
EVERYWHERE: Final[Region] = ({},)
NOWHERE: Final[Region] = ()
MAX_BOXES: Final = 256


def meet_boxes(one: Box, other: Box) -> Box | None:
    """What is in both boxes; None where nothing is."""
    joined = dict(one)
    for variable, values in other.items():
        both = meet(joined[variable], values) if variable in joined else values
        if both.is_empty:
            return None
        joined[variable] = both
    return joined


def meet_regions(one: Region, other: Region) -> Region:
    """What is in both; where that has too many boxes, the one with fewer of them."""
    if len(one) * len(other) > MAX_BOXES:
        return min(one, other, key=len)
    found = (meet_boxes(a, b) for a in one for b in other)
    return tuple(box for box in found if box is not None)


def join_regions(one: Region, other: Region) -> Region:
    """What is in either; everything where that has too many boxes."""
    joined = (*one, *(box for box in other if box not in one))
    if any(not box for box in joined) or len(joined) > MAX_BOXES:
        return EVERYWHERE
    return joined


def subtract(region: Region, cut: Box, every: Box, *, limit: int) -> Region | None:
    """What of disjoint boxes lies outside of `cut`, as disjoint boxes; None where there are too many.

    `every` has all values of each variable.
    """
    left: list[Box] = []
    for box in region:
        left += _around(box, cut, every)
        if len(left) > limit:
            return None
    return tuple(left)


def _around(box: Box, cut: Box, every: Box) -> list[Box]:
    if meet_boxes(box, cut) is None:
        return [box]
    parts: list[Box] = []
    inside = dict(box)
    for variable, values in cut.items():
        have = inside.get(variable, every[variable])
        outside = without(have, values)
        if not outside.is_empty:
            parts.append({**inside, variable: outside})
        inside[variable] = meet(have, values)
    return parts


def box_words(box: Box, order: tuple[str, ...]) -> str:
    """A box for people: `contract two-year, monthly [70..100)`."""
    named = [f"`{name}` {box[name].words()}" for name in order if name in box]
    return ", ".join(named) or "everything"
