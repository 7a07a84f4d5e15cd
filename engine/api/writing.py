"""The answers of the service into protobuf, with reasons put into words."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.timestamp_pb2 import Timestamp

from engine._pb.arbiter.v1 import consent_service_pb2, decision_service_pb2, types_pb2
from engine.api.parts import CONSENT_STATES, consent_part, currency_part, priority_part
from engine.api.replies import STAGES, decide_reply
from engine.core.snapshot import Snapshot
from engine.decisionlog.record import DecisionRecord
from engine.domain import ConsentUsed, Detail, Priority, Stage
from engine.service.consents import RecordedConsent


def to_stamp(at_ms: int) -> Timestamp:
    """The instant as a protobuf timestamp."""
    return Timestamp(seconds=at_ms // 1000, nanos=at_ms % 1000 * 1_000_000)


def decide_response(
    record: DecisionRecord, snapshot: Snapshot, *, detail: Detail | None = None, language: str = ""
) -> decision_service_pb2.DecideResponse:
    """The reply for one logged decision. `detail` and `language` default to those of its request."""
    reply = decide_reply(record, snapshot, detail=detail, language=language)
    return decision_service_pb2.DecideResponse.FromString(reply)


def stage_message(stage: Stage) -> types_pb2.Stage.ValueType:
    """The step that removed a candidate."""
    value: types_pb2.Stage.ValueType = STAGES[stage]
    return value


def priority_message(priority: Priority, currency: str) -> decision_service_pb2.Priority:
    """What an action is ordered by."""
    return decision_service_pb2.Priority.FromString(priority_part(priority, currency_part(currency)))


def consent_used(used: ConsentUsed) -> types_pb2.ConsentUsed:
    """The effective consent for one purpose."""
    return types_pb2.ConsentUsed.FromString(consent_part(used))


def consent_record(recorded: RecordedConsent) -> consent_service_pb2.ConsentRecord:
    """One record, with what the ledger holds of it besides."""
    record, terms = recorded.record, recorded.terms
    expires = record.valid_until_ms
    return consent_service_pb2.ConsentRecord(
        purpose=record.purpose,
        channel=record.channel,
        state=CONSENT_STATES[record.state],
        record_time=to_stamp(record.recorded_at_ms),
        expire_time=None if expires is None else to_stamp(expires),
        source=record.source,
        notice_version=record.notice_version,
        actor=record.actor,
        evidence=record.evidence,
        notice=terms.notice,
        notice_language=terms.notice_language,
        legal_basis=terms.legal_basis,
        jurisdiction=terms.jurisdiction,
        recipients=terms.recipients,
        data_categories=terms.data_categories,
        collection_method=terms.collection_method,
        ledger_position=record.position,
    )


def explain_response(
    record: DecisionRecord, snapshot: Snapshot, inputs: Mapping[str, str], *, action_id: str, language: str
) -> decision_service_pb2.ExplainResponse:
    """A logged decision in full; `action_id` narrows it to one action's fate."""
    decision = decide_response(record, snapshot, detail=Detail.FULL, language=language)
    if action_id:
        actions = [a for a in decision.actions if a.action_id == action_id]
        suppressed = [s for s in decision.suppressed if s.action_id == action_id]
        del decision.actions[:], decision.suppressed[:]
        decision.actions.extend(actions)
        decision.suppressed.extend(suppressed)
    return decision_service_pb2.ExplainResponse(decision=decision, inputs=inputs)
