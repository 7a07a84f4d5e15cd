"""The gRPC services: convert, call, convert."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

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
from engine.api.callids import ids_of
from engine.api.explaining import action_explanation
from engine.api.interceptors import note
from engine.api.replies import batch_reply, decide_reply, item_answered, item_refused
from engine.api.status import reason_of, status_of
from engine.calls import begin_call
from engine.core.steps import Step
from engine.errors import RequestInvalid, Violation
from engine.service.consents import Consents
from engine.service.decisions import Decisions
from engine.service.explanations import Explanations
from engine.service.outcomes import Outcomes
from engine.service.requests import MAX_ID
from engine.service.watching import UNWATCHED, Watch

MAX_BATCH = 100
_BATCH = f"{decision_service_pb2.DESCRIPTOR.services_by_name['DecisionService'].full_name}/DecideBatch"
HURRIED_BELOW_S = 0.005
"""Left of a deadline, below which a decision does without model reasons: a few times what one takes."""


class DecisionServicer(decision_service_pb2_grpc.DecisionServiceServicer):
    """Decide, DecideBatch and Explain. gRPC is served by `add_decision_service`."""

    def __init__(self, decisions: Decisions, explanations: Explanations, *, watch: Watch = UNWATCHED) -> None:
        self._decisions = decisions
        self._explanations = explanations
        self._watch = watch

    def Decide(  # noqa: N802  # named by the contract
        self,
        request: decision_service_pb2.DecideRequest,
        context: grpc.ServicerContext | None,
    ) -> decision_service_pb2.DecideResponse:
        """Ranks the actions for one customer."""
        return decision_service_pb2.DecideResponse.FromString(self.decide(request, context))

    def decide(
        self, request: decision_service_pb2.DecideRequest, context: grpc.ServicerContext | None
    ) -> bytes:
        """The serialized reply to Decide."""
        query = reading.decision_query(request)
        answer = self._decisions.decide(query, hurried=_is_hurried(context))
        reply = decide_reply(answer.record, answer.snapshot)
        if answer.look is not None:
            answer.look.passed(Step.REPLY)
            record = answer.record
            answer.look.ended(record.decision_id, record.request.channel, record.decision)
        return reply

    def DecideBatch(  # noqa: N802  # named by the contract
        self,
        request: decision_service_pb2.DecideBatchRequest,
        context: grpc.ServicerContext | None,
    ) -> decision_service_pb2.DecideBatchResponse:
        """Decides for several customers, each with its own result or error."""
        return decision_service_pb2.DecideBatchResponse.FromString(self.decide_batch(request, context))

    def decide_batch(
        self, request: decision_service_pb2.DecideBatchRequest, context: grpc.ServicerContext | None
    ) -> bytes:
        """The serialized reply to DecideBatch."""
        _check_batch(request.items)
        results = []
        for item in request.items:
            if context is not None and not context.is_active():
                break
            results.append(self._decide_item(item, context))
        return batch_reply(results)

    def _decide_item(
        self, item: decision_service_pb2.DecideBatchItem, context: grpc.ServicerContext | None
    ) -> bytes:
        begin_call(partial(ids_of, item.request, context))
        try:
            reply = self.decide(item.request, context)
        except Exception as error:  # one item's trouble is not that of the others
            note("DecideBatch", error)
            self._watch.refused(_BATCH, reason_of(error))
            return item_refused(item.correlation_id, status_of(error))
        return item_answered(item.correlation_id, reply)

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


def add_decision_service(servicer: DecisionServicer, server: grpc.Server) -> None:
    """Serves it: as the generated function does, but for replies that are serialized already."""
    name = decision_service_pb2.DESCRIPTOR.services_by_name["DecisionService"].full_name
    handlers = {
        "Decide": grpc.unary_unary_rpc_method_handler(
            servicer.decide, request_deserializer=decision_service_pb2.DecideRequest.FromString
        ),
        "DecideBatch": grpc.unary_unary_rpc_method_handler(
            servicer.decide_batch, request_deserializer=decision_service_pb2.DecideBatchRequest.FromString
        ),
        "Explain": grpc.unary_unary_rpc_method_handler(
            servicer.Explain,
            request_deserializer=decision_service_pb2.ExplainRequest.FromString,
            response_serializer=decision_service_pb2.ExplainResponse.SerializeToString,
        ),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
    server.add_registered_method_handlers(name, handlers)  # type: ignore[attr-defined]  # newer than the stubs


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
