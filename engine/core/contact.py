"""Contact policies: limits over sliding windows that end now, local quiet hours, and shared budgets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import numpy as np

from engine.core.account import Account
from engine.core.catalogue import Catalogue
from engine.core.inputs import InputLayout
from engine.core.rulebook import ContactKind, ContactPolicy, CountedPer, Mask, QuietTime, Rulebook
from engine.core.supply import PLENTY, Held, HeldBudget, Supply
from engine.domain import Action, Reason, ReasonSource, Stage
from feature_store.state import ContactEvent, Demand, OutcomeType

_EVENT_KEY: Mapping[CountedPer, Callable[[ContactEvent], str]] = {
    CountedPer.ACTION: lambda e: e.action_id,
    CountedPer.GROUP: lambda e: e.group,
    CountedPer.CHANNEL: lambda e: e.channel,
    CountedPer.PURPOSE: lambda e: e.purpose,
    CountedPer.OVERALL: lambda _: "",
}
_REMEMBERED: Final = 1024
"""Sets of policies whose reasons decisions share."""
_COUNTING = frozenset({ContactKind.CAP, ContactKind.COOLDOWN, ContactKind.EXCLUSION})


@dataclass(frozen=True, slots=True, eq=False)
class Limits:
    """The contact policies of a rule set, laid out for many decisions.

    `standing` are those that may forbid without any contact. `reserving` count what is reserved, and
    `reserved` are the actions one of them is for. `demands` are the budgets that actions at a place draw on.
    `scopes` are the places of the actions a policy is for, by its id; `members` the same of those for which
    it counts the same contacts, by their key, which is empty where it counts per channel.
    """

    policies: tuple[ContactPolicy, ...]
    standing: tuple[ContactPolicy, ...]
    reserving: tuple[ContactPolicy, ...]
    budgets: tuple[ContactPolicy, ...]
    reserved: Mask
    demands: Mapping[tuple[str, str], tuple[Demand, ...]]
    scopes: Mapping[str, tuple[int, ...]]
    members: Mapping[str, Mapping[str, tuple[int, ...]]]
    actions: tuple[Action, ...]
    index: Mapping[str, int]  # action id to its place
    zone_places: Mapping[str, int]  # input that names a time zone to its place in `Frame.values`

    @property
    def hold(self) -> bool:
        """Whether any policy has decisions hold something."""
        return bool(self.reserving or self.budgets)


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """What contact policies look at in one decision; `values` are those of its frame."""

    events: Sequence[ContactEvent]
    channel: str
    now_ms: int
    values: Sequence[object] = ()
    supply: Supply = PLENTY


def lay_out(policies: Sequence[ContactPolicy], catalogue: Catalogue, layout: InputLayout) -> Limits:
    """The policies, prepared."""
    strict = reserving(policies)
    budgets = tuple(p for p in policies if p.kind is ContactKind.BUDGET)
    nobody: Mask = np.zeros(len(catalogue.actions), dtype=np.bool_)
    scopes = {p.id: tuple(np.flatnonzero(p.scope).tolist()) for p in policies}
    return Limits(
        policies=tuple(policies),
        standing=tuple(p for p in policies if p.kind not in _COUNTING),
        reserving=strict,
        budgets=budgets,
        reserved=np.logical_or.reduce([nobody, *(p.scope for p in strict)]),
        demands={place: _demands(budgets, catalogue, place) for place in catalogue.availability},
        scopes=scopes,
        members={p.id: _members(p, scopes[p.id], catalogue.actions) for p in policies},
        actions=catalogue.actions,
        index={action.id: i for i, action in enumerate(catalogue.actions)},
        zone_places={
            p.quiet.zone_input: layout.index[p.quiet.zone_input]
            for p in policies
            if p.quiet is not None and p.quiet.zone_input
        },
    )


def _members(
    policy: ContactPolicy, scope: Sequence[int], actions: Sequence[Action]
) -> dict[str, tuple[int, ...]]:
    found: dict[str, list[int]] = {}
    for i in scope:
        found.setdefault(_action_key(policy.per, actions[i], ""), []).append(i)
    return {key: tuple(places) for key, places in found.items()}


def _demands(
    budgets: Sequence[ContactPolicy], catalogue: Catalogue, place: tuple[str, str]
) -> tuple[Demand, ...]:
    mask = catalogue.availability[place].mask
    return tuple(
        dict.fromkeys(
            _demand(policy, catalogue.actions[i], place[0])
            for policy in budgets
            for i in np.flatnonzero(policy.scope & mask).tolist()
        )
    )


def _demand(policy: ContactPolicy, action: Action, channel: str) -> Demand:
    return Demand(budget_name(policy, action, channel), policy.limit, policy.window_ms)


def budget_name(policy: ContactPolicy, action: Action, channel: str) -> str:
    """The budget an action draws on under a policy: one for each of what it is counted per."""
    key = _action_key(policy.per, action, channel)
    return f"{policy.id}/{key}" if key else policy.id


def limit(account: Account, *, limits: Limits, moment: Moment) -> None:
    """Removes the candidates that a contact policy forbids now, with every such reason."""
    policies = limits.policies if moment.events or not moment.supply.reservable else limits.standing
    if not policies:
        return
    alive: list[bool] = account.alive.tolist()
    found: dict[int, list[tuple[str, str]]] = {}
    for policy in policies:
        for index in _forbidden(policy, alive, limits, moment):
            found.setdefault(index, []).append((policy.reason, policy.id))
    for index, told in found.items():
        account.remove(index, Stage.CONTACT, _reasons(tuple(told)))


@lru_cache(_REMEMBERED)
def _reasons(told: tuple[tuple[str, str], ...]) -> tuple[Reason, ...]:
    """The reasons of some policies, each its code and its id; decisions share them."""
    return tuple(Reason(code, ReasonSource.CONTACT, policy_id) for code, policy_id in told)


def _forbidden(policy: ContactPolicy, alive: Sequence[bool], limits: Limits, moment: Moment) -> list[int]:
    """Candidates in scope that the policy forbids; `alive` says of each action whether it is still in."""
    if policy.id in moment.supply.waived:
        return []
    if policy.quiet is not None:
        is_quiet = quiet_until_ms(policy.quiet, limits, moment) is not None
        return _in_scope(policy, alive, limits) if is_quiet else []
    if policy.kind is ContactKind.BUDGET:
        scope = _in_scope(policy, alive, limits)
        return [i for i in scope if units_left(policy, limits.actions[i], moment) == 0]
    if not moment.supply.reservable and OutcomeType.RESERVED in policy.counts:
        return _in_scope(policy, alive, limits)
    return _counted_out(policy, alive, limits, moment)


def _in_scope(policy: ContactPolicy, alive: Sequence[bool], limits: Limits) -> list[int]:
    return [i for i in limits.scopes[policy.id] if alive[i]]


def _counted_out(policy: ContactPolicy, alive: Sequence[bool], limits: Limits, moment: Moment) -> list[int]:
    events = _within(policy, moment)
    if not events:
        return []
    if policy.kind is ContactKind.EXCLUSION:
        actions = limits.actions
        members = {actions[i].id for i in limits.scopes[policy.id]}
        taken = {e.action_id for e in events} & members
        return [i for i in _in_scope(policy, alive, limits) if taken - {actions[i].id}]
    if len(events) < policy.limit:
        return []
    full = [key for key, count in _counts(policy, events).items() if count >= policy.limit]
    if policy.per is CountedPer.CHANNEL:
        full = [""] if moment.channel in full else []
    members_of = limits.members[policy.id]
    return [i for key in full for i in members_of.get(key, ()) if alive[i]]


def _within(policy: ContactPolicy, moment: Moment) -> list[ContactEvent]:
    """The events that count now. One ahead of `now` counts: fail closed."""
    now_ms, counts = moment.now_ms, tuple(policy.counts)  # found by identity, without a hash of an enum
    after_ms, reserved = now_ms - policy.window_ms, OutcomeType.RESERVED
    return [
        e
        for e in moment.events
        if e.at_ms > after_ms
        and e.outcome in counts
        and (e.outcome is not reserved or now_ms < ends_ms(policy, e))
    ]


def ends_ms(policy: ContactPolicy, event: ContactEvent) -> int:
    """When an event no longer counts under a policy: as it leaves the window, or as its reservation ends."""
    leaves_ms = event.at_ms + policy.window_ms
    if event.outcome is not OutcomeType.RESERVED:
        return leaves_ms
    held_ms = event.at_ms + policy.reserve_ms
    return min(leaves_ms, held_ms if event.until_ms is None else min(held_ms, event.until_ms))


def _counts(policy: ContactPolicy, events: Sequence[ContactEvent]) -> dict[str, int]:
    key_of = _EVENT_KEY[policy.per]
    counts: dict[str, int] = {}
    for event in events:
        key = key_of(event)
        counts[key] = counts.get(key, 0) + 1
    return counts


def counted(
    policy: ContactPolicy, action: Action, *, actions: Sequence[Action], moment: Moment
) -> tuple[ContactEvent, ...]:
    """The events that count against an action under a cap, cool-down or exclusion now, oldest first.

    The policy forbids an action in its scope exactly where there are at least `policy.limit` of them.
    """
    within = _within(policy, moment)
    if policy.kind is ContactKind.EXCLUSION:
        members = {actions[i].id for i in np.flatnonzero(policy.scope).tolist()} - {action.id}
        found = [e for e in within if e.action_id in members]
    else:
        key_of, key = _EVENT_KEY[policy.per], _action_key(policy.per, action, moment.channel)
        found = [e for e in within if key_of(e) == key]
    return tuple(sorted(found, key=lambda e: e.at_ms))


def quiet_until_ms(quiet: QuietTime, limits: Limits, moment: Moment) -> int | None:
    """When the quiet hours that it is now for the customer end; None where it is none."""
    if quiet.channels and moment.channel not in quiet.channels:
        return None
    return quiet.period.until_ms(zone_of(quiet, limits, moment), moment.now_ms)


def zone_of(quiet: QuietTime, limits: Limits, moment: Moment) -> str:
    """The customer's time zone, as far as it is known."""
    if quiet.zone_input:
        zone = moment.values[limits.zone_places[quiet.zone_input]]
        if isinstance(zone, str) and quiet.period.knows(zone):
            return zone
    return quiet.zone


