"""The answers of the service into protobuf, with reasons put into words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from google.protobuf.timestamp_pb2 import Timestamp

from engine._pb.arbiter.v1 import consent_service_pb2, decision_service_pb2, types_pb2
from engine.core.rulebook import Rulebook
from engine.core.snapshot import Snapshot
from engine.core.words import tell
from engine.decisionlog.record import DecisionRecord
from engine.domain import (
    Action,
    ConsentUsed,
    Detail,
    Priority,
    PropensitySource,
    RankedAction,
    Reason,
    ReasonSource,
    ReasonText,
    Stage,
    SuppressedAction,
    Treatment,
    Versions,
)
from engine.service.consents import RecordedConsent
from feature_store.state import ConsentState

_STAGES = {stage: getattr(types_pb2, f"STAGE_{stage.name}") for stage in Stage}
_SOURCES = {source: getattr(types_pb2, f"REASON_SOURCE_{source.name}") for source in ReasonSource}
_STATES = {state: getattr(types_pb2, f"CONSENT_STATE_{state.name}") for state in ConsentState}
_PROPENSITIES = {
    source: getattr(decision_service_pb2, f"PROPENSITY_SOURCE_{source.name}") for source in PropensitySource
}


def to_stamp(at_ms: int) -> Timestamp:
    """The instant as a protobuf timestamp."""
    return Timestamp(seconds=at_ms // 1000, nanos=at_ms % 1000 * 1_000_000)


class Speaker:
    """Puts the reasons of one reply into words; a reason told twice is made once."""

    def __init__(self, rulebook: Rulebook, language: str) -> None:
        self._rulebook = rulebook
        self._language = language
        self._told: dict[int, types_pb2.Reason] = {}

    def reasons(self, given: Iterable[Reason]) -> list[types_pb2.Reason]:
        """The reasons as messages."""
        return [self._told.get(id(reason)) or self._tell(reason) for reason in given]

    def _tell(self, reason: Reason) -> types_pb2.Reason:
        if reason.values or reason.model:
            message = _reason(self._rulebook, self._language, reason)
        else:
            message = _plain_reason(
                self._rulebook, self._language, reason.code, reason.source, reason.rule_id
            )
        self._told[id(reason)] = message
        return message


@lru_cache(maxsize=8192)
def _plain_reason(
    rulebook: Rulebook, language: str, code: str, source: ReasonSource, rule_id: str
) -> types_pb2.Reason:
    """A reason without values reads the same in every reply of a rule set."""
    return _reason(rulebook, language, Reason(code, source, rule_id))


def _reason(rulebook: Rulebook, language: str, reason: Reason) -> types_pb2.Reason:
    text = rulebook.reasons.get(reason.code) or _unworded(reason.code, language)
    agent, customer = tell(reason, text, rulebook.labels, language)
    return types_pb2.Reason(
        code=reason.code,
        source=_SOURCES[reason.source],
        agent_text=agent,
        customer_text=customer,
        rule_id=reason.rule_id,
        model=reason.model,
        contribution=reason.contribution,
        values=reason.values,
    )


def _unworded(code: str, language: str) -> ReasonText:
    """A code that today's rule set no longer words, told by its name (explanations of old decisions)."""
    return ReasonText(code, {language: code}, {language: code})


def decide_response(
    record: DecisionRecord, snapshot: Snapshot, *, detail: Detail | None = None, language: str = ""
) -> decision_service_pb2.DecideResponse:
    """The reply for one logged decision. `detail` and `language` default to those of its request."""
    decision, request = record.decision, record.request
    detail = detail or request.detail
    speaker = Speaker(snapshot.rulebook, language or request.language)
    actions = {action.id: action for action in snapshot.rulebook.actions}
    response = decision_service_pb2.DecideResponse(
        decision_id=record.decision_id,
        decide_time=to_stamp(record.now_ms),
        customer_id=request.customer_id,
        channel=request.channel,
        placement=request.placement,
        actions=[
            _ranked(r, actions.get(r.action_id), speaker, snapshot.rulebook, language or request.language)
            for r in decision.actions
        ],
        versions=_versions(decision.versions),
        consents=[consent_used(used) for used in decision.consents],
        profiled=decision.profiled,
        degraded_by=decision.degraded_by,
        missing_inputs=[
            decision_service_pb2.MissingInput(name=m.name, cause=m.cause) for m in decision.missing_inputs
        ],
    )
    if decision.no_action is not None:
        response.no_action.reasons.extend(speaker.reasons(decision.no_action))
        response.no_action.SetInParent()
    if detail is not Detail.SUMMARY:
        currency = snapshot.rulebook.currency if detail is Detail.FULL else ""
        response.suppressed.extend(_suppressed(s, speaker, currency) for s in decision.suppressed)
    if decision.churn is not None:
        response.churn_risk.band = decision.churn.band
        response.churn_risk.reasons.extend(speaker.reasons(decision.churn.reasons))
    return response


