"""The action catalogue, laid out for the pipeline: arrays over actions, and who can be shown where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.core import reasons
from engine.core.rulebook import Channel, Mask
from engine.domain import Action, Reason, ReasonSource, Stage, SuppressedAction, Treatment

_ALWAYS_MS = np.iinfo(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Availability:
    """What one channel and placement leaves of the catalogue.

    `treatments[i]` is None, and `fates[i]` says why, where action i has no form there.
    """

    mask: Mask
    treatments: tuple[Treatment | None, ...]
    fates: tuple[SuppressedAction | None, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Catalogue:
    """Arrays of shape (actions,), in the order of `actions`."""

    actions: tuple[Action, ...]
    valid_from_ms: npt.NDArray[np.int64]
    valid_to_ms: npt.NDArray[np.int64]  # exclusive
    always: bool  # whether every action is valid at all times
    availability: Mapping[tuple[str, str], Availability]

    def valid_at(self, now_ms: int) -> Mask:
        """Which actions are inside their validity at an instant."""
        mask: Mask = (self.valid_from_ms <= now_ms) & (now_ms < self.valid_to_ms)
        return mask


def lay_out(actions: Sequence[Action], channels: Mapping[str, Channel]) -> Catalogue:
    """The catalogue as arrays, with the availability of every declared channel and placement."""
    places = [(c.id, p) for c in channels.values() for p in ("", *c.placements)]
    starts = [_ALWAYS_MS.min if a.valid_from_ms is None else a.valid_from_ms for a in actions]
    ends = [_ALWAYS_MS.max if a.valid_to_ms is None else a.valid_to_ms for a in actions]
    return Catalogue(
        actions=tuple(actions),
        valid_from_ms=np.array(starts, dtype=np.int64),
        valid_to_ms=np.array(ends, dtype=np.int64),
        always=all(a.valid_from_ms is None and a.valid_to_ms is None for a in actions),
        availability={place: _availability(actions, *place) for place in places},
    )


def _availability(actions: Sequence[Action], channel: str, placement: str) -> Availability:
    treatments = tuple(_treatment(a, channel, placement) for a in actions)
    fates = tuple(
        None if t else _unavailable(a, channel, placement) for a, t in zip(actions, treatments, strict=True)
    )
    return Availability(np.array([t is not None for t in treatments]), treatments, fates)


def _treatment(action: Action, channel: str, placement: str) -> Treatment | None:
    """The action's form there; one made for the placement before one for the whole channel."""
    on_channel = [t for t in action.treatments if t.channel == channel]
    for treatment in on_channel:
        if placement and placement in treatment.placements:
            return treatment
    for treatment in on_channel:
        if not placement or not treatment.placements:
            return treatment
    return None


def _unavailable(action: Action, channel: str, placement: str) -> SuppressedAction:
    if any(t.channel == channel for t in action.treatments):
        reason = Reason(reasons.NOT_ON_PLACEMENT, ReasonSource.ENGINE, values={"placement": placement})
    else:
        reason = Reason(reasons.NOT_ON_CHANNEL, ReasonSource.ENGINE, values={"channel": channel})
    return SuppressedAction(action.id, Stage.AVAILABILITY, (reason,))