def units_left(policy: ContactPolicy, action: Action, moment: Moment) -> int | None:
    """Units left of the budget an action draws on; None where it has plenty."""
    return moment.supply.left.get(budget_name(policy, action, moment.channel))


def _action_key(per: CountedPer, action: Action, channel: str) -> str:
    match per:
        case CountedPer.ACTION:
            return action.id
        case CountedPer.GROUP:
            return action.group
        case CountedPer.CHANNEL:
            return channel
        case CountedPer.PURPOSE:
            return action.purpose
        case CountedPer.OVERALL:
            return ""


@dataclass(slots=True)
class Room:
    """What is left for one decision as it chooses: each action chosen takes up what it will hold."""

    limits: Limits
    moment: Moment
    _counts: dict[str, dict[str, int]] = field(default_factory=dict)  # by policy, then by key
    _left: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._left.update(self.moment.supply.left)
        for policy in self._caps():
            self._counts[policy.id] = _counts(policy, _within(policy, self.moment))

    def _caps(self) -> Iterator[ContactPolicy]:
        waived = self.moment.supply.waived
        return (
            p for p in self.limits.reserving if p.kind is not ContactKind.EXCLUSION and p.id not in waived
        )

    def refusal(self, index: int) -> tuple[Reason, ...] | None:
        """Why an action cannot be returned besides those chosen; None where it can."""
        action, channel = self.limits.actions[index], self.moment.channel
        for policy in self._caps():
            key = _action_key(policy.per, action, channel)
            if policy.scope[index] and self._counts[policy.id].get(key, 0) >= policy.limit:
                return _reasons(((policy.reason, policy.id),))
        for policy in self.limits.budgets:
            if policy.id in self.moment.supply.waived or not policy.scope[index]:
                continue
            if self._left.get(budget_name(policy, action, channel)) == 0:
                return _reasons(((policy.reason, policy.id),))
        return None

    def choose(self, index: int) -> None:
        """Takes up what a chosen action will hold."""
        action, channel = self.limits.actions[index], self.moment.channel
        for policy in self._caps() if self.limits.reserved[index] else ():
            counts, key = self._counts[policy.id], _action_key(policy.per, action, channel)
            counts[key] = counts.get(key, 0) + 1
        for policy in self.limits.budgets:
            name = budget_name(policy, action, channel)
            if policy.scope[index] and self._left.get(name, 0) > 0:
                self._left[name] -= 1


