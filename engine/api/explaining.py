"""From accounts to messages: rule traces, consents, contacts, rivals and what-if answers."""

from __future__ import annotations

from engine._pb.arbiter.v1 import decision_service_pb2 as messages
from engine.api.writing import consent_used, priority_message, stage_message, to_stamp
from engine.core.counterfactual import Counterfactual, Outcome
from engine.core.rulebook import FALSE, TRUE, UNKNOWN
from engine.core.snapshot import Snapshot
from engine.core.whynot import ConsentFinding, ContactFinding, Rival
from engine.domain import Action
from engine.service.accounts import ActionAccount, RuleAccount, SubCondition
from engine.service.whatif_words import labelled, tell_what_if, texts_of
from feature_store.state import ContactEvent

_TRUTHS = {TRUE: messages.TRUTH_TRUE, FALSE: messages.TRUTH_FALSE, UNKNOWN: messages.TRUTH_UNKNOWN}
_OUTCOMES = {
    outcome: messages.CounterfactualOutcome.Value(f"COUNTERFACTUAL_OUTCOME_{outcome.name}")
    for outcome in Outcome
}


def action_explanation(
    account: ActionAccount, snapshot: Snapshot, language: str
) -> messages.ActionExplanation:
    """One action's way through a decision."""
    found = account.found
    action, currency = found.action, snapshot.rulebook.currency
    message = messages.ActionExplanation(
        action_id=action.id,
        rank=found.rank,
        rules=[_rule(rule, snapshot.versions.rules) for rule in account.rules],
        consents=[_consent(each) for each in found.consents],
        contacts=[_contact(each) for each in found.contacts],
        rivals=[_rival(each, currency) for each in found.rivals],
        valid_from=None if action.valid_from_ms is None else to_stamp(action.valid_from_ms),
        valid_until=None if action.valid_to_ms is None else to_stamp(action.valid_to_ms),
    )
    if found.stage is not None:
        message.stage = stage_message(found.stage)
    if found.priority is not None:
        message.priority.CopyFrom(priority_message(found.priority, currency))
    if account.what_if is not None:
        message.what_if.CopyFrom(_what_if(account.what_if.to_first, action, snapshot, language))
        if account.what_if.to_removal is not None:
            removal = _what_if(account.what_if.to_removal, action, snapshot, language, removal=True)
            message.removal.CopyFrom(removal)
    return message


def _rule(account: RuleAccount, version: str) -> messages.RuleTrace:
    finding, rule = account.finding, account.finding.rule
    return messages.RuleTrace(
        rule_id=rule.id,
        policy_class=rule.policy_class or "",
        effect=rule.effect,
        amount=rule.amount,
        condition=rule.condition,
        file=rule.position.file,
        line=rule.position.line,
        column=rule.position.column,
        rules_version=version,
        truth=_TRUTHS[finding.truth],
        removes=finding.removes,
        shadow=rule.shadow,
        parts=None if account.condition is None else _part(account.condition),
    )


def _part(part: SubCondition) -> messages.SubCondition:
    place = part.position
    return messages.SubCondition(
        text=part.text,
        line=0 if place is None else place.line,
        column=0 if place is None else place.column,
        value=part.value,
        missing=part.missing,
        parts=[_part(each) for each in part.parts],
        file="" if place is None else place.file,
    )


def _consent(finding: ConsentFinding) -> messages.ConsentTrace:
    record = finding.record
    return messages.ConsentTrace(
        used=consent_used(finding.used),
        source="" if record is None else record.source,
        notice_version="" if record is None else record.notice_version,
    )


def _contact(finding: ContactFinding) -> messages.ContactTrace:
    policy, frees_at_ms = finding.policy, finding.frees_at_ms
    windowed = policy.quiet is None
    return messages.ContactTrace(
        policy_id=policy.id,
        kind=policy.kind,
        file=policy.position.file,
        line=policy.position.line,
        column=policy.position.column,
        per=policy.per if windowed else "",
        limit=policy.limit if windowed else 0,
        window_seconds=policy.window_ms // 1000,
        counted=[_counted(event) for event in finding.counted],
        forbids=finding.forbids,
        free_time=None if frees_at_ms is None else to_stamp(frees_at_ms),
        time_zone=finding.zone,
        local_time=finding.clock,
        left=finding.left,
    )


def _counted(event: ContactEvent) -> messages.CountedContact:
    return messages.CountedContact(
        time=to_stamp(event.at_ms),
        action_id=event.action_id,
        channel=event.channel,
        outcome=event.outcome,
        reserved_until=None if event.until_ms is None else to_stamp(event.until_ms),
    )


def _rival(rival: Rival, currency: str) -> messages.RivalTrace:
    return messages.RivalTrace(
        action_id=rival.action_id,
        rank=rival.rank,
        priority=priority_message(rival.priority, currency),
        factors=rival.factors,
        rule_ids=rival.rules,
    )


def _what_if(
    found: Counterfactual, action: Action, snapshot: Snapshot, language: str, *, removal: bool = False
) -> messages.Counterfactual:
    labels = snapshot.rulebook.labels
    words = tell_what_if(found, action=action, snapshot=snapshot, language=language, removal=removal)
    message = messages.Counterfactual(
        outcome=_OUTCOMES[found.outcome],
        words=words,
        rank=found.rank,
        protected_inputs=found.protected,
        decisions=found.decisions,
        exhausted=found.exhausted,
    )
    if found.outcome is Outcome.REMOVED and found.stage is not None:
        message.stage = stage_message(found.stage)
    if found.change is not None:
        before, after = texts_of(found.change, snapshot)
        message.input = found.change.input
        message.from_value = labelled(before, labels, language)
        message.to_value = labelled(after, labels, language)
        message.steps = found.change.steps
    return message
