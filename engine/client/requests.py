"""The contract's requests from plain values; both clients write them the same."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Literal, TypeAlias, TypedDict

from google.protobuf.timestamp_pb2 import Timestamp

from engine._pb.arbiter.v1 import (
    consent_service_pb2,
    decision_service_pb2,
    event_service_pb2,
    outcome_service_pb2,
    types_pb2,
)

Scalar: TypeAlias = str | bool | int | float | datetime
ContextLike: TypeAlias = (
    Scalar | Sequence[str] | Sequence[int] | Sequence[float] | Mapping[str, float] | types_pb2.ContextValue
)
Detail: TypeAlias = Literal["summary", "standard", "full"]
Outcome: TypeAlias = Literal["shown", "clicked", "accepted", "declined", "snoozed"]
Will: TypeAlias = Literal["granted", "denied", "withdrawn", "objected"]
Decision: TypeAlias = "decision_service_pb2.DecideResponse | str"
Action: TypeAlias = "decision_service_pb2.RankedAction | str"


class DecideFields(TypedDict, total=False):
    """What a decision is asked with; the fields of DecideRequest in plain values."""

    customer_id: str
    identity: tuple[str, str]
    """Instead of an id: kind and value, such as ("phone", "+41790000001")."""
    channel: str
    placement: str
    context: Mapping[str, ContextLike]
    """By declared name. An int is an int and never a double: write 5.0 for that."""
    limit: int
    groups: Iterable[str]
    action_ids: Iterable[str]
    exclude_action_ids: Iterable[str]
    detail: Detail
    request_id: str
    """Made for you where there is none, so that a retry is the same decision; "" sends none."""
    language: str
    global_privacy_control: bool


class ConsentFields(TypedDict, total=False):
    """What a customer said; the fields of RecordConsentRequest in plain values."""

    customer_id: str
    purpose: str
    channel: str
    """All channels where none is named."""
    state: Will
    recorded: datetime
    """When the customer said it; the server's now where it is not known."""
    expires: datetime
    source: str
    notice_version: str
    actor: str
    evidence: str


def new_id() -> str:
    """An idempotency key."""
    return uuid.uuid4().hex


def decide_request(fields: DecideFields) -> decision_service_pb2.DecideRequest:
    """A decision to ask for."""
    request = decision_service_pb2.DecideRequest(
        channel=fields.get("channel", ""),
        placement=fields.get("placement", ""),
        limit=fields.get("limit"),
        language=fields.get("language", ""),
        request_id=fields["request_id"] if "request_id" in fields else new_id(),
    )
    if "identity" in fields:
        kind, value = fields["identity"]
        request.identity.CopyFrom(types_pb2.Identity(type=kind, value=value))
    if "customer_id" in fields:
        request.customer_id = fields["customer_id"]
    if "detail" in fields:
        request.explanation_detail = decision_service_pb2.ExplanationDetail.Value(
            f"EXPLANATION_DETAIL_{fields['detail'].upper()}"
        )
    if fields.get("global_privacy_control"):
        request.privacy_signals.global_privacy_control = True
    _narrow(request, fields)
    for name, given in fields.get("context", {}).items():
        request.context[name].CopyFrom(context_value(given))
    return request


def _narrow(request: decision_service_pb2.DecideRequest, fields: DecideFields) -> None:
    if fields.keys() & {"groups", "action_ids", "exclude_action_ids"}:
        request.filter.groups.extend(fields.get("groups", ()))
        request.filter.action_ids.extend(fields.get("action_ids", ()))
        request.filter.exclude_action_ids.extend(fields.get("exclude_action_ids", ()))


def context_value(given: ContextLike) -> types_pb2.ContextValue:
    """One fact of the moment, typed as Python's value is. Raises TypeError for others."""
    if isinstance(given, types_pb2.ContextValue):
        return given
    if isinstance(given, Mapping):
        return types_pb2.ContextValue(double_map=types_pb2.DoubleMap(values=given))
    if isinstance(given, Sequence) and not isinstance(given, str | bytes):
        return _context_list(given)
    return types_pb2.ContextValue(**_scalar(given))  # type: ignore[arg-type]  # one field of its own type


def _context_list(given: Sequence[str] | Sequence[int] | Sequence[float]) -> types_pb2.ContextValue:
    """Of texts where it is empty, as no value says another type."""
    if all(isinstance(each, str) for each in given):
        return types_pb2.ContextValue(string_list=types_pb2.StringList(values=[str(each) for each in given]))
    if any(isinstance(each, bool | str) for each in given):
        raise TypeError("a list of the context holds texts, whole numbers or decimal ones, and not a mixture")
    if all(isinstance(each, int) for each in given):
        return types_pb2.ContextValue(int_list=types_pb2.IntList(values=[int(each) for each in given]))
    return types_pb2.ContextValue(double_list=types_pb2.DoubleList(values=[float(each) for each in given]))


