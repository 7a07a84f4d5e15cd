"""What is logged of a decision, and its bytes: JSON that a person can read, the same for the same value.

The record holds everything a replay needs (request, state as read, `now`), and never an identity's value.
Feature vectors are base64 of little-endian float32, so every bit comes back, NaN included.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isnan
from typing import Final, TypeVar, get_origin

import msgspec
import numpy as np

from engine.core.supply import PLENTY, Held, Supply
from engine.decisionlog.errors import UnreadableRecord
from engine.domain import Decision, DecisionRequest, RankedAction, SuppressedAction
from feature_store.state import CustomerState

RECORD_FORMAT: Final = 1
"""Raised when a change keeps older engines from reading a record, or newer ones from reading old records."""

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecisionRecord:
    """One decision with what it was made from.

    `identity_type` says how the customer was named; empty where by id. `request_fingerprint` tells whether
    a repeated `request_id` came with the same request; both are empty where the client sent none.
    `supply` is what could be had besides the state, None for plenty. `held` is what was held for the actions
    until their outcomes are known, under `hold_key`.
    """

    decision_id: str
    now_ms: int
    request: DecisionRequest
    state: CustomerState
    decision: Decision
    identity_type: str = ""
    request_id: str = ""
    request_fingerprint: str = ""
    supply: Supply | None = None
    hold_key: str = ""
    held: tuple[Held, ...] = ()

    @property
    def supplied(self) -> Supply:
        """What could be had when it was made."""
        return PLENTY if self.supply is None else self.supply


class _RequestHead(msgspec.Struct):
    customer_id: str


class RecordHead(msgspec.Struct, frozen=True):
    """The part of a record that scans filter on; several times cheaper to decode than all of it."""

    decision_id: str
    now_ms: int
    request: _RequestHead

    @property
    def customer_id(self) -> str:
        """The customer the decision was for."""
        return self.request.customer_id


class _Format(msgspec.Struct):
    format: int


def encode_record(record: DecisionRecord) -> bytes:
    """The record as logged. Raises ValueError where decision or context hold NaN or an infinity.

    What a store compares contacts by (`contacts_token`) is left out: it is no part of what was decided from.
    """
    _require_finite(_zero(record.decision) + _context_zero(record.request))
    if record.state.contacts_token:
        record = replace(record, state=without_token(record.state))
    return encode_payload(record, format=RECORD_FORMAT)


def without_token(state: CustomerState) -> CustomerState:
    """The state as records have it. Whoever makes a record of it spares `encode_record` the copy of both."""
    return replace(state, contacts_token=b"") if state.contacts_token else state


def decode_record(data: bytes) -> DecisionRecord:
    """The record behind logged bytes. Raises UnreadableRecord."""
    return decode_payload(data, decoder=_record_decoder, format=RECORD_FORMAT, what="a decision record")


def decode_head(data: bytes) -> RecordHead:
    """Id, time and customer of a record. Raises UnreadableRecord."""
    return decode_payload(data, decoder=_head_decoder, format=RECORD_FORMAT, what="a decision record")


def decision_bytes(decision: Decision) -> bytes:
    """The canonical bytes of a decision: equal exactly where two decisions are equal in every part."""
    _require_finite(_zero(decision))
    return _encoder.encode(decision)


def decode_payload(data: bytes, *, decoder: msgspec.json.Decoder[Value], format: int, what: str) -> Value:
    """The value behind bytes that begin with their format. Raises UnreadableRecord saying why not."""
    try:
        if not data.startswith(_format_prefix(format)):
            found = msgspec.json.decode(data, type=_Format).format
            raise UnreadableRecord(f"{what} has format {found} where this engine reads {format}")
        return decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UnreadableRecord(f"{what} cannot be decoded: {error}") from error


def encode_payload(value: object, *, format: int) -> bytes:
    """A dataclass as JSON that begins with its format; mapping keys are sorted."""
    return _format_prefix(format) + _encoder.encode(value)[1:]


def _format_prefix(format: int) -> bytes:
    return b'{"format":%d,' % format


def _require_finite(zero: float) -> None:
    """JSON has no NaN: it would be written as null and never be read again, so it is refused here."""
    if isnan(zero):
        raise ValueError("a decision with NaN or an infinity in it cannot be logged")


def _context_zero(request: DecisionRequest) -> float:
    """As `_zero`, of the context."""
    values: list[object] = []
    for value in request.context.values():
        if isinstance(value, (tuple, dict)):
            values += value.values() if isinstance(value, dict) else value
        else:
            values.append(value)
    return sum([0.0 * value for value in values if isinstance(value, float)])


def _zero(decision: Decision) -> float:
    """The sum of 0 times each number: NaN where one is not finite, as neither NaN nor an infinity gives 0."""
    candidates: tuple[RankedAction | SuppressedAction, ...] = (*decision.actions, *decision.suppressed)
    zero = 0.0
    for action in candidates:
        for reason in action.reasons:
            zero += 0.0 * reason.contribution
        if (priority := action.priority) is not None:
            zero += 0.0 * priority.priority + 0.0 * priority.propensity
            zero += 0.0 * priority.weight + 0.0 * priority.value
            for lever in priority.levers:
                zero += 0.0 * lever.share
    reasons = decision.no_action or ()
    if decision.churn is not None:
        zero += 0.0 * decision.churn.probability
        reasons += decision.churn.reasons
    for reason in reasons:
        zero += 0.0 * reason.contribution
    return zero


def _to_json(value: object) -> object:
    if isinstance(value, np.ndarray):
        return b64encode(np.ascontiguousarray(value, dtype="<f4").tobytes()).decode("ascii")
    if isinstance(value, Mapping):
        return dict(value)
    raise NotImplementedError(f"{type(value).__name__} cannot be logged")


def _from_json(wanted: type, value: object) -> object:
    if get_origin(wanted) is np.ndarray and isinstance(value, str):
        return np.frombuffer(b64decode(value, validate=True), dtype="<f4").astype(np.float32)
    raise NotImplementedError(f"{wanted} cannot be read from a log")


_encoder: Final = msgspec.json.Encoder(enc_hook=_to_json, order="deterministic")
_record_decoder: Final = msgspec.json.Decoder(DecisionRecord, dec_hook=_from_json)
_head_decoder: Final = msgspec.json.Decoder(RecordHead)
