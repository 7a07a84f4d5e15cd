"""The reply to Decide as a message that is filled field by field: what the served bytes must equal."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import status_pb2

from engine._pb.arbiter.v1 import decision_service_pb2 as messages
from engine._pb.arbiter.v1 import types_pb2
from engine.core.rulebook import Rulebook
from engine.core.words import tell
from engine.decisionlog.record import DecisionRecord
from engine.domain import ConsentUsed, Detail, Priority, RankedAction, Reason, ReasonText, SuppressedAction


def plain_reply(
    record: DecisionRecord, rulebook: Rulebook, *, detail: Detail | None = None, language: str = ""
) -> bytes:
    """The serialized reply, with the entries of maps in order."""
    decision, request = record.decision, record.request
    said = language or request.language
    reply = messages.DecideResponse(
        decision_id=record.decision_id,
        decide_time=_stamp(record.now_ms),
        customer_id=request.customer_id,
        channel=request.channel,
        placement=request.placement,
        actions=[_ranked(action, rulebook, said) for action in decision.actions],
        consents=[_consent(used) for used in decision.consents],
        profiled=decision.profiled,
        degraded_by=decision.degraded_by,
        missing_inputs=[messages.MissingInput(name=m.name, cause=m.cause) for m in decision.missing_inputs],
    )
    versions = decision.versions
    reply.versions.rules, reply.versions.catalogue = versions.rules, versions.catalogue
    reply.versions.feature_schema, reply.versions.engine = versions.feature_schema, versions.engine
    reply.versions.models.update(versions.models)
    if decision.no_action is not None:
        reply.no_action.SetInParent()
        reply.no_action.reasons.extend(_reasons(decision.no_action, rulebook, said))
    if decision.churn is not None:
        reply.churn_risk.band = decision.churn.band
        reply.churn_risk.reasons.extend(_reasons(decision.churn.reasons, rulebook, said))
    detail = detail or request.detail
    if detail is not Detail.SUMMARY:
        full = detail is Detail.FULL
        reply.suppressed.extend(_fate(fate, rulebook, said, full=full) for fate in decision.suppressed)
    return reply.SerializeToString(deterministic=True)


def plain_item(correlation_id: str, outcome: bytes | status_pb2.Status) -> messages.DecideBatchResult:
    """One item of a batch: a serialized reply or a status."""
    if isinstance(outcome, bytes):
        reply = messages.DecideResponse.FromString(outcome)
        return messages.DecideBatchResult(correlation_id=correlation_id, response=reply)
    return messages.DecideBatchResult(correlation_id=correlation_id, error=outcome)


def _ranked(action: RankedAction, rulebook: Rulebook, language: str) -> messages.RankedAction:
    message = messages.RankedAction(
        action_id=action.action_id,
        rank=action.rank,
        priority=_priority(action.priority, rulebook.currency),
        reasons=_reasons(action.reasons, rulebook, language),
    )
    message.treatment.treatment_id = action.treatment_id
    known = next((each for each in rulebook.actions if each.id == action.action_id), None)
    if known is None:
        return message
    message.name, message.group, message.purpose = known.name[language], known.group, known.purpose
    if known.valid_to_ms is not None:
        message.valid_until.CopyFrom(_stamp(known.valid_to_ms))
    for treatment in known.treatments:
        if treatment.id == action.treatment_id:
            message.treatment.headline = treatment.headline[language]
            message.treatment.body = treatment.body[language]
            message.treatment.template_id = treatment.template_id
    return message


def _fate(
    fate: SuppressedAction, rulebook: Rulebook, language: str, *, full: bool
) -> messages.SuppressedAction:
    message = messages.SuppressedAction(
        action_id=fate.action_id,
        stage=f"STAGE_{fate.stage.name}",
        reasons=_reasons(fate.reasons, rulebook, language),
    )
    if full and fate.priority is not None:
        message.priority.CopyFrom(_priority(fate.priority, rulebook.currency))
    return message


def _reasons(given: Iterable[Reason], rulebook: Rulebook, language: str) -> list[types_pb2.Reason]:
    return [_reason(reason, rulebook, language) for reason in given]


def _reason(reason: Reason, rulebook: Rulebook, language: str) -> types_pb2.Reason:
    unworded = ReasonText(reason.code, {language: reason.code}, {language: reason.code})
    words = rulebook.reasons.get(reason.code, unworded)
    agent, customer = tell(reason, words, rulebook.labels, language)
    return types_pb2.Reason(
        code=reason.code,
        source=f"REASON_SOURCE_{reason.source.name}",
        agent_text=agent,
        customer_text=customer,
        rule_id=reason.rule_id,
        model=reason.model,
        contribution=reason.contribution,
        values=reason.values,
    )


def _priority(priority: Priority, currency: str) -> messages.Priority:
    return messages.Priority(
        priority=priority.priority,
        propensity=priority.propensity,
        propensity_source=f"PROPENSITY_SOURCE_{priority.propensity_source.name}",
        weight=priority.weight,
        value=priority.value,
        currency=currency,
        levers=[messages.Lever(rule_id=lever.rule_id, share=lever.share) for lever in priority.levers],
    )


def _consent(used: ConsentUsed) -> types_pb2.ConsentUsed:
    return types_pb2.ConsentUsed(
        purpose=used.purpose,
        channel=used.channel,
        state=f"CONSENT_STATE_{used.state.name}",
        legal_basis=used.legal_basis,
        permitted=used.permitted,
        since=None if used.since_ms is None else _stamp(used.since_ms),
        ledger_position=used.position,
        signal=used.signal,
    )


def _stamp(at_ms: int) -> Timestamp:
    return Timestamp(seconds=at_ms // 1000, nanos=at_ms % 1000 * 1_000_000)
