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


_Key = tuple[str, ReasonSource, str, tuple[tuple[str, str], ...]]
"""What the words of a reason follow from, but for those of models."""


class Speaker:
    """Puts reasons into words in one language; what reads the same in many replies is made once."""

    def __init__(self, rulebook: Rulebook, language: str) -> None:
        self._rulebook = rulebook
        self._language = language

    def reasons(self, given: Iterable[Reason]) -> list[types_pb2.Reason]:
        """The reasons as messages."""
        return [self._tell(reason) for reason in given]

    def _tell(self, reason: Reason) -> types_pb2.Reason:
        if reason.model:
            return _reason(self._rulebook, self._language, reason)
        return _told_reason(self._rulebook, self._language, _key(reason))

    def suppressed(self, fate: SuppressedAction) -> bytes:
        """A suppressed action as it stands in a serialized reply, without its priority."""
        keys = tuple([_key(reason) for reason in fate.reasons])
        return _told_fate(self._rulebook, self._language, fate.action_id, fate.stage, keys)


def _key(reason: Reason) -> _Key:
    return reason.code, reason.source, reason.rule_id, tuple(reason.values.items())


@lru_cache(maxsize=8192)
def _told_reason(rulebook: Rulebook, language: str, key: _Key) -> types_pb2.Reason:
    code, source, rule_id, values = key
    return _reason(rulebook, language, Reason(code, source, rule_id, values=dict(values)))


@lru_cache(maxsize=32_768)
def _told_fate(
    rulebook: Rulebook, language: str, action_id: str, stage: Stage, keys: tuple[_Key, ...]
) -> bytes:
    fate = decision_service_pb2.SuppressedAction(
        action_id=action_id,
        stage=_STAGES[stage],
        reasons=[_told_reason(rulebook, language, key) for key in keys],
    )
    return decision_service_pb2.DecideResponse(suppressed=[fate]).SerializeToString()


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
    detail, said = detail or request.detail, language or request.language
    speaker = Speaker(snapshot.rulebook, said)
    response = decision_service_pb2.DecideResponse(
        decision_id=record.decision_id,
        decide_time=to_stamp(record.now_ms),
        customer_id=request.customer_id,
        channel=request.channel,
        placement=request.placement,
        actions=[_ranked(ranked, speaker, snapshot.rulebook, said) for ranked in decision.actions],
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
        response.MergeFromString(b"".join([speaker.suppressed(fate) for fate in decision.suppressed]))
    if detail is Detail.FULL:
        for message, fate in zip(response.suppressed, decision.suppressed, strict=True):
            if fate.priority is not None:
                message.priority.CopyFrom(priority_message(fate.priority, snapshot.rulebook.currency))
    if decision.churn is not None:
        response.churn_risk.band = decision.churn.band
        response.churn_risk.reasons.extend(speaker.reasons(decision.churn.reasons))
    return response


def _ranked(
    ranked: RankedAction, speaker: Speaker, rulebook: Rulebook, language: str
) -> decision_service_pb2.RankedAction:
    message = decision_service_pb2.RankedAction(
        rank=ranked.rank,
        priority=priority_message(ranked.priority, rulebook.currency),
        reasons=speaker.reasons(ranked.reasons),
    )
    message.MergeFromString(_catalogued(rulebook, language, ranked.action_id, ranked.treatment_id))
    return message


@lru_cache(maxsize=8192)
def _catalogued(rulebook: Rulebook, language: str, action_id: str, treatment_id: str) -> bytes:
    """What the catalogue says of a returned action; it may no longer hold what an old decision returned."""
    message = decision_service_pb2.RankedAction(action_id=action_id)
    message.treatment.treatment_id = treatment_id
    action = next((action for action in rulebook.actions if action.id == action_id), None)
    if action is not None:
        message.name = action.name[language]
        message.group = action.group
        message.purpose = action.purpose
        if action.valid_to_ms is not None:
            message.valid_until.CopyFrom(to_stamp(action.valid_to_ms))
        treatment = next((t for t in action.treatments if t.id == treatment_id), None)
        if treatment is not None:
            message.treatment.CopyFrom(_treatment(treatment, language))
    return message.SerializeToString()


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
