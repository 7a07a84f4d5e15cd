"""Regions of the space of inputs: unions of boxes, each a set of values for some of the variables.

A variable that a box does not name may have any value. Operations that would grow too large give a larger
region back, so a region is exact or too large, never too small.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Final

from engine.ruleset.values import ValueSet, meet, without

Variable = Hashable
"""Name of an input, or whatever else tells one computed value from another."""
Box = Mapping[Variable, ValueSet]
Region = tuple[Box, ...]


class WideRegion(tuple[Box, ...]):
    """A region that is larger than what it stands for, because the exact one has too many boxes."""

    __slots__ = ()


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


def is_exact(region: Region) -> bool:
    """Whether a region is just what it stands for; one with nothing in it always is."""
    return not (region and isinstance(region, WideRegion))


def meet_regions(one: Region, other: Region) -> Region:
    """What is in both; where that has too many boxes, the one with fewer of them."""
    if len(one) * len(other) > MAX_BOXES:
        return WideRegion(one if len(one) <= len(other) else other)
    found = (meet_boxes(a, b) for a in one for b in other)
    met = tuple(box for box in found if box is not None)
    return met if is_exact(one) and is_exact(other) else WideRegion(met)


def join_regions(one: Region, other: Region) -> Region:
    """What is in either; everything where that has too many boxes."""
    if any(region == EVERYWHERE and is_exact(region) for region in (one, other)):
        return EVERYWHERE
    joined = (*one, *(box for box in other if box not in one))
    if len(joined) > MAX_BOXES:
        return WideRegion(EVERYWHERE)
    whole = EVERYWHERE if any(not box for box in joined) else joined
    return whole if is_exact(one) and is_exact(other) else WideRegion(whole)


def anything_left(regions: Sequence[Region], *, limit: int) -> bool | None:
    """Whether something lies in all regions; None where finding out takes more than `limit` steps.

    Looks for one box of each that have something in common, so it needs no more room than one answer.
    """
    ordered = sorted(regions, key=len)
    found: list[Box] = [{}]
    ways: list[Iterator[Box]] = []
    while len(found) <= len(ordered):
        if len(ways) < len(found):
            ways.append(iter(ordered[len(ways)]))
        for box in ways[-1]:
            limit -= 1
            if limit < 0:
                return None
            both = meet_boxes(found[-1], box)
            if both is not None:
                found.append(both)
                break
        else:
            ways.pop()
            found.pop()
            if not ways:
                return False
    return True


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
