"""The consent gate: which purposes may be pursued on this channel now. It runs before any scoring.

Legal basis consent needs a recorded grant; legitimate interest holds until refused; contract holds
until objected. An objection beats every basis (GDPR Art. 21). Unknown denies where the basis is consent.
Where consents cannot be read, an objection may be among them: only what a contract needs goes on. Global
Privacy Control in a request objects, for that request, to the purposes the policy lists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import structs

from engine.core import reasons
from engine.core.rulebook import ConsentPolicy, PurposeRule
from engine.domain import ConsentUsed, DecisionRequest, LegalBasis, Reason, ReasonSource
from feature_store.consents import effective_consent
from feature_store.state import ConsentRecord, ConsentState, CustomerState

GPC = "gpc"
"""Global Privacy Control, the privacy signal that browsers send as `Sec-GPC: 1`."""

_REFUSED = frozenset(
    {ConsentState.DENIED, ConsentState.WITHDRAWN, ConsentState.OBJECTED, ConsentState.UNREADABLE}
)
_CODES: Mapping[ConsentState, str] = {
    ConsentState.DENIED: reasons.CONSENT_DENIED,
    ConsentState.WITHDRAWN: reasons.CONSENT_WITHDRAWN,
    ConsentState.OBJECTED: reasons.CONSENT_OBJECTED,
    ConsentState.EXPIRED: reasons.CONSENT_EXPIRED,
    ConsentState.UNKNOWN: reasons.CONSENT_UNKNOWN,
    ConsentState.UNREADABLE: reasons.CONSENT_UNREADABLE,
}


def judge_request(
    policy: ConsentPolicy, request: DecisionRequest, state: CustomerState, *, now_ms: int
) -> dict[str, ConsentUsed]:
    """The effective consent of every declared purpose for one request, by purpose."""
    if not state.consents_readable:
        judged = {p.purpose: _unreadable(p, request.channel) for p in policy.purposes.values()}
    else:
        judged = judge(state.consents, policy=policy, channel=request.channel, now_ms=now_ms)
    if request.global_privacy_control:
        for purpose in policy.gpc_purposes.intersection(judged):
            judged[purpose] = _signalled(judged[purpose], request.channel)
    return judged


def _unreadable(rule: PurposeRule, channel: str) -> ConsentUsed:
    basis = rule.channel_basis.get(channel, rule.basis)
    state = ConsentState.UNREADABLE
    return ConsentUsed(rule.purpose, channel, state, basis, is_permitted(basis, state), None)


def _signalled(used: ConsentUsed, channel: str) -> ConsentUsed:
    """The objection by signal, unless the customer's own is on record."""
    if used.state is ConsentState.OBJECTED:
        return used
    return ConsentUsed(
        purpose=used.purpose,
        channel=channel,
        state=ConsentState.OBJECTED,
        legal_basis=used.legal_basis,
        permitted=False,
        since_ms=None,
        signal=GPC,
    )


def judge(
    records: Sequence[ConsentRecord], *, policy: ConsentPolicy, channel: str, now_ms: int
) -> dict[str, ConsentUsed]:
    """The effective consent of every declared purpose on one channel, by purpose."""
    return {p.purpose: _judge_purpose(records, p, channel, now_ms) for p in policy.purposes.values()}


def _judge_purpose(
    records: Sequence[ConsentRecord], rule: PurposeRule, channel: str, now_ms: int
) -> ConsentUsed:
    effective = effective_consent(records, purpose=rule.purpose, channel=channel, now_ms=now_ms)
    basis = rule.channel_basis.get(channel, rule.basis)
    return ConsentUsed(
        purpose=rule.purpose,
        channel=effective.channel,
        state=effective.state,
        legal_basis=basis,
        permitted=is_permitted(basis, effective.state),
        since_ms=effective.since_ms,
        position=effective.position,
    )


def without_record(judged: Mapping[str, ConsentUsed]) -> dict[str, ConsentUsed]:
    """The same where the decision cannot be logged: what must be proven later is not permitted now."""
    return {
        purpose: structs.replace(used, permitted=used.permitted and used.legal_basis is LegalBasis.CONTRACT)
        for purpose, used in judged.items()
    }


def is_permitted(basis: LegalBasis, state: ConsentState) -> bool:
    """Whether a purpose with this basis may be pursued given the customer's recorded will."""
    if basis is LegalBasis.CONSENT:
        return state is ConsentState.GRANTED
    if basis is LegalBasis.LEGITIMATE_INTEREST:
        return state not in _REFUSED
    return state is not ConsentState.OBJECTED


def known_permission(used: ConsentUsed) -> bool | None:
    """What rules read of a purpose; None where it is refused only because nobody can see what was said."""
    return None if used.state is ConsentState.UNREADABLE and not used.permitted else used.permitted


def refusal(used: ConsentUsed, *, channel: str) -> Reason:
    """Why a purpose that is not permitted is not."""
    values = {"purpose": used.purpose, "channel": channel}
    if used.signal:
        code = reasons.CONSENT_SIGNALLED
    elif is_permitted(used.legal_basis, used.state):
        code = reasons.DECISION_UNRECORDED
    else:
        code = _CODES[used.state]
    return Reason(code, ReasonSource.CONSENT, values=values)
