"""Keeps the customer's will: the ledger first, then the online copy, then the answer."""

from __future__ import annotations

from dataclasses import dataclass, replace

from engine.core.consent import judge
from engine.core.rulebook import Rulebook
from engine.decisionlog.errors import LogError, LogUnavailable
from engine.decisionlog.ledger import ConsentEntry, ConsentLedger, ConsentTerms
from engine.domain import ConsentUsed, LegalBasis
from engine.errors import (
    ConsentNotRecorded,
    CustomerUnknown,
    RequestInvalid,
    StateUnavailable,
    Violation,
)
from engine.service.consent_texts import sealed_texts, shown_texts
from engine.service.decisions import NO_SUCH_CUSTOMER, Clock
from engine.service.late_writes import LateWrites
from engine.service.live import LiveSnapshot
from engine.service.outcomes import MAX_AHEAD_MS
from engine.service.requests import MAX_TEXT, MIN_INSTANT_MS, RequestCheck, check_identifiers
from feature_store.errors import StoreError
from feature_store.sealing import TextCipher
from feature_store.state import ANY_CHANNEL, ConsentRecord, ConsentState, CustomerState
from feature_store.store import OnlineStore

MAX_LISTED = 64
CONSENTS = "consents"
"""Name of the ledger among the logs."""
_NO_TERMS = ConsentTerms()
_TERM_TEXTS = ("notice", "notice_language", "legal_basis", "jurisdiction", "collection_method")
_TERM_LISTS = ("recipients", "data_categories")


@dataclass(frozen=True, slots=True)
class ConsentSubmission:
    """A consent as it came in; `recorded_at_ms` None is now, `state` None is no state one may record.

    `recorded_by` is the caller who proved who it is; no client says that.
    """

    customer_id: str
    purpose: str
    channel: str
    state: ConsentState | None
    recorded_at_ms: int | None = None
    valid_until_ms: int | None = None
    source: str = ""
    notice_version: str = ""
    actor: str = ""
    evidence: str = ""
    terms: ConsentTerms = _NO_TERMS
    recorded_by: str | None = None


@dataclass(frozen=True, slots=True)
class RecordedConsent:
    """A consent on disk, which names its place in the ledger, and what the customer was told.

    `customer_id` is whose will it was recorded as: who answers for the id that was given.
    """

    record: ConsentRecord
    terms: ConsentTerms = _NO_TERMS
    customer_id: str = ""


@dataclass(frozen=True, slots=True)
class HeldConsents:
    """What is recorded of a customer, who may answer for the id asked for; what is effective now."""

    customer_id: str
    records: tuple[RecordedConsent, ...]
    effective: tuple[tuple[str, ConsentUsed], ...]  # by channel


class Consents:
    """Records and reads consents. Safe for threads."""

    def __init__(
        self,
        *,
        live: LiveSnapshot,
        store: OnlineStore,
        ledger: ConsentLedger,
        clock: Clock,
        cipher: TextCipher,
        late: LateWrites,
    ) -> None:
        """`cipher` seals free texts."""
        self._live = live
        self._store = store
        self._ledger = ledger
        self._clock = clock
        self._cipher = cipher
        self._late = late

    def record(self, submission: ConsentSubmission) -> RecordedConsent:
        """Appends to the ledger and projects; the next decision on any worker obeys it."""
        writing = self._late.begin(CONSENTS)
        entry = checked_entry(submission, self._live.current.rulebook, self._clock())
        answering = self._customer(submission.customer_id).customer_id
        named = {submission.customer_id, answering}
        if any(writing.is_erased(name) for name in named):
            raise CustomerUnknown(NO_SUCH_CUSTOMER)
        kept = sealed_texts(entry.consent, self._cipher)
        try:
            position = self._ledger.append(replace(entry, consent=kept))
        except LogUnavailable as error:
            raise ConsentNotRecorded("the consent cannot be recorded, so nothing changed") from error
        try:
            self._store.put_consents([(submission.customer_id, replace(kept, position=position))])
        except StoreError as error:
            raise StateUnavailable(
                "the consent is in the ledger but decisions do not see it yet; send it again"
            ) from error
        finally:
            erased = [writing.took_back(name, position) for name in named]
        if any(erased):
            raise CustomerUnknown(NO_SUCH_CUSTOMER)
        record = replace(entry.consent, position=position)
        return RecordedConsent(record, entry.terms or _NO_TERMS, answering)

    def get(self, customer_id: str) -> HeldConsents:
        """What is in force for one customer."""
        check_identifiers(customer_id=customer_id)
        state = self._customer(customer_id)
        rulebook, now_ms = self._live.current.rulebook, self._clock()
        effective = [
            (channel, used)
            for channel in rulebook.vocabulary.channels
            for used in judge(
                state.consents, policy=rulebook.consent, channel=channel, now_ms=now_ms
            ).values()
        ]
        records = sorted(state.consents, key=lambda r: (r.purpose, r.channel))
        recorded = tuple(RecordedConsent(shown_texts(r, self._cipher), self._terms(r)) for r in records)
        return HeldConsents(state.customer_id, recorded, tuple(effective))

    def _terms(self, record: ConsentRecord) -> ConsentTerms:
        """What the ledger holds besides; nothing where it cannot be read, as the will itself counts."""
        try:
            entry = self._ledger.read(record.position) if record.position else None
        except LogError:
            return _NO_TERMS
        return _NO_TERMS if entry is None else entry.terms or _NO_TERMS

    def _customer(self, customer_id: str) -> CustomerState:
        try:
            state = self._store.read(customer_id)
        except StoreError as error:
            raise StateUnavailable("the customer's state cannot be read now; try again") from error
        if state is None:
            raise CustomerUnknown(NO_SUCH_CUSTOMER)
        return state


