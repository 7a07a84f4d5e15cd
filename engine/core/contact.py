"""Contact policies: limits over sliding windows that end now."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from engine.core.account import Account
from engine.core.rulebook import ContactKind, ContactPolicy, CountedPer
from engine.domain import Action, Reason, ReasonSource, Stage
from feature_store.state import ContactEvent

_EVENT_KEY: Mapping[CountedPer, Callable[[ContactEvent], str]] = {
    CountedPer.ACTION: lambda e: e.action_id,
    CountedPer.GROUP: lambda e: e.group,
    CountedPer.CHANNEL: lambda e: e.channel,
    CountedPer.PURPOSE: lambda e: e.purpose,
    CountedPer.OVERALL: lambda _: "",
}


def limit(
    account: Account,
    *,
    policies: Sequence[ContactPolicy],
    actions: Sequence[Action],
    events: Sequence[ContactEvent],
    channel: str,
    now_ms: int,
) -> None:
    """Removes the candidates that a cap, cool-down or exclusion forbids now, with every such reason."""
    if not events:
        return
    found: dict[int, list[Reason]] = {}
    for policy in policies:
        for index in _forbidden(policy, account, actions, events, channel, now_ms):
            reason = Reason(policy.reason, ReasonSource.CONTACT, policy.id)
            found.setdefault(index, []).append(reason)
    for index, reasons in found.items():
        account.remove(index, Stage.CONTACT, tuple(reasons))


def _forbidden(
    policy: ContactPolicy,
    account: Account,
    actions: Sequence[Action],
    events: Sequence[ContactEvent],
    channel: str,
    now_ms: int,
) -> list[int]:
    """Candidates in scope that the policy forbids. An event ahead of `now` counts: fail closed."""
    scope = np.flatnonzero(policy.scope & account.alive).tolist()
    counted = [e for e in events if e.outcome in policy.counts and e.at_ms > now_ms - policy.window_ms]
    if not scope or not counted:
        return []
    if policy.kind is ContactKind.EXCLUSION:
        members = {actions[i].id for i in np.flatnonzero(policy.scope).tolist()}
        taken = {e.action_id for e in counted} & members
        return [i for i in scope if taken - {actions[i].id}]
    return _over_limit(policy, scope, actions, counted, channel)


def counted(
    policy: ContactPolicy,
    action: Action,
    *,
    actions: Sequence[Action],
    events: Sequence[ContactEvent],
    channel: str,
    now_ms: int,
) -> tuple[ContactEvent, ...]:
    """The events that count against an action under a policy now, oldest first.

    The policy forbids an action in its scope exactly where there are at least `policy.limit` of them.
    """
    within = [e for e in events if e.outcome in policy.counts and e.at_ms > now_ms - policy.window_ms]
    if policy.kind is ContactKind.EXCLUSION:
        members = {actions[i].id for i in np.flatnonzero(policy.scope).tolist()} - {action.id}
        found = [e for e in within if e.action_id in members]
    else:
        key_of, key = _EVENT_KEY[policy.per], _action_key(policy.per, action, channel)
        found = [e for e in within if key_of(e) == key]
    return tuple(sorted(found, key=lambda e: e.at_ms))


def _over_limit(
    policy: ContactPolicy,
    scope: Sequence[int],
    actions: Sequence[Action],
    counted: Sequence[ContactEvent],
    channel: str,
) -> list[int]:
    key_of = _EVENT_KEY[policy.per]
    counts: dict[str, int] = {}
    for event in counted:
        key = key_of(event)
        counts[key] = counts.get(key, 0) + 1
    return [i for i in scope if counts.get(_action_key(policy.per, actions[i], channel), 0) >= policy.limit]


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
