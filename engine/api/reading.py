"""Protobuf requests into the words of the service."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.timestamp_pb2 import Timestamp

from engine._pb.arbiter.v1 import consent_service_pb2, decision_service_pb2, outcome_service_pb2, types_pb2
from engine.core.rulebook import InputType
from engine.decisionlog.ledger import ConsentTerms
from engine.domain import ActionFilter, ContextValue, Detail
from engine.errors import Violation
from engine.security.callers import subject
from engine.service.consents import ConsentSubmission
from engine.service.outcomes import OutcomeReport
from engine.service.requests import DecisionQuery
from feature_store.state import ConsentState, Identity, OutcomeType

_DETAILS: Mapping[int, Detail] = {
    decision_service_pb2.EXPLANATION_DETAIL_UNSPECIFIED: Detail.STANDARD,
    decision_service_pb2.EXPLANATION_DETAIL_SUMMARY: Detail.SUMMARY,
    decision_service_pb2.EXPLANATION_DETAIL_STANDARD: Detail.STANDARD,
    decision_service_pb2.EXPLANATION_DETAIL_FULL: Detail.FULL,
}
_CONSENT_STATES: Mapping[int, ConsentState] = {
    types_pb2.CONSENT_STATE_GRANTED: ConsentState.GRANTED,
    types_pb2.CONSENT_STATE_DENIED: ConsentState.DENIED,
    types_pb2.CONSENT_STATE_WITHDRAWN: ConsentState.WITHDRAWN,
    types_pb2.CONSENT_STATE_OBJECTED: ConsentState.OBJECTED,
}
_OUTCOMES: Mapping[int, OutcomeType] = {
    types_pb2.OUTCOME_TYPE_SHOWN: OutcomeType.SHOWN,
    types_pb2.OUTCOME_TYPE_CLICKED: OutcomeType.CLICKED,
    types_pb2.OUTCOME_TYPE_ACCEPTED: OutcomeType.ACCEPTED,
    types_pb2.OUTCOME_TYPE_DECLINED: OutcomeType.DECLINED,
    types_pb2.OUTCOME_TYPE_SNOOZED: OutcomeType.SNOOZED,
}
_EVERYTHING = ActionFilter()
_CONTEXT_TYPES: Mapping[str, InputType] = {
    "string_value": InputType.STRING,
    "double_value": InputType.DOUBLE,
    "int_value": InputType.INT,
    "bool_value": InputType.BOOL,
}
_CONTEXT_LISTS: Mapping[str, InputType] = {
    "string_list": InputType.STRING_LIST,
    "int_list": InputType.INT_LIST,
    "double_list": InputType.DOUBLE_LIST,
}


def to_ms(stamp: Timestamp) -> int:
    """Milliseconds since the epoch, rounded down."""
    return stamp.seconds * 1000 + stamp.nanos // 1_000_000


def decision_query(request: decision_service_pb2.DecideRequest) -> DecisionQuery:
    """A Decide request, unchecked; what has no domain form travels as a violation."""
    by_identity = request.WhichOneof("customer") == "identity"
    violations: list[Violation] = []
    detail = _DETAILS.get(request.explanation_detail)
    if detail is None:
        violations.append(Violation("explanation_detail", "is not a value of ExplanationDetail"))
    return DecisionQuery(
        customer_id=request.customer_id,
        identity=Identity(request.identity.type, request.identity.value) if by_identity else None,
        channel=request.channel,
        placement=request.placement,
        context=_context(request.context, violations) if request.context else {},
        limit=request.limit if request.HasField("limit") else None,
        filter=_filter(request.filter) if request.HasField("filter") else _EVERYTHING,
        language=request.language,
        detail=detail or Detail.STANDARD,
        request_id=request.request_id,
        global_privacy_control=request.privacy_signals.global_privacy_control,
        violations=tuple(violations),
    )


def _context(
    given: Mapping[str, types_pb2.ContextValue], violations: list[Violation]
) -> dict[str, tuple[InputType, ContextValue]]:
    context: dict[str, tuple[InputType, ContextValue]] = {}
    for name, value in given.items():
        kind = value.WhichOneof("kind")
        if kind == "timestamp_value":
            context[name] = (InputType.TIMESTAMP, to_ms(value.timestamp_value))
        elif kind == "string_list" or kind == "int_list" or kind == "double_list":
            context[name] = (_CONTEXT_LISTS[kind], tuple(getattr(value, kind).values))
        elif kind == "double_map":
            context[name] = (InputType.DOUBLE_MAP, dict(value.double_map.values))
        elif kind is not None:
            context[name] = (_CONTEXT_TYPES[kind], getattr(value, kind))
        elif not any(v.field == "context" for v in violations):
            violations.append(Violation("context", "holds an entry without a value"))
    return context


def _filter(given: decision_service_pb2.ActionFilter) -> ActionFilter:
    return ActionFilter(tuple(given.groups), tuple(given.action_ids), tuple(given.exclude_action_ids))


def outcome_report(request: outcome_service_pb2.RecordOutcomeRequest) -> OutcomeReport:
    """A RecordOutcome request."""
    return OutcomeReport(
        outcome_id=request.outcome_id,
        decision_id=request.decision_id,
        action_id=request.action_id,
        outcome=_OUTCOMES.get(request.type),
        at_ms=to_ms(request.occur_time) if request.HasField("occur_time") else None,
        reason=request.reason,
    )


def consent_entry(request: consent_service_pb2.RecordConsentRequest) -> ConsentSubmission:
    """A RecordConsent request; where it names no actor, the caller is it."""
    given, caller = request.consent, subject()
    return ConsentSubmission(
        customer_id=request.customer_id,
        purpose=given.purpose,
        channel=given.channel,
        state=_CONSENT_STATES.get(given.state),
        recorded_at_ms=to_ms(given.record_time) if given.HasField("record_time") else None,
        valid_until_ms=to_ms(given.expire_time) if given.HasField("expire_time") else None,
        source=given.source,
        notice_version=given.notice_version,
        actor=given.actor or caller,
        evidence=given.evidence,
        terms=ConsentTerms(
            notice=given.notice,
            notice_language=given.notice_language,
            legal_basis=given.legal_basis,
            jurisdiction=given.jurisdiction,
            recipients=tuple(given.recipients),
            data_categories=tuple(given.data_categories),
            collection_method=given.collection_method,
        ),
        recorded_by=caller or None,
    )
