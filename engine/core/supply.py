"""What a decision can have beyond the customer's own state, and what it holds once it is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from feature_store.state import OutcomeType


@dataclass(frozen=True, slots=True)
class Supply:
    """What can be had at the moment of one decision; logged with it, so that a replay sees the same.

    `left` holds the units left of budgets that are scarce, by name; one that is not named has plenty.
    Where contacts are not `reservable`, nothing is returned that would have to be reserved. `waived`
    are policies set aside, by id: for what-if only.
    """

    left: Mapping[str, int] = field(default_factory=dict)
    reservable: bool = True
    degraded_by: tuple[str, ...] = ()
    waived: tuple[str, ...] = ()


DEADLINE: Final = "deadline"
"""Why a decision has no model reasons: its caller hardly waits any longer."""
MODELS_SLOW: Final = "models:slow"
"""Why no model scored: they took too long of late."""
UNRECORDED: Final = "log"
"""Why only purposes that rest on a contract go on: the log takes nothing, so nothing else could be proven."""

PLENTY: Final = Supply()
"""Nothing is scarce: what decisions are compared under."""


@dataclass(frozen=True, slots=True)
class HeldBudget:
    """One unit of a budget held for an action, and the outcomes that spend it."""

    budget: str
    limit: int
    window_ms: int
    spent_by: tuple[OutcomeType, ...]


@dataclass(frozen=True, slots=True)
class Held:
    """What is held for one returned action until its outcome is known.

    `reserved_until_ms` is None where its contact is not reserved. Units of budgets are held until
    `budgets_until_ms`, exclusive; 0 where there are none.
    """

    action_id: str
    reserved_until_ms: int | None = None
    budgets: tuple[HeldBudget, ...] = ()
    budgets_until_ms: int = 0


def hold_key(decision_id: str, action_id: str) -> str:
    """The key under which a decision holds what an action of it needs."""
    return f"{decision_id}/{action_id}"
