"""Settles what a decision held for an action, once its outcome is known.

Whoever clicks, accepts, declines or puts an offer off has seen it. So a reservation becomes a contact of its
own when its first outcome comes: the showing that was reported, or one that the outcome implies. A showing
that is reported later takes the place of the implied one.
"""

from __future__ import annotations

from msgspec import structs

from engine.core.supply import Held, HeldBudget
from feature_store.contacts import extended, key_digest
from feature_store.state import (
    ContactEvent,
    ContactHistory,
    CustomerChange,
    CustomerRecord,
    Demand,
    OutcomeType,
)
from feature_store.store import OnlineStore

_TAKEN_FOR_MS = 60_000
"""How long a unit taken for a late outcome is held until it is spent, a moment later."""
_EVER_MS = 1 << 62
"""No contact is too old here; the store drops old ones as it records."""


class Settling:
    """One outcome, counted in place of its reservation. `counted` says after `change` whether it was new."""

    def __init__(self, event: ContactEvent, *, key: str, reserved_as: str, now_ms: int) -> None:
        self._event = event
        self._key = key
        self._place = key_digest(reserved_as)
        self._now_ms = now_ms
        self.counted = False

    def change(self, _customer_id: str, record: CustomerRecord) -> CustomerChange | None:
        """The contacts with the outcome; None where it was counted before."""
        history = extended(
            self._settled(record.contacts),
            self._event,
            key=self._key,
            now_ms=self._now_ms,
            keep_ms=_EVER_MS,
        )
        self.counted = history is not None
        return None if history is None else CustomerChange(contacts=history)

    def _settled(self, history: ContactHistory) -> ContactHistory:
        """The history without the reservation, which a reported showing replaces and others imply."""
        if self._place not in history.keys:
            return history
        rows = list(zip(history.events, history.keys, strict=True))
        if self._event.outcome is OutcomeType.SHOWN:
            rows = [row for row in rows if row[1] != self._place]
        else:
            implied = structs.replace(self._event, outcome=OutcomeType.SHOWN)
            rows = [
                (implied, key)
                if key == self._place and event.outcome is OutcomeType.RESERVED
                else (event, key)
                for event, key in rows
            ]
        return ContactHistory(tuple(event for event, _ in rows), tuple(key for _, key in rows))


def settle_budgets(store: OnlineStore, held: Held, outcome: OutcomeType, *, key: str, now_ms: int) -> None:
    """Spends the units of budgets that an outcome spends, and gives back those that it will never spend."""
    spent = [budget for budget in held.budgets if _spends(budget, outcome)]
    for budget in spent:  # one by one: a budget that is used up must not keep others from being counted
        demand = Demand(budget.budget, budget.limit, budget.window_ms)
        store.take([demand], key=key, now_ms=now_ms, until_ms=now_ms + _TAKEN_FOR_MS)
    if spent:
        store.settle([budget.budget for budget in spent], key=key, now_ms=now_ms, spent=True)
    free = [budget.budget for budget in held.budgets if budget not in spent and _frees(budget, outcome)]
    if free:
        store.settle(free, key=key, now_ms=now_ms, spent=False)


def _spends(budget: HeldBudget, outcome: OutcomeType) -> bool:
    return not {outcome, OutcomeType.SHOWN}.isdisjoint(budget.spent_by)


def _frees(budget: HeldBudget, outcome: OutcomeType) -> bool:
    """A no frees what only a click or a yes would have spent."""
    return outcome is OutcomeType.DECLINED and set(budget.spent_by) - {OutcomeType.RESERVED} != set()
