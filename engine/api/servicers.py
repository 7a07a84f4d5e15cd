"""The gRPC services: convert, call, convert."""

from __future__ import annotations

from collections.abc import Sequence

import grpc

from engine._pb.arbiter.v1 import (
    consent_service_pb2,
    consent_service_pb2_grpc,
    decision_service_pb2,
    decision_service_pb2_grpc,
    outcome_service_pb2,
    outcome_service_pb2_grpc,
)
from engine.api import reading, writing
from engine.api.explaining import action_explanation
from engine.api.interceptors import note
from engine.api.status import status_of
from engine.errors import RequestInvalid, Violation
from engine.service.consents import Consents
from engine.service.decisions import Decisions
from engine.service.explanations import Explanations
from engine.service.outcomes import Outcomes
from engine.service.requests import MAX_ID

MAX_BATCH = 100
HURRIED_BELOW_S = 0.005
"""Left of a deadline, below which a decision does without model reasons: a few times what one takes."""


class DecisionServicer(decision_service_pb2_grpc.DecisionServiceServicer):
    """Decide, DecideBatch and Explain."""

    def __init__(self, decisions: Decisions, explanations: Explanations) -> None:
        self._decisions = decisions
        self._explanations = explanations

    def Decide(  # noqa: N802  # named by the contract
        self,
        request: decision_service_pb2.DecideRequest,
        context: grpc.ServicerContext | None,
    ) -> decision_service_pb2.DecideResponse:
        """Ranks the actions for one customer."""
        return self._decide(request, context)

    def _decide(
        self, request: decision_service_pb2.DecideRequest, context: grpc.ServicerContext | None
    ) -> decision_service_pb2.DecideResponse:
        query = reading.decision_query(request)
        answer = self._decisions.decide(query, hurried=_is_hurried(context))
        return writing.decide_response(answer.record, answer.snapshot)

    def DecideBatch(  # noqa: N802  # named by the contract
        self,
        request: decision_service_pb2.DecideBatchRequest,
        context: grpc.ServicerContext,
    ) -> decision_service_pb2.DecideBatchResponse:
        """Decides for several customers, each with its own result or error."""
        _check_batch(request.items)
        results = []
        for item in request.items:
            if not context.is_active():
                break
            results.append(self._decide_item(item, context))
        return decision_service_pb2.DecideBatchResponse(results=results)

    def _decide_item(
        self, item: decision_service_pb2.DecideBatchItem, context: grpc.ServicerContext | None = None
    ) -> decision_service_pb2.DecideBatchResult:
        try:
            response = self._decide(item.request, context)
        except Exception as error:  # one item's trouble is not that of the others
            note("DecideBatch", error)
            return decision_service_pb2.DecideBatchResult(
                correlation_id=item.correlation_id, error=status_of(error)
            )
        return decision_service_pb2.DecideBatchResult(correlation_id=item.correlation_id, response=response)

    def Explain(  # noqa: N802  # named by the contract
        self,
        request: decision_service_pb2.ExplainRequest,
        context: grpc.ServicerContext | None,  # noqa: ARG002  # given by grpc
    ) -> decision_service_pb2.ExplainResponse:
        """Returns a logged decision with every detail."""
        found = self._explanations.explain(
            request.decision_id, action_id=request.action_id, language=request.language
        )
        response = writing.explain_response(
            found.record,
            found.snapshot,
            found.inputs,
            action_id=request.action_id,
            language=found.language,
        )
        response.reproduced = found.reproduced
        for account in found.accounts:
            response.explanations.append(action_explanation(account, found.snapshot, found.language))
        return response


def _is_hurried(context: grpc.ServicerContext | None) -> bool:
    """Whether the caller hardly waits any longer."""
    left_s = None if context is None else context.time_remaining()
    return left_s is not None and left_s < HURRIED_BELOW_S


def _check_batch(items: Sequence[decision_service_pb2.DecideBatchItem]) -> None:
    violations = []
    if not 1 <= len(items) <= MAX_BATCH:
        violations.append(Violation("items", f"has {len(items)} items; give 1 to {MAX_BATCH}"))
    seen: set[str] = set()
    for position, item in enumerate(items[:MAX_BATCH]):
        name = item.correlation_id
        field = f"items[{position}].correlation_id"
        if not 1 <= len(name) <= MAX_ID:
            violations.append(Violation(field, f"needs 1 to {MAX_ID} characters"))
        elif name in seen:
            violations.append(Violation(field, "is used by an earlier item"))
        seen.add(name)
    if violations:
        raise RequestInvalid(violations)


class OutcomeServicer(outcome_service_pb2_grpc.OutcomeServiceServicer):
    """RecordOutcome."""

    def __init__(self, outcomes: Outcomes) -> None:
        self._outcomes = outcomes

    def RecordOutcome(  # noqa: N802  # named by the contract
        self,
        request: outcome_service_pb2.RecordOutcomeRequest,
        context: grpc.ServicerContext | None,  # noqa: ARG002  # given by grpc
    ) -> outcome_service_pb2.RecordOutcomeResponse:
        """Records one outcome, once."""
        counted = self._outcomes.record(reading.outcome_report(request))
        return outcome_service_pb2.RecordOutcomeResponse(duplicate=not counted)


class ConsentServicer(consent_service_pb2_grpc.ConsentServiceServicer):
    """RecordConsent and GetConsents."""

    def __init__(self, consents: Consents) -> None:
        self._consents = consents

    def RecordConsent(  # noqa: N802  # named by the contract
        self,
        request: consent_service_pb2.RecordConsentRequest,
        context: grpc.ServicerContext | None,  # noqa: ARG002  # given by grpc
    ) -> consent_service_pb2.RecordConsentResponse:
        """Appends to the ledger and updates the online copy."""
        recorded = self._consents.record(reading.consent_entry(request))
        return consent_service_pb2.RecordConsentResponse(
            consent=writing.consent_record(recorded),
            ledger_position=recorded.record.position,
            customer_id=recorded.customer_id,
        )

    def GetConsents(  # noqa: N802  # named by the contract
        self,
        request: consent_service_pb2.GetConsentsRequest,
        context: grpc.ServicerContext | None,  # noqa: ARG002  # given by grpc
    ) -> consent_service_pb2.GetConsentsResponse:
        """Returns what is in force for one customer."""
        held = self._consents.get(request.customer_id)
        return consent_service_pb2.GetConsentsResponse(
            consents=[writing.consent_record(recorded) for recorded in held.records],
            effective=[
                consent_service_pb2.EffectiveConsent(channel=channel, consent=writing.consent_used(used))
                for channel, used in held.effective
            ],
            customer_id=held.customer_id,
        )
