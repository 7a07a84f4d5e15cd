"""Decides: resolve, fetch, run the pure pipeline, log, and only then answer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from engine.core.inputs import without_behaviour
from engine.core.pipeline import decide
from engine.core.snapshot import Snapshot
from engine.decisionlog.errors import InvalidDecisionId, LogError, LogUnavailable
from engine.decisionlog.log import DecisionLog, DecisionSlot
from engine.decisionlog.record import DecisionRecord
from engine.domain import Decision, DecisionRequest
from engine.errors import (
    CustomerUnknown,
    DecisionNotLogged,
    DecisionUnknown,
    DecisionUnreadable,
    IdentityAmbiguous,
    RequestIdReused,
    RequestInProgress,
    StateUnavailable,
)
from engine.service.live import LiveSnapshot
from engine.service.requests import DecisionQuery, check_query, to_request
from feature_store.errors import StoreError
from feature_store.state import CustomerState, Identity
from feature_store.store import OnlineStore

Clock = Callable[[], int]
"""Milliseconds since the epoch."""

_TAKEOVER_MS = 5_000
"""Age from which a claimed request id without a logged decision belongs to a worker that died."""

_FINGERPRINT_HEX = 32


@dataclass(frozen=True, slots=True)
class Answer:
    """A logged decision and the snapshot it was made with (today's, for a repeated request)."""

    record: DecisionRecord
    snapshot: Snapshot


class Decisions:
    """Makes decisions. Safe for threads."""

    def __init__(
        self,
        *,
        live: LiveSnapshot,
        store: OnlineStore,
        log: DecisionLog,
        clock: Clock,
        request_id_ttl_ms: int,
        decided: Callable[[DecisionRecord], None] = lambda _record: None,
    ) -> None:
        """`decided` gets every logged decision; it must neither wait nor raise."""
        self._live = live
        self._store = store
        self._log = log
        self._clock = clock
        self._ttl_ms = request_id_ttl_ms
        self._decided = decided

    def decide(self, query: DecisionQuery) -> Answer:
        """Decides and logs. Raises an ArbiterError where there is no answer; then nothing was decided."""
        snapshot = self._live.current
        check_query(query, snapshot.rulebook)
        now_ms = self._clock()
        state = self._fetch(query)
        request = to_request(query, state.customer_id, snapshot.rulebook.vocabulary)
        decision = decide(snapshot, request, state, now_ms=now_ms)
        if not decision.profiled:
            state = without_behaviour(state, snapshot.schema)
        record = self._log_once(query, request, state, decision, now_ms)
        self._decided(record)
        return Answer(record, snapshot)

    def _fetch(self, query: DecisionQuery) -> CustomerState:
        try:
            customer_id = (
                query.customer_id if query.identity is None else resolve(self._store, query.identity)
            )
            state = self._store.read(customer_id)
        except StoreError as error:
            raise StateUnavailable("the customer's state cannot be read now; try again") from error
        if state is None:
            raise CustomerUnknown("there is no such customer")
        return state

    def _log_once(
        self,
        query: DecisionQuery,
        request: DecisionRequest,
        state: CustomerState,
        decision: Decision,
        now_ms: int,
    ) -> DecisionRecord:
        """Puts the decision on disk; for a request id that has one already, gives that one instead."""
        try:
            with self._log.next(now_ms=now_ms) as slot:
                record = DecisionRecord(
                    decision_id=slot.decision_id,
                    now_ms=now_ms,
                    request=request,
                    state=state,
                    decision=decision,
                    identity_type="" if query.identity is None else query.identity.type,
                    request_id=query.request_id,
                    request_fingerprint=_fingerprint(request) if query.request_id else "",
                )
                held = self._claim_and_write(record, slot)
        except LogUnavailable as error:
            raise DecisionNotLogged("the decision cannot be logged, so it is not given") from error
        return record if held is None else self._earlier(held, record)

    def _claim_and_write(self, record: DecisionRecord, slot: DecisionSlot) -> bytes | None:
        """Claims the request id if there is one, then writes; another claim that holds the id, if any."""
        if not record.request_id:
            slot.write(record)
            return None
        key, claim = _claim_key(record.request_id), _claim(record)
        try:
            held = self._store.claim(key, claim, now_ms=record.now_ms, ttl_ms=self._ttl_ms)
        except StoreError as error:
            raise StateUnavailable("the request id cannot be kept now; try again") from error
        if held is not None:
            return held
        try:
            slot.write(record)
        except BaseException:
            self._store.release(key, claim)
            raise
        return None

    def _earlier(self, held: bytes, repeated: DecisionRecord) -> DecisionRecord:
        """The decision first made for a request id. Raises where the id cannot be used now."""
        fingerprint, decision_id, claimed_ms = _read_claim(held)
        if fingerprint != repeated.request_fingerprint:
            raise RequestIdReused("the request id was used for a different request; make a new one")
        try:
            record = self._log.read(decision_id)
            if record is not None and record.request_id == repeated.request_id:
                return record
            if repeated.now_ms - claimed_ms >= _TAKEOVER_MS:
                self._store.release(_claim_key(repeated.request_id), held)
        except LogError as error:
            raise DecisionUnreadable(
                "the log cannot give back the first decision; its operator sees why"
            ) from error
        except StoreError as error:
            raise StateUnavailable("the request id cannot be kept now; try again") from error
        raise RequestInProgress("the same request is being decided right now; try again")


def resolve(store: OnlineStore, identity: Identity) -> str:
    """The one customer that carries an identity: none and several are answers of their own."""
    matches = store.resolve(identity)
    if not matches:
        raise CustomerUnknown(f"no customer carries this {identity.type}")
    if len(matches) > 1:
        raise IdentityAmbiguous(identity.type, len(matches))
    return matches[0]


def read_decision(log: DecisionLog, decision_id: str) -> DecisionRecord:
    """A logged decision. Raises DecisionUnknown."""
    try:
        record = log.read(decision_id)
    except InvalidDecisionId as error:
        raise DecisionUnknown("this is no decision id of Arbiter; take it from a DecideResponse") from error
    except LogError as error:
        raise DecisionUnreadable("the log cannot give back this decision; its operator sees why") from error
    if record is None:
        raise DecisionUnknown("the log does not hold this decision")
    return record


def _fingerprint(request: DecisionRequest) -> str:
    data = msgspec.json.encode(request, order="deterministic")
    return hashlib.blake2b(data, digest_size=_FINGERPRINT_HEX // 2).hexdigest()


def _claim_key(request_id: str) -> str:
    return f"decide:{request_id}"


def _claim(record: DecisionRecord) -> bytes:
    return f"{record.request_fingerprint} {record.now_ms} {record.decision_id}".encode()


def _read_claim(claim: bytes) -> tuple[str, str, int]:
    fingerprint, claimed_ms, decision_id = claim.decode().split(" ")
    return fingerprint, decision_id, int(claimed_ms)
