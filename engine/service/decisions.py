"""Decides: resolve, fetch, run the pure pipeline, hold what it counts on, log, and only then answer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter, thread_time
from typing import Protocol

import msgspec
import structlog

from engine.core.inputs import without_behaviour
from engine.core.pipeline import decide
from engine.core.snapshot import Snapshot
from engine.core.steps import Step
from engine.core.supply import DEADLINE, MODELS_SLOW, PLENTY, Supply
from engine.decisionlog.errors import InvalidDecisionId, LogError, LogUnavailable
from engine.decisionlog.log import DecisionLog, DecisionSlot
from engine.decisionlog.record import DecisionRecord, without_token
from engine.domain import Decision, DecisionRequest, Versions
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
from engine.service.holding import Draft, Holding
from engine.service.late_writes import NOBODY_ERASED, LateWrites
from engine.service.live import LiveSnapshot
from engine.service.patience import Patience
from engine.service.requests import DecisionQuery, check_query, to_request
from engine.service.unrecorded import Unrecorded
from engine.service.watching import UNWATCHED, Look, Watch
from feature_store.errors import StoreError
from feature_store.state import CustomerState, Identity
from feature_store.store import OnlineStore
from feature_store.versions import SchemaVersions

Clock = Callable[[], int]
"""Milliseconds since the epoch."""

_TAKEOVER_MS = 5_000
"""Age from which a claimed request id without a logged decision belongs to a worker that died."""

_FINGERPRINT_HEX = 32

DECISIONS = "decisions"
"""Name of the log of decisions among the logs."""
NO_SUCH_CUSTOMER = "there is no such customer"
NO_SUCH_DECISION = "the log does not hold this decision"

REQUEST_ID_UNKEPT = "request_id:unkept"
"""What a decision says whose request id the store did not take: made again, it would be decided again."""

_log = structlog.get_logger("engine.service.decisions")


@dataclass(frozen=True, slots=True)
class Answer:
    """A logged decision and the snapshot it was made with (today's, for a repeated request).

    Whoever puts it into words tells `look`, where there is one, that it ended.
    """

    record: DecisionRecord
    snapshot: Snapshot
    look: Look | None = None


class Compared(Protocol):
    """Who compares versions that decide side by side; must neither wait nor raise."""

    def decided(self, record: DecisionRecord, seconds: float) -> None:
        """A decision was made and logged; deciding alone took so long."""
        ...

    def failed(self, versions: Versions, at_ms: int) -> None:
        """Deciding with these versions ended in an error that nobody foresaw."""
        ...


class _Uncompared:
    """Compares nothing."""

    def decided(self, record: DecisionRecord, seconds: float) -> None:
        """As the port says."""

    def failed(self, versions: Versions, at_ms: int) -> None:
        """As the port says."""


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
        late: LateWrites = NOBODY_ERASED,
        compared: Compared | None = None,
        watch: Watch = UNWATCHED,
        unrecorded: Unrecorded | None = None,
        patience: Patience | None = None,
    ) -> None:
        """`decided` gets every logged decision; it must neither wait nor raise.

        `unrecorded` keeps those that the log does not take, `patience` says whether models are quick enough.
        """
        self._live = live
        self._store = store
        self._log = log
        self._clock = clock
        self._ttl_ms = request_id_ttl_ms
        self._decided = decided
        self._late = late
        self._compared = compared or _Uncompared()
        self._look = watch.look
        self._unrecorded = Unrecorded(log) if unrecorded is None else unrecorded
        self._patience = patience or Patience()
        self._holding = Holding(store)
        self._versions = SchemaVersions(store.schemas)

    def decide(self, query: DecisionQuery, *, hurried: bool = False) -> Answer:
        """Decides and logs. Raises an ArbiterError where there is no answer; then nothing was decided.

        `hurried` leaves out what takes long and is not needed to act. Where the log takes nothing, what a
        contract needs is answered nevertheless: with no decision id, and logged as soon as it can be.
        """
        snapshot = self._live.current
        check_query(query, snapshot.rulebook)
        now_ms = self._clock()
        look = self._look()
        writing = self._late.begin(DECISIONS)
        state = self._fetch(query, snapshot, now_ms, look)
        if writing.is_erased(state.customer_id):
            raise CustomerUnknown(NO_SUCH_CUSTOMER)
        snapshot = snapshot.for_customer(state.customer_id)  # the one choice of who is scored by a challenger
        request = to_request(query, state.customer_id, snapshot.rulebook.vocabulary)
        supply = self._supply(query, snapshot, request, state, now_ms)
        supply = self._in_time(supply, now_ms, hurried=hurried)
        _passed(look, Step.PREPARE)
        decision, seconds = self._decided_on(snapshot, request, state, supply, now_ms, look)
        draft = Draft(request, state, supply, decision, now_ms, writing)
        try:
            record = self._recorded(query, draft, snapshot, look)
        except DecisionNotLogged as error:
            return Answer(self._answer_unrecorded(query, draft, snapshot, error), snapshot, look)
        self._unrecorded.write_out()
        _passed(look, Step.LOG)
        self._decided(record)
        if record.now_ms == now_ms:  # not one that was made earlier for the same request id
            self._compared.decided(record, seconds)
        _passed(look, Step.TELL)
        return Answer(record, snapshot, look)

    def _decided_on(
        self,
        snapshot: Snapshot,
        request: DecisionRequest,
        state: CustomerState,
        supply: Supply,
        now_ms: int,
        look: Look | None,
    ) -> tuple[Decision, float]:
        """The decision and the seconds it took; who waits for models and compares versions is told."""
        passed = None if look is None else look.passed
        began, worked_s = perf_counter(), thread_time()
        try:
            decision = decide(snapshot, request, state, now_ms=now_ms, supply=supply, passed=passed)
        except Exception:
            self._compared.failed(snapshot.versions, now_ms)
            raise
        seconds, worked_s = perf_counter() - began, thread_time() - worked_s
        if decision.profiled:
            self._patience.took(worked_s, scored=MODELS_SLOW not in supply.degraded_by, now_ms=now_ms)
        return decision, seconds

    def _recorded(
        self, query: DecisionQuery, draft: Draft, snapshot: Snapshot, look: Look | None
    ) -> DecisionRecord:
        """The record of the decision, on disk, with what it counts on held."""
        if self._holding.needed(draft, snapshot):
            return self._answer_held(query, draft, snapshot, look)
        return self._log_once(query, draft, snapshot)

    def _in_time(self, supply: Supply, now_ms: int, *, hurried: bool) -> Supply:
        """The same, without what would take too long."""
        slow = not self._patience.scores(now_ms)
        if not hurried and not slow:
            return supply
        lacking = (*([DEADLINE] if hurried else []), *([MODELS_SLOW] if slow else []))
        return replace(supply, degraded_by=(*supply.degraded_by, *lacking))

    def _answer_unrecorded(
        self, query: DecisionQuery, draft: Draft, snapshot: Snapshot, error: DecisionNotLogged
    ) -> DecisionRecord:
        """The decision for what a contract needs, while the log takes nothing; nobody else is acted on.

        It keeps no request id either: made again, it is decided again.
        """
        request, state, now_ms = draft.request, draft.state, draft.now_ms
        supply = self._holding.unrecorded(snapshot, request)
        if query.request_id:
            supply = _unkept(supply)
        decision = decide(snapshot, request, state, now_ms=now_ms, supply=supply)
        record = DecisionRecord(
            decision_id="",
            now_ms=now_ms,
            request=request,
            state=state if decision.profiled else without_behaviour(state, snapshot.schema),
            decision=decision,
            identity_type="" if query.identity is None else query.identity.type,
            supply=supply,
        )
        self._unrecorded.keep(record, draft.writing, cause=str(error.__cause__))
        return record

    def _fetch(
        self, query: DecisionQuery, snapshot: Snapshot, now_ms: int, look: Look | None
    ) -> CustomerState:
        try:
            customer_id = (
                query.customer_id if query.identity is None else resolve(self._store, query.identity)
            )
        except StoreError as error:
            raise StateUnavailable("the customer's state cannot be read now; try again") from error
        if query.identity is not None:
            _passed(look, Step.RESOLVE)
        state = self._read(customer_id, snapshot, now_ms)
        _passed(look, Step.FETCH)
        return state

    def _read(self, customer_id: str, snapshot: Snapshot, now_ms: int) -> CustomerState:
        """The customer's state; nothing of it where it cannot be read, as what a contract needs goes on."""
        try:
            state = self._store.read(customer_id)
            if state is not None:
                state = self._versions.state(state, snapshot.schema, now_ms=now_ms)
        except StoreError as error:
            _log.warning("state.unreadable", cause=str(error))
            return CustomerState(customer_id, consents_readable=False)
        if state is None:
            raise CustomerUnknown(NO_SUCH_CUSTOMER)
        return state

    def _supply(
        self,
        query: DecisionQuery,
        snapshot: Snapshot,
        request: DecisionRequest,
        state: CustomerState,
        now_ms: int,
    ) -> Supply:
        """What is left for the decision; a store that cannot be read is asked for nothing more."""
        if state.consents_readable:
            return self._holding.supply(snapshot, request, now_ms)
        supply = self._holding.nothing(snapshot, request)
        return _unkept(supply) if query.request_id else supply

    def _answer_held(
        self, query: DecisionQuery, draft: Draft, snapshot: Snapshot, look: Look | None
    ) -> DecisionRecord:
        """Logs a decision once all that it counts on is held; what is held and not answered is given back.

        A request id that has its decision already is not worth holding anything for, so that is looked at
        first; where the same request is decided elsewhere meanwhile, the claim still tells.
        """
        request, now_ms = draft.request, draft.now_ms
        earlier = self._look_up(query, request, now_ms)
        if earlier is not None:
            return earlier

        def decide_again(state: CustomerState, supply: Supply) -> Decision:
            asked = replace(request, customer_id=state.customer_id)  # merged into another meanwhile
            return decide(snapshot, asked, state, now_ms=now_ms, supply=supply)

        held = self._holding.hold(
            draft,
            snapshot,
            decide_again=decide_again,
            read_again=lambda: self._read(request.customer_id, snapshot, draft.now_ms),
        )
        if look is not None:
            look.passed(Step.HOLD)
        try:
            record = self._log_once(query, held, snapshot)
        except BaseException:
            self._holding.give_back(held)
            raise
        if record.hold_key != held.key:
            self._holding.give_back(held)
        return record

    def _look_up(self, query: DecisionQuery, request: DecisionRequest, now_ms: int) -> DecisionRecord | None:
        """The decision that a request id has already; None for a new one, and where there is no id."""
        if not query.request_id:
            return None
        try:
            held = self._store.claim(_claim_key(query.request_id), b"", now_ms=now_ms, ttl_ms=0)
        except StoreError as error:
            _log.warning("request_id.unreadable", cause=str(error))
            return None
        return None if held is None else self._earlier(held, query.request_id, _fingerprint(request), now_ms)

    def _log_once(self, query: DecisionQuery, draft: Draft, snapshot: Snapshot) -> DecisionRecord:
        """Puts the decision on disk; for a request id that has one already, gives that one instead.

        A request id that cannot be kept does not hold the answer up: it says so, and that request made again
        is decided again.
        """
        if not query.request_id or REQUEST_ID_UNKEPT in draft.supply.degraded_by:
            return self._logged(query, draft, snapshot, claims=False)
        try:
            return self._logged(query, draft, snapshot, claims=True)
        except StoreError as error:
            _log.warning("request_id.unkept", cause=str(error))
        supply = _unkept(draft.supply)
        decision = decide(snapshot, draft.request, draft.state, now_ms=draft.now_ms, supply=supply)
        return self._logged(query, replace(draft, supply=supply, decision=decision), snapshot, claims=False)

    def _logged(
        self, query: DecisionQuery, draft: Draft, snapshot: Snapshot, *, claims: bool
    ) -> DecisionRecord:
        """Raises StoreError where the request id is to be claimed and cannot be; then nothing was logged."""
        request, decision, now_ms = draft.request, draft.decision, draft.now_ms
        state = without_token(draft.state)
        if not decision.profiled:
            state = without_behaviour(state, snapshot.schema)
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
                    supply=None if draft.supply == PLENTY else draft.supply,
                    hold_key=draft.key,
                    held=draft.held,
                )
                held = None
                if claims:
                    held = self._claim_and_write(record, slot)
                else:
                    slot.write(record)
        except LogUnavailable as error:
            raise DecisionNotLogged("the decision cannot be logged, so it is not given") from error
        if held is None:
            if draft.writing.took_back(request.customer_id, slot.position):
                raise CustomerUnknown(NO_SUCH_CUSTOMER)
            return record
        return self._earlier(held, record.request_id, record.request_fingerprint, now_ms)

    def _claim_and_write(self, record: DecisionRecord, slot: DecisionSlot) -> bytes | None:
        """Claims the request id, then writes; another claim that holds the id, if any."""
        key, claim = _claim_key(record.request_id), _claim(record)
        held = self._store.claim(key, claim, now_ms=record.now_ms, ttl_ms=self._ttl_ms)
        if held is not None:
            return held
        try:
            slot.write(record)
        except BaseException:
            self._store.release(key, claim)
            raise
        return None

    def _earlier(self, held: bytes, request_id: str, repeated: str, now_ms: int) -> DecisionRecord:
        """The decision first made for a request id; `repeated` is the fingerprint of the request made again.

        Raises where the id cannot be used now.
        """
        fingerprint, decision_id, claimed_ms = _read_claim(held)
        if fingerprint != repeated:
            raise RequestIdReused("the request id was used for a different request; make a new one")
        try:
            record = self._log.read(decision_id)
            if record is not None and record.request_id == request_id:
                return record
            if now_ms - claimed_ms >= _TAKEOVER_MS:
                self._store.release(_claim_key(request_id), held)
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
        raise DecisionUnknown(NO_SUCH_DECISION)
    return record


def _passed(look: Look | None, step: Step) -> None:
    if look is not None:
        look.passed(step)


def _unkept(supply: Supply) -> Supply:
    """The same, for a decision whose request id is not remembered."""
    return replace(supply, degraded_by=(*supply.degraded_by, REQUEST_ID_UNKEPT))


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
