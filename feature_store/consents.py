"""Which recorded will is in force: pure, and closed wherever records leave a doubt.

Three rules decide between the record of the channel asked for and the one for `any`:

1. The channel's own record decides,
2. unless the one for `any` is a refusal (denied, withdrawn, objected) as new or newer, or the channel's
   own is not a grant in force: then that refusal decides.
3. Of two refusals the stronger decides (objected, withdrawn, denied), so an objection is never hidden
   behind a milder refusal.

A grant counts from `recorded_at_ms` to `valid_until_ms` (exclusive). One that has ended is EXPIRED. One that
has not begun stands as DENIED until it does: it replaced a record that is no longer known, perhaps an
objection. A refusal counts at once, even when its clock is ahead, and never ends by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import reduce

from feature_store.state import ANY_CHANNEL, ConsentRecord, ConsentState

_STRENGTH: Mapping[ConsentState, int] = {
    ConsentState.GRANTED: 0,
    ConsentState.UNKNOWN: 1,
    ConsentState.UNREADABLE: 1,
    ConsentState.EXPIRED: 1,
    ConsentState.DENIED: 2,
    ConsentState.WITHDRAWN: 3,
    ConsentState.OBJECTED: 4,
}
_REFUSAL = _STRENGTH[ConsentState.DENIED]
_MILDER = (_STRENGTH[ConsentState.DENIED], _STRENGTH[ConsentState.WITHDRAWN])
_NEVER_ENDS = 1 << 63


@dataclass(frozen=True, slots=True)
class EffectiveConsent:
    """What is in force for one purpose on one channel.

    `channel` is that of the record it rests on (the one asked for where nothing is recorded), `since_ms`
    that record's time, None where nothing is recorded, and `position` its place in the ledger, 0 where that
    is not known.
    """

    state: ConsentState
    channel: str
    since_ms: int | None
    position: int = 0


def effective_consent(
    records: Iterable[ConsentRecord], *, purpose: str, channel: str, now_ms: int
) -> EffectiveConsent:
    """The will in force for a purpose on a channel at `now_ms`; UNKNOWN where nothing is recorded."""
    own, general = _candidates(records, purpose, channel)
    if own is None:
        own, general = general, None
    if own is None:
        return EffectiveConsent(ConsentState.UNKNOWN, channel, None)
    state = _state_at(own, now_ms)
    if general is not None:
        overriding = _overriding(general, own, state, now_ms)
        if overriding is not None:
            return EffectiveConsent(overriding, general.channel, general.recorded_at_ms, general.position)
    return EffectiveConsent(state, own.channel, own.recorded_at_ms, own.position)


def deciding(
    records: Iterable[ConsentRecord], *, purpose: str, channel: str, now_ms: int
) -> ConsentRecord | None:
    """The record that `effective_consent` rests on; None where nothing is recorded."""
    own, general = _candidates(records, purpose, channel)
    if own is None or general is None:
        return own or general
    overriding = _overriding(general, own, _state_at(own, now_ms), now_ms)
    return own if overriding is None else general


def is_refusal(record: ConsentRecord) -> bool:
    """Whether it was said to be a refusal, and so never ends by itself."""
    return _STRENGTH[record.state] >= _REFUSAL


def more_restrictive(one: ConsentRecord | None, other: ConsentRecord | None) -> ConsentRecord | None:
    """The stronger refusal, or of two grants the one that ends first; of equals the later.

    Where there is one record only, that one.
    """
    if one is None or other is None:
        return one or other
    return max(one, other, key=_restriction)


def _restriction(record: ConsentRecord) -> tuple[int, int, int, int]:
    until = _NEVER_ENDS if record.valid_until_ms is None else record.valid_until_ms
    return _STRENGTH[record.state], -until, record.recorded_at_ms, record.position


def _candidates(
    records: Iterable[ConsentRecord], purpose: str, channel: str
) -> tuple[ConsentRecord | None, ConsentRecord | None]:
    """The prevailing record of the channel, and the one for `any`."""
    own: list[ConsentRecord] = []
    general: list[ConsentRecord] = []
    for record in records:
        if record.purpose != purpose:
            continue
        if record.channel == ANY_CHANNEL:
            general.append(record)
        elif record.channel == channel:
            own.append(record)
    return _latest(own), _latest(general)


def _latest(records: list[ConsentRecord]) -> ConsentRecord | None:
    """The record that prevails in the order they were made; a projection holds one at most."""
    if len(records) < 2:
        return records[0] if records else None
    return reduce(prevailing, sorted(records, key=_rank))


def prevailing(current: ConsentRecord, offered: ConsentRecord) -> ConsentRecord:
    """Which of two records for the same purpose and channel is kept.

    The later one; of two at the same time the more restrictive; `current` where they do not differ in
    that. But an objection yields to nothing except a later grant: a milder refusal does not take it back.
    One that was said later renews the objection, which then has its time: a grant between the two, for this
    place or for another, must not outlive it.
    """
    for objection, other in ((current, offered), (offered, current)):
        if objection.state is ConsentState.OBJECTED and _STRENGTH[other.state] in _MILDER:
            if other.recorded_at_ms <= objection.recorded_at_ms:
                return objection
            return replace(objection, recorded_at_ms=other.recorded_at_ms)
    return offered if _rank(offered) > _rank(current) else current


def _rank(record: ConsentRecord) -> tuple[int, int, int]:
    until = _NEVER_ENDS if record.valid_until_ms is None else record.valid_until_ms
    return record.recorded_at_ms, _STRENGTH[record.state], -until


def _state_at(record: ConsentRecord, now_ms: int) -> ConsentState:
    if record.state is not ConsentState.GRANTED:
        return record.state
    if record.recorded_at_ms > now_ms:
        return ConsentState.DENIED
    if record.valid_until_ms is not None and record.valid_until_ms <= now_ms:
        return ConsentState.EXPIRED
    return ConsentState.GRANTED


def _overriding(
    general: ConsentRecord, own: ConsentRecord, own_state: ConsentState, now_ms: int
) -> ConsentState | None:
    """State of the record for `any` where it decides over the channel's own, else None."""
    state = _state_at(general, now_ms)
    if _STRENGTH[state] < _REFUSAL or _STRENGTH[state] <= _STRENGTH[own_state]:
        return None
    if own_state is ConsentState.GRANTED and general.recorded_at_ms < own.recorded_at_ms:
        return None
    return state
