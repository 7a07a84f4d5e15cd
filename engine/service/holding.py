"""Holds what a decision counts on before it is answered: reserved contacts and units of budgets.

A decision is made from what was read; others may be made from the same. So what a contact policy counts on
decision is held first, by writes that fail where somebody came between, and then the decision is made again
from what there is now. What a process held and never answered ends by itself.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import structlog

from engine.core import contact
from engine.core.snapshot import Snapshot
from engine.core.supply import PLENTY, UNRECORDED, Held, Supply, hold_key
from engine.domain import Action, Decision, DecisionRequest
from engine.service.late_writes import Writing
from feature_store.contacts import key_digest
from feature_store.errors import StoreError
from feature_store.state import (
    ContactEvent,
    ContactHistory,
    CustomerChange,
    CustomerRecord,
    CustomerState,
    Demand,
    OutcomeType,
    Reservation,
)
from feature_store.store import OnlineStore

_log = structlog.get_logger("engine.service.holding")

MAX_ATTEMPTS = 10
"""Times one decision is made; then it does without what others keep taking."""
HINT_MS = 1_000
"""How long a process may believe what was left of a budget: taking it decides."""
CONTENDED = "contacts:contended"
UNRESERVABLE = "contacts:unreservable"
UNREADABLE = "budgets:unreadable"
UNCOUNTED = "contacts:unreadable"
"""What a decision says it did without."""


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """A decision with what it was made from and what is held for it, not yet logged."""

    request: DecisionRequest
    state: CustomerState
    supply: Supply
    decision: Decision
    now_ms: int
    writing: Writing
    held: tuple[Held, ...] = ()
    key: str = ""


DecideAgain = Callable[[CustomerState, Supply], Decision]
ReadAgain = Callable[[], CustomerState]


class Holding:
    """Reserves contacts and takes units of budgets for decisions. Safe for threads."""

    def __init__(self, store: OnlineStore) -> None:
        self._store = store
        self._hints: dict[Demand, tuple[int, int]] = {}  # when it was read, and what was left

    def supply(self, snapshot: Snapshot, request: DecisionRequest, now_ms: int) -> Supply:
        """What is left for a decision, as far as is known; no round trip where no budget is asked for."""
        demands = _demands(snapshot, request)
        if not demands:
            return PLENTY
        try:
            left = self._left(demands, now_ms)
        except StoreError as error:
            _log.warning("budgets.unreadable", cause=str(error))
            return _without_budgets(PLENTY, demands, UNREADABLE)
        return _scarce(PLENTY, {d.budget: n for d, n in left.items()}, request.limit)

    def nothing(self, snapshot: Snapshot, request: DecisionRequest) -> Supply:
        """What there is while the store cannot be read: nothing that a decision would have to hold."""
        supply, demands = _unreservable(PLENTY, UNCOUNTED), _demands(snapshot, request)
        return _without_budgets(supply, demands, UNREADABLE) if demands else supply

    def unrecorded(self, snapshot: Snapshot, request: DecisionRequest) -> Supply:
        """What there is while the log takes nothing: the same, as holding is of use to what is logged."""
        supply = _unreservable(PLENTY, UNRECORDED)
        return _without_budgets(supply, _demands(snapshot, request), UNRECORDED)

    def _left(self, demands: Sequence[Demand], now_ms: int) -> dict[Demand, int]:
        known = {d: hint for d in demands if (hint := self._hints.get(d)) and _is_fresh(hint[0], now_ms)}
        asked = [demand for demand in demands if demand not in known]
        if asked:
            read = self._store.left(asked, now_ms=now_ms)
            known |= {demand: (now_ms, left) for demand, left in zip(asked, read, strict=True)}
            self._hints.update(known)
        return {demand: left for demand, (_, left) in known.items()}

    def hold(
        self, draft: Draft, snapshot: Snapshot, *, decide_again: DecideAgain, read_again: ReadAgain
    ) -> Draft:
        """The decision with all it counts on held, made again where something was not to be had.

        Where others always come between, it is made without what would have to be held.
        """
        grasp = _Grasp(self._store, snapshot, self._exhausted)

        def again(state: CustomerState, supply: Supply) -> Draft:
            if not state.consents_readable:
                supply = self.nothing(snapshot, draft.request)
            request = replace(draft.request, customer_id=state.customer_id)  # merged into another meanwhile
            decision = decide_again(state, supply)
            return replace(draft, request=request, state=state, supply=supply, decision=decision)

        try:
            for _ in range(MAX_ATTEMPTS - 1):
                short, moved = grasp.all_of(draft)
                if short is None and not moved:
                    break
                state = read_again() if moved else draft.state
                draft = again(state, draft.supply if short is None else short)
            else:
                draft = again(draft.state, _holding_nothing(draft.supply, _demands(snapshot, draft.request)))
        except BaseException:
            grasp.free_but(())
            raise
        return grasp.kept(draft)

    def _exhausted(self, demands: Iterable[Demand], now_ms: int) -> None:
        self._hints.update((demand, (now_ms, 0)) for demand in demands)

    def needed(self, draft: Draft, snapshot: Snapshot) -> bool:
        """Whether anything must be held before the decision is answered."""
        return bool(_holds(snapshot, draft))

    def give_back(self, draft: Draft) -> None:
        """Frees what is held for a decision that is not answered; what cannot be freed ends by itself."""
        for held in draft.held:
            if held.budgets:
                _give_back(self._store, held, draft.key, draft.now_ms)
        reserved = [held.action_id for held in draft.held if held.reserved_until_ms is not None]
        if reserved:
            self._unreserve(draft, frozenset(key_digest(hold_key(draft.key, name)) for name in reserved))

    def _unreserve(self, draft: Draft, keys: frozenset[bytes]) -> None:
        try:
            self._store.update(
                [draft.state.customer_id], lambda _, record: _without_reservations(record, keys)
            )
        except StoreError as error:
            _log.warning("contacts.not_given_back", cause=str(error))


@dataclass(slots=True)
class _Grasp:
    """What is held for one decision while it is made."""

    store: OnlineStore
    snapshot: Snapshot
    exhausted: Callable[[Iterable[Demand], int], None]
    key: str = field(default_factory=lambda: secrets.token_hex(8))
    taken: dict[str, tuple[Held, int]] = field(default_factory=dict)  # by action, and when

    def all_of(self, draft: Draft) -> tuple[Supply | None, bool]:
        """Tries to hold all that a draft asks for: the supply to do with if it cannot, and whether the
        customer's contacts are no longer those it was made from.
        """
        wanted = _holds(self.snapshot, draft)
        for held in wanted:
            short = self._take(held, draft)
            if short is not None:
                return short, False
        return self._reserve(wanted, draft)

    def _take(self, held: Held, draft: Draft) -> Supply | None:
        """Takes the units one action asks for; the supply to do with where there are not all of them."""
        if not held.budgets or held.action_id in self.taken:
            return None
        key, now_ms = hold_key(self.key, held.action_id), draft.now_ms
        demands = _demands_of(held)
        try:
            lacking = self.store.take(demands, key=key, now_ms=now_ms, until_ms=held.budgets_until_ms)
        except StoreError as error:
            _log.warning("budgets.not_taken", cause=str(error))
            self.taken[held.action_id] = held, now_ms  # perhaps: so it is given back with the others
            return _without_budgets(draft.supply, _demands(self.snapshot, draft.request), UNREADABLE)
        if not lacking:
            self.taken[held.action_id] = held, now_ms
            return None
        self.exhausted((demand for demand in demands if demand.budget in lacking), now_ms)
        mine = [budget.budget for taken, _ in self.taken.values() for budget in taken.budgets]
        left = {name: mine.count(name) for name in lacking}  # units this decision holds already
        return replace(draft.supply, left={**draft.supply.left, **left})

    def _reserve(self, wanted: Sequence[Held], draft: Draft) -> tuple[Supply | None, bool]:
        limits = self.snapshot.limits
        reservations = [
            Reservation(
                _reservation(limits.actions[limits.index[held.action_id]], draft, held.reserved_until_ms),
                hold_key(self.key, held.action_id),
            )
            for held in wanted
            if held.reserved_until_ms is not None
        ]
        if not reservations:
            return None, False
        try:
            return None, not self.store.reserve(draft.state, reservations)
        except StoreError as error:
            _log.warning("contacts.not_reserved", cause=str(error))
            return _unreservable(draft.supply, UNRESERVABLE), False

    def kept(self, draft: Draft) -> Draft:
        """The draft with what is held for it; the rest is given back."""
        held = _holds(self.snapshot, draft)
        self.free_but([each.action_id for each in held])
        return replace(draft, held=held, key=self.key) if held else draft

    def free_but(self, action_ids: Sequence[str]) -> None:
        """Gives back what was taken for other actions."""
        for name, (held, now_ms) in self.taken.items():
            if name not in action_ids:
                _give_back(self.store, held, self.key, now_ms)


def _give_back(store: OnlineStore, held: Held, key: str, now_ms: int) -> None:
    names = [budget.budget for budget in held.budgets]
    try:
        store.settle(names, key=hold_key(key, held.action_id), now_ms=now_ms, spent=False)
    except StoreError as error:
        _log.warning("budgets.not_given_back", cause=str(error))


def _reservation(action: Action, draft: Draft, until_ms: int) -> ContactEvent:
    return ContactEvent(
        at_ms=draft.now_ms,
        action_id=action.id,
        group=action.group,
        channel=draft.request.channel,
        purpose=action.purpose,
        outcome=OutcomeType.RESERVED,
        until_ms=until_ms,
    )


def _holds(snapshot: Snapshot, draft: Draft) -> tuple[Held, ...]:
    returned = [action.action_id for action in draft.decision.actions]
    return contact.holds(snapshot.limits, returned, channel=draft.request.channel, now_ms=draft.now_ms)


def _demands(snapshot: Snapshot, request: DecisionRequest) -> tuple[Demand, ...]:
    return snapshot.limits.demands[request.channel, request.placement]


def _demands_of(held: Held) -> list[Demand]:
    return [Demand(budget.budget, budget.limit, budget.window_ms) for budget in held.budgets]


def _is_fresh(read_ms: int, now_ms: int) -> bool:
    return abs(now_ms - read_ms) < HINT_MS


def _scarce(supply: Supply, left: dict[str, int], limit: int) -> Supply:
    """Only what could run out within one decision is worth saying, and logging."""
    scarce = {name: units for name, units in left.items() if units < limit}
    return replace(supply, left=scarce) if scarce else supply


def _without_budgets(supply: Supply, demands: Sequence[Demand], why: str) -> Supply:
    left = dict.fromkeys((demand.budget for demand in demands), 0)
    return replace(supply, left=left, degraded_by=_added(supply.degraded_by, why))


def _unreservable(supply: Supply, why: str) -> Supply:
    return replace(supply, reservable=False, degraded_by=_added(supply.degraded_by, why))


def _holding_nothing(supply: Supply, demands: Sequence[Demand]) -> Supply:
    """Under which nothing is returned that would have to be held."""
    return _unreservable(_without_budgets(supply, demands, CONTENDED), CONTENDED)


def _added(degraded_by: tuple[str, ...], why: str) -> tuple[str, ...]:
    return degraded_by if why in degraded_by else (*degraded_by, why)


def _without_reservations(record: CustomerRecord, keys: frozenset[bytes]) -> CustomerChange | None:
    """The contacts without what was reserved under these keys."""
    history = record.contacts
    rows = [
        (event, key)
        for event, key in zip(history.events, history.keys, strict=True)
        if key not in keys or event.outcome is not OutcomeType.RESERVED
    ]
    if len(rows) == len(history.keys):
        return None
    events, digests = tuple(e for e, _ in rows), tuple(k for _, k in rows)
    return CustomerChange(contacts=ContactHistory(events, digests))