def checked_entry(given: ConsentSubmission, rulebook: Rulebook, now_ms: int) -> ConsentEntry:
    """The entry to append. Raises RequestInvalid with every violation."""
    check = RequestCheck()
    check.identifier(given.customer_id, "customer_id")
    purposes, channels = rulebook.consent.purposes, rulebook.vocabulary.channels
    check.require(given.purpose in purposes, "consent.purpose", f"is none of {', '.join(purposes)}")
    known = ", ".join((ANY_CHANNEL, *channels))
    check.require(
        given.channel in channels or given.channel == ANY_CHANNEL, "consent.channel", f"is none of {known}"
    )
    for name in ("source", "notice_version", "actor", "evidence"):
        check.text(getattr(given, name), f"consent.{name}", MAX_TEXT)
    _check_terms(check, given.terms)
    recorded_at_ms = now_ms if given.recorded_at_ms is None else given.recorded_at_ms
    check.require(
        recorded_at_ms <= now_ms + MAX_AHEAD_MS, "consent.record_time", "is more than 5 minutes ahead"
    )
    expires = given.valid_until_ms
    check.require(recorded_at_ms >= MIN_INSTANT_MS, "consent.record_time", "is before year 1")
    if expires is not None and expires <= recorded_at_ms:
        check.fail("consent.expire_time", "is not after record_time")
    elif expires is not None:
        check.instant(expires, "consent.expire_time")
    if given.state is None:
        check.violations.append(Violation("consent.state", "is none of GRANTED, DENIED, WITHDRAWN, OBJECTED"))
        raise RequestInvalid(check.violations)
    check.done()
    record = ConsentRecord(
        purpose=given.purpose,
        channel=given.channel,
        state=given.state,
        recorded_at_ms=min(recorded_at_ms, now_ms),  # a fast clock at the client delays no grant
        valid_until_ms=expires,
        source=given.source,
        notice_version=given.notice_version,
        actor=given.actor,
        evidence=given.evidence,
    )
    return ConsentEntry(
        customer_id=given.customer_id,
        consent=record,
        received_at_ms=now_ms,
        terms=None if given.terms == _NO_TERMS else given.terms,
        recorded_by=given.recorded_by,
    )


def _check_terms(check: RequestCheck, terms: ConsentTerms) -> None:
    for name in _TERM_TEXTS:
        check.text(getattr(terms, name), f"consent.{name}", MAX_TEXT)
    if terms.legal_basis:
        known = ", ".join(LegalBasis)
        check.require(terms.legal_basis in tuple(LegalBasis), "consent.legal_basis", f"is none of {known}")
    for name in _TERM_LISTS:
        listed = getattr(terms, name)
        check.require(len(listed) <= MAX_LISTED, f"consent.{name}", f"has more than {MAX_LISTED} entries")
        for place, text in enumerate(listed[:MAX_LISTED]):
            check.text(text, f"consent.{name}[{place}]", MAX_TEXT)
