"""Arbitration: priority = P x C x V x (1 + sum of levers), a total order, and what the cut leaves.

Ties fall to the higher net value, then to the smaller action id, so the order is total and stated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.core import reasons
from engine.core.account import Account
from engine.core.catalogue import Catalogue
from engine.core.contact import Room
from engine.core.policy import Pulls
from engine.core.rulebook import Arbitration, ContactKind, ContactPolicy
from engine.domain import Action, Priority, PropensitySource, Reason, ReasonSource, Stage

_REMEMBERED: Final = 256
"""Reasons of the cut that decisions share, of each kind."""
_MODEL, _PRIOR = PropensitySource.MODEL, PropensitySource.PRIOR


def prioritise(
    candidates: Sequence[int],
    *,
    catalogue: Catalogue,
    scored: npt.NDArray[np.float64] | None,
    pulls: Pulls,
) -> dict[int, Priority]:
    """The priority of each candidate. `scored` is P of shape (actions,), NaN where the prior holds."""
    known = [np.nan] * len(catalogue.actions) if scored is None else scored.tolist()
    actions = catalogue.actions
    return {i: _priority(i, actions[i], known[i], pulls) for i in candidates}


def _priority(i: int, action: Action, scored: float, pulls: Pulls) -> Priority:
    """`scored` is NaN where the prior holds."""
    by_model = scored == scored
    propensity = scored if by_model else action.prior
    weight = action.weight * pulls.factors.get(i, 1.0)
    value = pulls.values.get(i, action.value) - action.cost
    levers = pulls.levers.get(i, ())
    boost = max(0.0, 1.0 + sum([lever.share for lever in levers])) if levers else 1.0
    source = _MODEL if by_model else _PRIOR
    return Priority(propensity * weight * value * boost, propensity, source, weight, value, levers)


def order(priorities: Mapping[int, Priority], catalogue: Catalogue) -> list[int]:
    """Candidates, best first."""
    actions = catalogue.actions
    ranked = [(-each.priority, -each.value, actions[i].id, i) for i, each in priorities.items()]
    return [i for *_, i in sorted(ranked)]


def cut(
    ranked: Sequence[int],
    *,
    account: Account,
    priorities: Mapping[int, Priority],
    catalogue: Catalogue,
    arbitration: Arbitration,
    policies: Sequence[ContactPolicy],
    room: Room | None,
    currency: str,
    limit: int,
) -> list[int]:
    """The candidates to return; the others leave the account with the reason they lost.

    `room` is given where an action that is returned takes from what later ones may count on.
    """
    exclusions = [p.scope for p in policies if p.kind is ContactKind.EXCLUSION]
    threshold, most = arbitration.threshold, arbitration.max_per_group
    below, beyond = _below_threshold(f"{threshold:.2f}", currency), _beyond(limit)
    actions = catalogue.actions
    chosen: list[int] = []
    taken: dict[str, int] = {}  # of each group
    for i in ranked:
        priority, group = priorities[i], actions[i].group
        told: Told | None
        if not priority.priority >= threshold:  # one that is no number is below
            told = below
        elif taken.get(group, 0) >= most:
            told = _no_more_of(group, most)
        else:
            told = (
                (_excluded(i, chosen, catalogue, exclusions) if exclusions else None)
                or (None if room is None else room.refusal(i))
                or (beyond if len(chosen) >= limit else None)
            )
        if told is None:
            chosen.append(i)
            taken[group] = taken.get(group, 0) + 1
            if room is not None:
                room.choose(i)
        else:
            account.remove(i, Stage.ARBITRATION, told, priority)
    return chosen


Told = tuple[Reason, ...]


def _engine(code: str, **values: str) -> Told:
    return (Reason(code, ReasonSource.ENGINE, values=values),)


@lru_cache(_REMEMBERED)
def _below_threshold(threshold: str, currency: str) -> Told:
    return _engine(reasons.BELOW_THRESHOLD, threshold=threshold, currency=currency)


@lru_cache(_REMEMBERED)
def _no_more_of(group: str, most: int) -> Told:
    return _engine(reasons.GROUP_FULL, group=group, max_per_group=str(most))


def _excluded(
    i: int, chosen: Sequence[int], catalogue: Catalogue, exclusions: Sequence[npt.NDArray[np.bool_]]
) -> Told | None:
    for scope in exclusions:
        better = next((j for j in chosen if scope[i] and scope[j]), None)
        if better is not None:
            return _engine(reasons.EXCLUDED_BY_BETTER, better=catalogue.actions[better].id)
    return None


@lru_cache(_REMEMBERED)
def _beyond(limit: int) -> Told:
    return _engine(reasons.BEYOND_LIMIT, limit=str(limit))