def _ranked(
    ranked: RankedAction, action: Action | None, speaker: Speaker, rulebook: Rulebook, language: str
) -> decision_service_pb2.RankedAction:
    """`action` is None where today's catalogue no longer has what an old decision returned."""
    message = decision_service_pb2.RankedAction(
        action_id=ranked.action_id,
        rank=ranked.rank,
        priority=priority_message(ranked.priority, rulebook.currency),
        reasons=speaker.reasons(ranked.reasons),
    )
    message.treatment.treatment_id = ranked.treatment_id
    if action is None:
        return message
    message.name = action.name[language]
    message.group = action.group
    message.purpose = action.purpose
    if action.valid_to_ms is not None:
        message.valid_until.CopyFrom(to_stamp(action.valid_to_ms))
    treatment = next((t for t in action.treatments if t.id == ranked.treatment_id), None)
    if treatment is not None:
        message.treatment.CopyFrom(_treatment(treatment, language))
    return message


def _treatment(treatment: Treatment, language: str) -> decision_service_pb2.Treatment:
    return decision_service_pb2.Treatment(
        treatment_id=treatment.id,
        headline=treatment.headline[language],
        body=treatment.body[language],
        template_id=treatment.template_id,
    )


def stage_message(stage: Stage) -> types_pb2.Stage.ValueType:
    """The step that removed a candidate."""
    value: types_pb2.Stage.ValueType = _STAGES[stage]
    return value


def priority_message(priority: Priority, currency: str) -> decision_service_pb2.Priority:
    """What an action is ordered by."""
    return decision_service_pb2.Priority(
        priority=priority.priority,
        propensity=priority.propensity,
        propensity_source=_PROPENSITIES[priority.propensity_source],
        weight=priority.weight,
        value=priority.value,
        currency=currency,
        levers=[
            decision_service_pb2.Lever(rule_id=lever.rule_id, share=lever.share) for lever in priority.levers
        ],
    )


def _suppressed(
    fate: SuppressedAction, speaker: Speaker, currency: str
) -> decision_service_pb2.SuppressedAction:
    """`currency` is empty where the priority is not to be shown."""
    message = decision_service_pb2.SuppressedAction(
        action_id=fate.action_id, stage=_STAGES[fate.stage], reasons=speaker.reasons(fate.reasons)
    )
    if currency and fate.priority is not None:
        message.priority.CopyFrom(priority_message(fate.priority, currency))
    return message


def _versions(versions: Versions) -> types_pb2.Versions:
    return types_pb2.Versions(
        rules=versions.rules,
        catalogue=versions.catalogue,
        feature_schema=versions.feature_schema,
        models=versions.models,
        engine=versions.engine,
    )


def consent_used(used: ConsentUsed) -> types_pb2.ConsentUsed:
    """The effective consent for one purpose."""
    return types_pb2.ConsentUsed(
        purpose=used.purpose,
        channel=used.channel,
        state=_STATES[used.state],
        legal_basis=used.legal_basis,
        permitted=used.permitted,
        since=None if used.since_ms is None else to_stamp(used.since_ms),
        ledger_position=used.position,
        signal=used.signal,
    )


def consent_record(recorded: RecordedConsent) -> consent_service_pb2.ConsentRecord:
    """One record, with what the ledger holds of it besides."""
    record, terms = recorded.record, recorded.terms
    expires = record.valid_until_ms
    return consent_service_pb2.ConsentRecord(
        purpose=record.purpose,
        channel=record.channel,
        state=_STATES[record.state],
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