def holds(limits: Limits, action_ids: Sequence[str], *, channel: str, now_ms: int) -> tuple[Held, ...]:
    """What must be held for returned actions, in their order; nothing where no policy asks for it."""
    if not limits.hold:
        return ()
    found = (_held(limits, limits.index[name], channel, now_ms) for name in action_ids)
    return tuple(held for held in found if held.budgets or held.reserved_until_ms is not None)


def _held(limits: Limits, index: int, channel: str, now_ms: int) -> Held:
    action = limits.actions[index]
    reserved = [p.reserve_ms for p in limits.reserving if p.scope[index]]
    budgets = [p for p in limits.budgets if p.scope[index]]
    return Held(
        action_id=action.id,
        reserved_until_ms=now_ms + max(reserved) if reserved else None,
        budgets=tuple(
            HeldBudget(budget_name(p, action, channel), p.limit, p.window_ms, tuple(sorted(p.counts)))
            for p in budgets
        ),
        budgets_until_ms=now_ms + max(p.reserve_ms for p in budgets) if budgets else 0,
    )


def reserving(policies: Iterable[ContactPolicy]) -> tuple[ContactPolicy, ...]:
    """The policies that count what decisions reserve for one customer."""
    return tuple(p for p in policies if p.kind in _COUNTING and OutcomeType.RESERVED in p.counts)


def budget_names(rulebook: Rulebook) -> frozenset[str]:
    """Every budget that an action can draw on."""
    return frozenset(
        budget_name(policy, action, treatment.channel)
        for policy in rulebook.contact
        if policy.kind is ContactKind.BUDGET
        for action, within in zip(rulebook.actions, policy.scope.tolist(), strict=True)
        for treatment in action.treatments
        if within
    )
