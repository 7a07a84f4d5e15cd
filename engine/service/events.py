"""Takes in events: judged, counted once, and visible to the next decision; what cannot be applied is kept.

The order of effects, so that a process may die at any moment and the events come again:

1. Outcomes of decisions go to their log and settle what the decision held, once for each event id.
   Consents go to the ledger, then to the store. Again after a death between this and step 2, the ledger holds
   the same record twice: the same instant, the same event named in `evidence`, and the same will in force.
2. One update for each customer changes what is remembered of its events, features and contacts together, and
   leaves the customer due where signals are to be evaluated.
3. Signals are evaluated and stored, and the due mark moves on. After a death before this, whoever looks at
   customers that are due does it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import structlog

from engine.core.snapshot import Snapshot
from engine.decisionlog.errors import LogError
from engine.errors import (
    ActionNotReturned,
    CustomerUnknown,
    DecisionUnknown,
    DecisionUnreadable,
    RequestInvalid,
    StateUnavailable,
)
from engine.events.applying import (
    Application,
    EventRules,
    Fate,
    Verdict,
    apply_events,
    look_again,
    postpone_signals,
    settle_signals,
)
from engine.events.checking import CheckedEvent, check_form
from engine.events.evaluating import SignalRunner
from engine.events.memory import read_memory
from engine.events.raw import RawEvent
from engine.events.types import EventRefused, Reason
from engine.ruleset.event_checks import RECORDED_STATES
from engine.service.consents import Consents, ConsentSubmission
from engine.service.decisions import Clock
from engine.service.erased import ErasedCustomers
from engine.service.late_writes import NOBODY_ERASED, LateWrites, Writing
from engine.service.live import LiveSnapshot
from engine.service.outcomes import OutcomeReport, Outcomes
from feature_store.errors import StoreCorrupt, StoreError, StoreRefused
from feature_store.state import ConsentState, CustomerChange, CustomerRecord, Identity
from feature_store.store import OnlineStore
from feature_store.versions import SchemaVersions

SIGNALS_AGAIN_MS = 5 * 60_000
"""When to evaluate signals again that could not be evaluated."""
_LOOKED_AT = 500
"""Customers looked at in one update."""
_PERMANENT = (StoreCorrupt, StoreRefused)
_NOTHING_KEPT = "the customer was erased; nothing is kept of this"
EVENTS = "events"
"""What is done here has no log of its own: its places are those of outcomes and consents."""

_log = structlog.get_logger("engine.service.events")


class LiveEventRules:
    """The event rules of the snapshot that was asked about last, made once for it. Safe for threads."""

    def __init__(self, make: Callable[[Snapshot], EventRules]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: tuple[Snapshot, EventRules] | None = None

    def __call__(self, snapshot: Snapshot) -> EventRules:
        """The rules of a snapshot. Raises SetupInvalid."""
        with self._lock:
            if self._made is None or self._made[0] is not snapshot:
                self._made = (snapshot, self._make(snapshot))
            return self._made[1]


@dataclass(slots=True)
class _Batch:
    """What came of the events so far, each by its place in the batch."""

    fates: list[Fate | None]
    checked: dict[int, CheckedEvent] = field(default_factory=dict)

    def of_customers(self) -> dict[str, list[int]]:
        """Places of the events that are still to be applied, by customer."""
        places: dict[str, list[int]] = {}
        for place, event in self.checked.items():
            if self.fates[place] is None:
                places.setdefault(event.customer_id, []).append(place)
        return places


class Events:
    """Applies events and looks at customers whom time changes. Safe for threads and processes."""

    def __init__(
        self,
        *,
        live: LiveSnapshot,
        store: OnlineStore,
        consents: Consents,
        outcomes: Outcomes,
        rules_of: Callable[[Snapshot], EventRules],
        signals: SignalRunner,
        clock: Clock,
        erased: ErasedCustomers | None = None,
        late: LateWrites = NOBODY_ERASED,
    ) -> None:
        self._live = live
        self._store = store
        self._consents = consents
        self._outcomes = outcomes
        self._rules_of = rules_of
        self._signals = signals
        self._clock = clock
        self._erased = erased
        self._late = late
        self._damaged: set[str] = set()
        self._versions = SchemaVersions(store.schemas)
        self._unlearnt = True

    @property
    def rules(self) -> EventRules:
        """What events are judged by now."""
        return self._rules_of(self._live.current)

    def prepare(self) -> None:
        """Starts what evaluates signals, so that the first event does not wait for it."""
        self._signals.prepare(self.rules)

    def ingest(self, raw: Sequence[RawEvent]) -> list[Fate]:
        """What became of each event, in their order; the next decision sees those that were applied.

        Raises StateUnavailable or ConsentNotRecorded where the store or ledger cannot be reached: then some
        events may have been applied, and all may be sent again.
        """
        rules, now_ms = self.rules, self._clock()
        self._learn()
        batch = _Batch([None] * len(raw))
        writing = self._late.begin(EVENTS)
        self._check(rules, raw, batch)
        self._report_outcomes(batch)
        self._record_consents(batch)
        try:
            self._apply(rules, batch, now_ms)
        finally:
            self._take_back(writing, batch)
        return [fate if fate is not None else Fate(Verdict.REFUSED) for fate in batch.fates]

    def _take_back(self, writing: Writing, batch: _Batch) -> None:
        """Leaves nothing applied of customers who were erased since the batch began."""
        places: dict[str, list[int]] = {}
        for place, event in batch.checked.items():
            places.setdefault(event.customer_id, []).append(place)
        for customer_id, theirs in places.items():
            if writing.took_back(customer_id, None):
                for place in theirs:
                    batch.fates[place] = _refused(Reason.CUSTOMER_ERASED, _NOTHING_KEPT)

    def refresh(self, *, limit: int = _LOOKED_AT) -> int:
        """Looks at customers that are due, the longest due first; returns how many.

        Raises StateUnavailable.
        """
        now_ms = self._clock()
        try:
            due = self._store.due(now_ms=now_ms, limit=limit + len(self._damaged))
        except StoreError as error:
            raise StateUnavailable("customers that are due cannot be read now") from error
        looked = [name for name in due if name not in self._damaged][:limit]
        self._look_again(looked, now_ms, evaluate=False)
        return len(looked)

    def refresh_all(self, customers: Iterable[str]) -> int:
        """Computes features and signals of customers anew, due or not; returns how many."""
        page: list[str] = []
        count = 0
        for name in customers:
            page.append(name)
            if len(page) == _LOOKED_AT:
                self._look_again(page, self._clock(), evaluate=True)
                count, page = count + len(page), []
        self._look_again(page, self._clock(), evaluate=True)
        return count + len(page)

    def _check(self, rules: EventRules, raw: Sequence[RawEvent], batch: _Batch) -> None:
        resolved: dict[Identity, str] = {}
        erased = self._erased_now()
        for place, event in enumerate(raw):
            try:
                _refuse_erased(event.customer_id, erased)  # first: what else is wrong makes a dead letter
                check_form(event)
                customer_id = event.customer_id
                if event.identity is not None:
                    if event.identity not in resolved:
                        resolved[event.identity] = self._resolve(event.identity)
                    customer_id = resolved[event.identity]
                    _refuse_erased(customer_id, erased)
                batch.checked[place] = rules.check.check(event, customer_id)
            except EventRefused as refused:
                batch.fates[place] = _refused(refused.reason, str(refused))

    def _erased_now(self) -> Callable[[str], object]:
        """Tells whether a customer was erased and not readmitted, as it is now."""
        try:
            return self._erased.now() if self._erased is not None else lambda _customer_id: None
        except LogError as error:
            raise StateUnavailable("who was erased cannot be read now; send the events again") from error

    def _resolve(self, identity: Identity) -> str:
        try:
            found = self._store.resolve(identity)
        except StoreError as error:
            raise StateUnavailable("identities cannot be read now; send the events again") from error
        if not found:
            raise EventRefused(Reason.CUSTOMER_UNKNOWN, f"nobody carries this {identity.type}")
        if len(found) > 1:
            words = f"{len(found)} customers carry this {identity.type}"
            raise EventRefused(Reason.IDENTITY_AMBIGUOUS, words)
        return found[0]

    def _report_outcomes(self, batch: _Batch) -> None:
        """Outcomes of decisions; one reported before changes nothing."""
        for place, event in batch.checked.items():
            made = event.contact
            if made is None or made.decision_id is None:
                continue
            contact = made.event
            report = OutcomeReport(
                event.id, made.decision_id, contact.action_id, contact.outcome, event.at_ms
            )
            try:
                self._outcomes.record(report)
            except RequestInvalid as error:
                batch.fates[place] = _refused(Reason.EFFECT_INVALID, _violations(error))
            except (DecisionUnknown, DecisionUnreadable, ActionNotReturned) as error:
                batch.fates[place] = _refused(Reason.EFFECT_INVALID, str(error))

    def _record_consents(self, batch: _Batch) -> None:
        """Consents of events that were not applied before, in the order they were given."""
        places = [place for place, event in batch.checked.items() if event.consent is not None]
        if not places:
            return
        applied = self._applied_before([batch.checked[place] for place in places])
        for place in sorted(places, key=lambda p: batch.checked[p].at_ms):
            event = batch.checked[place]
            if event.digest in applied:
                continue
            try:
                self._consents.record(_submission(event))
            except RequestInvalid as error:
                batch.fates[place] = _refused(Reason.EFFECT_INVALID, _violations(error))
            except CustomerUnknown as error:
                batch.fates[place] = _refused(Reason.CUSTOMER_UNKNOWN, str(error))

    def _applied_before(self, events: Sequence[CheckedEvent]) -> set[bytes]:
        """Digests of the events whose ids are remembered, or that are too old to be."""
        too_old_ms = self.rules.too_old_ms(self._clock())
        by_customer: dict[str, list[CheckedEvent]] = {}
        for event in events:
            by_customer.setdefault(event.customer_id, []).append(event)
        found: set[bytes] = set()

        def peek(customer_id: str, record: CustomerRecord) -> None:
            memory = read_memory(record.stream)
            for event in by_customer[customer_id]:
                past = event.at_ms < max(memory.floor_ms, too_old_ms) and not event.late
                if past or memory.knows(event.digest):
                    found.add(event.digest)

        try:
            self._update(list(by_customer), peek)
        except _PERMANENT:  # of one of them; what cannot be told is recorded again, which is harmless
            for name in by_customer:
                with contextlib.suppress(*_PERMANENT):
                    self._update([name], peek)
        return found

    def _apply(self, rules: EventRules, batch: _Batch, now_ms: int) -> None:
        places = batch.of_customers()

        def change(customer_id: str, record: CustomerRecord) -> Application:
            events = [batch.checked[place] for place in places[customer_id]]
            return apply_events(rules, self._adopted(record, rules), events, now_ms=now_ms)

        done, failed = self._changed(list(places), change)
        for customer_id, application in done.items():
            for place, fate in zip(places[customer_id], application.fates, strict=True):
                batch.fates[place] = fate
        for customer_id in failed:
            for place in places[customer_id]:
                batch.fates[place] = _refused(
                    Reason.NOT_APPLIED, "the customer's state cannot take it; the log says why"
                )
        self._settle(rules, done)

    def _look_again(self, customers: Sequence[str], now_ms: int, *, evaluate: bool) -> None:
        rules = self.rules
        self._learn()

        def change(_: str, record: CustomerRecord) -> Application:
            if record.features is None and not record.stream:  # erased since it was due
                return Application(CustomerChange(due_at_ms=0), (), None)
            return look_again(rules, self._adopted(record, rules), now_ms=now_ms, evaluate=evaluate)

        done, failed = self._changed(list(customers), change)
        self._damaged |= failed
        self._settle(rules, done)

    def _learn(self) -> None:
        """Reads the schemas that others keep, where a customer was of one that is not known."""
        if self._unlearnt:
            with contextlib.suppress(StoreError):  # then the next batch tries
                self._versions.learn()
                self._unlearnt = False

    def _adopted(self, record: CustomerRecord, rules: EventRules) -> CustomerRecord:
        """The record with features of an earlier schema taken over into ours; later ones are left alone."""
        features, schema = record.features, rules.streaming.schema
        if features is None or features.schema_version == schema.digest:
            return record
        if not self._versions.knows(features.schema_version):
            self._unlearnt = True
        return replace(record, features=self._versions.adopted(features, schema))

    def _changed(
        self, customers: Sequence[str], change: Callable[[str, CustomerRecord], Application]
    ) -> tuple[dict[str, Application], set[str]]:
        """Applies a change to customers at once; where one's state is damaged, to each alone.

        Returns what was done, and the customers for whom nothing can be done.
        """
        done: dict[str, Application] = {}

        def changed(customer_id: str, record: CustomerRecord) -> CustomerChange | None:
            done[customer_id] = change(customer_id, record)
            return done[customer_id].change

        if not customers:
            return done, set()
        try:
            self._store.update(customers, changed)
        except _PERMANENT as error:
            if len(customers) == 1:
                _log.error("events.customer_damaged", cause=str(error))
                return {}, set(customers)
            alone = [self._changed([name], change) for name in customers]
            return (
                {name: made for found, _ in alone for name, made in found.items()},
                {name for _, failed in alone for name in failed},
            )
        except StoreError as error:
            raise StateUnavailable("events cannot be applied now; send them again") from error
        return done, set()

    def _settle(self, rules: EventRules, done: dict[str, Application]) -> None:
        """Evaluates and stores the signals of customers for whom that is to be done."""
        unsettled = {name: made.unsettled for name, made in done.items() if made.unsettled is not None}
        if not unsettled:
            return
        found = self._signals.evaluate(rules, unsettled)

        def settle(customer_id: str, record: CustomerRecord) -> CustomerChange | None:
            one, signals = unsettled[customer_id], found[customer_id]
            if signals is None:
                return postpone_signals(rules, record, one, until_ms=one.now_ms + SIGNALS_AGAIN_MS)
            return settle_signals(rules, record, one, signals)

        with contextlib.suppress(*_PERMANENT):  # damaged just now; the customer stays due
            self._update(list(unsettled), settle)

    def _update(
        self, customers: Sequence[str], change: Callable[[str, CustomerRecord], CustomerChange | None]
    ) -> None:
        try:
            self._store.update(customers, change)
        except _PERMANENT:
            raise
        except StoreError as error:
            raise StateUnavailable("events cannot be applied now; send them again") from error


def _refuse_erased(customer_id: str, erased: Callable[[str], object]) -> None:
    if erased(customer_id):
        _log.warning("events.customer_erased", advice="stop its source, or readmit the customer")
        raise EventRefused(Reason.CUSTOMER_ERASED, _NOTHING_KEPT)


def _submission(event: CheckedEvent) -> ConsentSubmission:
    given = event.consent
    assert given is not None  # the caller looked
    state = ConsentState(given.state) if given.state in RECORDED_STATES else None
    return ConsentSubmission(
        customer_id=event.customer_id,
        purpose=given.purpose,
        channel=given.channel,
        state=state,
        recorded_at_ms=event.at_ms,
        source=f"event:{event.type.name}",
        evidence=f"event {event.id}",
    )


def _violations(error: RequestInvalid) -> str:
    return "; ".join(f"{v.field} {v.description}" for v in error.violations)


def _refused(reason: Reason, words: str) -> Fate:
    return Fate(Verdict.REFUSED, reason, words)