def _scalar(given: Scalar) -> dict[str, object]:
    if isinstance(given, bool):
        return {"bool_value": given}
    if isinstance(given, int):
        return {"int_value": given}
    if isinstance(given, float):
        return {"double_value": given}
    if isinstance(given, str):
        return {"string_value": given}
    if isinstance(given, datetime):
        return {"timestamp_value": instant(given)}
    raise TypeError(
        f"a value is a text, number, bool, datetime, list or mapping, found {type(given).__name__}"
    )


def instant(given: datetime) -> Timestamp:
    """The instant of a datetime. Raises ValueError where it has no time zone, and so is none."""
    if given.tzinfo is None:
        raise ValueError("a datetime needs a time zone to be an instant, e.g. datetime.now(UTC)")
    stamp = Timestamp()
    stamp.FromDatetime(given)
    return stamp


def batch_of(
    given: decision_service_pb2.DecideBatchRequest | Iterable[decision_service_pb2.DecideRequest],
) -> decision_service_pb2.DecideBatchRequest:
    """A batch whose items are named by their position, each with an idempotency key of its own."""
    if isinstance(given, decision_service_pb2.DecideBatchRequest):
        return given
    batch = decision_service_pb2.DecideBatchRequest()
    for position, request in enumerate(given):
        item = batch.items.add(correlation_id=str(position), request=request)
        item.request.request_id = request.request_id or new_id()
    return batch


def explanation_of(
    given: decision_service_pb2.ExplainRequest | Decision, action_id: str, language: str
) -> decision_service_pb2.ExplainRequest:
    """Which decision to explain, and which action of it."""
    if isinstance(given, decision_service_pb2.ExplainRequest):
        return given
    return decision_service_pb2.ExplainRequest(
        decision_id=_decision_id(given), action_id=action_id, language=language
    )


def _decision_id(decision: Decision) -> str:
    return decision if isinstance(decision, str) else decision.decision_id


def outcome_of(
    given: outcome_service_pb2.RecordOutcomeRequest | Decision,
    action: Action,
    outcome: Outcome,
    outcome_id: str | None,
    occurred: datetime | None,
) -> outcome_service_pb2.RecordOutcomeRequest:
    """What came of an action."""
    if isinstance(given, outcome_service_pb2.RecordOutcomeRequest):
        return given
    return outcome_service_pb2.RecordOutcomeRequest(
        outcome_id=outcome_id or new_id(),
        decision_id=_decision_id(given),
        action_id=action if isinstance(action, str) else action.action_id,
        type=types_pb2.OutcomeType.Value(f"OUTCOME_TYPE_{outcome.upper()}"),
        occur_time=None if occurred is None else instant(occurred),
    )


def consents_of(
    given: consent_service_pb2.GetConsentsRequest | str,
) -> consent_service_pb2.GetConsentsRequest:
    """Whose consents to return."""
    return consent_service_pb2.GetConsentsRequest(customer_id=given) if isinstance(given, str) else given


def events_of(
    given: event_service_pb2.IngestRequest | Iterable[event_service_pb2.Event],
) -> event_service_pb2.IngestRequest:
    """A batch of events."""
    if isinstance(given, event_service_pb2.IngestRequest):
        return given
    return event_service_pb2.IngestRequest(events=given)


def consent_request(fields: ConsentFields) -> consent_service_pb2.RecordConsentRequest:
    """A consent or an objection."""
    record = consent_service_pb2.ConsentRecord(
        purpose=fields.get("purpose", ""),
        channel=fields.get("channel", "any"),
        source=fields.get("source", ""),
        notice_version=fields.get("notice_version", ""),
        actor=fields.get("actor", ""),
        evidence=fields.get("evidence", ""),
    )
    if "state" in fields:
        record.state = types_pb2.ConsentState.Value(f"CONSENT_STATE_{fields['state'].upper()}")
    if "recorded" in fields:
        record.record_time.CopyFrom(instant(fields["recorded"]))
    if "expires" in fields:
        record.expire_time.CopyFrom(instant(fields["expires"]))
    return consent_service_pb2.RecordConsentRequest(customer_id=fields.get("customer_id", ""), consent=record)


def event(
    kind: str,
    customer_id: str = "",
    *,
    identity: tuple[str, str] | None = None,
    event_id: str | None = None,
    occurred: datetime | None = None,
    attributes: Mapping[str, Scalar] | None = None,
) -> event_service_pb2.Event:
    """Something that happened to one customer; its id is made where there is none."""
    message = event_service_pb2.Event(
        event_id=event_id or new_id(),
        type=kind,
        occur_time=None if occurred is None else instant(occurred),
    )
    if identity is None:
        message.customer_id = customer_id
    else:
        message.identity.CopyFrom(types_pb2.Identity(type=identity[0], value=identity[1]))
    for name, value in (attributes or {}).items():
        attribute = event_service_pb2.AttributeValue(**_scalar(value))  # type: ignore[arg-type]  # as above
        message.attributes[name].CopyFrom(attribute)
    return message
