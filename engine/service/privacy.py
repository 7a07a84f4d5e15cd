"""All that is held of one customer: told in full, and erased so that every log still verifies."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from engine.decisionlog.checkpoints import Checkpoints
from engine.decisionlog.erasure import entries_about, erase, erase_entries
from engine.events.deadletters import DeadLetter, DeadLetterBox, LetterEntry
from engine.events.memory import read_memory
from engine.service.erased import ErasedCustomers, ErasedEntry
from feature_store.errors import StoreCorrupt
from feature_store.exporting import exported
from feature_store.schema import FeatureSchema
from feature_store.state import CustomerRecord, Identity
from feature_store.store import OnlineStore
from feature_store.versions import SchemaVersions

FORMAT: Final = 1
DECISIONS: Final = "decisions"
_LOGS_IN_ORDER: Final = ("outcomes", "shadow", "consents", "identities", DECISIONS)
_WITHOUT_CHECKPOINTS: Final = ("shadow", "identities")
"""How logs are erased: decisions last, as outcomes of earlier engines are the customer's by these alone."""

_UNTIL_ERASED: Final = "until it is erased or replaced"
CLASSES: Mapping[str, tuple[str, str]] = {
    "features": ("facts for rules and models, by name, and when each view was true", _UNTIL_ERASED),
    "identities": ("other names the customer is found by", _UNTIL_ERASED),
    "identity_log": ("when identities were linked and unlinked, by whom and why", _UNTIL_ERASED),
    "consents": ("the prevailing will for each purpose and channel, as decisions see it", _UNTIL_ERASED),
    "consent_ledger": ("everything the customer said, as it was received, by position", _UNTIL_ERASED),
    "contacts": (
        "contacts that contact policies count, and what is reserved",
        "as long as the store's contact history, 400 days by default",
    ),
    "signals": ("facts derived from recent events", "until their `valid_until_ms`, and a later event"),
    "events": (
        "what ingestion remembers: tallies of streaming features, recent events, ids of applied events",
        "each tally as long as its window, ids as long as events may be late",
    ),
    "decisions": ("every decision with the state and context it was made from", _UNTIL_ERASED),
    "outcomes": ("what happened after decisions, and the consents each contact rested on", _UNTIL_ERASED),
    "shadow": ("what a shadow version of the rules would have answered", _UNTIL_ERASED),
    "dead_letters": ("events that could not be applied", "until they are erased, or dropped"),
    "erasure": ("an earlier erasure: that and when, without an id", "for good"),
}
"""What each class of data is, and how long it is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """Every place that holds anything of customers; `log_directories` by name, as in `engine.logfiles`."""

    store: OnlineStore
    log_directories: Mapping[str, Path]
    checkpoints_of: Callable[[str], Checkpoints]
    letters_directory: Path
    letters: DeadLetterBox
    streams: Sequence[DeadLetterBox]
    erased: ErasedCustomers


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What there is of a customer, in numbers."""

    state: bool
    identities: int
    entries: Mapping[str, int]
    letters: int
    erased_before: ErasedEntry | None

    @property
    def nothing(self) -> bool:
        """Whether nothing is held."""
        return not (self.state or self.identities or self.letters or any(self.entries.values()))


def export(holdings: Holdings, customer_id: str, *, schema: FeatureSchema, now_ms: int) -> dict[str, Any]:
    """All that is held of a customer, as JSON values. Raises StoreError, LoadError and LogError."""
    record = _record(holdings.store, customer_id)
    identities = holdings.store.identities(customer_id)
    entries = _entries(holdings, customer_id)
    before = holdings.erased.entry(customer_id)
    data: dict[str, Any] = {
        "features": _features(holdings.store, customer_id, record, schema),
        "identities": _plain(identities),
        "identity_log": entries["identities"],
        "consents": _plain(record.consents),
        "consent_ledger": entries["consents"],
        "contacts": _plain(record.contacts.events),
        "signals": _plain(record.signals),
        "events": _remembered(record),
        "decisions": entries[DECISIONS],
        "outcomes": entries["outcomes"],
        "shadow": entries["shadow"],
        "dead_letters": [_letter(x) for x in _letters(holdings, _Naming(customer_id, holdings.store))],
        "erasure": None if before is None else _plain(before),
    }
    return {
        "format": FORMAT,
        "customer_id": customer_id,
        "exported_at_ms": now_ms,
        "held": {
            name: {"what": what, "kept": kept, "data": data[name]} for name, (what, kept) in CLASSES.items()
        },
    }


def held(holdings: Holdings, customer_id: str) -> Held:
    """How much there is of a customer. Raises StoreError and LogError."""
    identities = _identities(holdings.store, customer_id)
    naming = _Naming(customer_id, holdings.store)
    return Held(
        state=_has_state(holdings.store, customer_id),
        identities=len(identities),
        entries={log: len(found) for log, found in _entries(holdings, customer_id).items()},
        letters=len(list(_letters(holdings, naming))),
        erased_before=holdings.erased.entry(customer_id),
    )


def forget(holdings: Holdings, customer_id: str, *, actor: str, reason: str, now_ms: int) -> Held:
    """Erases a customer everywhere and notes that and when; what there was. Again is harmless.

    The note comes first, so that no event brings anything back meanwhile. A decision that was under way when
    the state went may still be logged after its log was gone through: a second call finds it. `actor` and
    `reason` stay in the registers and must not name the customer. Raises StoreError and LogError.
    """
    found = held(holdings, customer_id)
    if found.erased_before is None:
        holdings.erased.add(customer_id, actor=actor, reason=reason, now_ms=now_ms)
    naming = _Naming(customer_id, holdings.store)
    erase(
        holdings.letters_directory,
        lambda body: naming.is_in(_letter_entry.decode(body).event),
        actor=actor,
        reason=reason,
        now_ms=now_ms,
    )
    for box in holdings.streams:
        box.remove([letter.id for letter in box.letters() if naming.is_in(letter.event)], now_ms=now_ms)
    holdings.store.erase(customer_id)
    decided = _decision_ids(holdings, customer_id)
    for log in _LOGS_IN_ORDER:
        erase_entries(
            holdings.log_directories[log],
            customer_id,
            actor=actor,
            reason=reason,
            now_ms=now_ms,
            decision_ids=decided,
            checkpoints=None if log in _WITHOUT_CHECKPOINTS else holdings.checkpoints_of(log),
        )
    return found


@dataclass(frozen=True, slots=True)
class _Naming:
    """Whether the text of an event names the customer, by id or by an identity."""

    customer_id: str
    store: OnlineStore

    def is_in(self, text: str) -> bool:
        """Of what is no JSON object, whether the id stands anywhere in it: rather one letter too many."""
        try:
            event = json.loads(text)
        except ValueError:
            event = None
        if not isinstance(event, dict):
            return self.customer_id in text
        named = event.get("identity")
        if event.get("customer_id") == self.customer_id:
            return True
        if not isinstance(named, dict):
            return False
        identity = Identity(str(named.get("type")), str(named.get("value")))
        return self.customer_id in self.store.resolve(identity)


def _record(store: OnlineStore, customer_id: str) -> CustomerRecord:
    seen = [CustomerRecord()]

    def look(_: str, record: CustomerRecord) -> None:
        seen[0] = record

    store.update([customer_id], look)
    return seen[0]


def _has_state(store: OnlineStore, customer_id: str) -> bool:
    """Whether the store holds anything under the id, readable or damaged."""
    try:
        record = _record(store, customer_id)
    except StoreCorrupt:
        return True
    return record.features is not None or bool(
        record.consents or record.contacts.events or record.signals or record.stream
    )


def _identities(store: OnlineStore, customer_id: str) -> frozenset[Identity]:
    """What the customer carries; none where that is damaged, which erasing finds all the same."""
    try:
        return frozenset(store.identities(customer_id))
    except StoreCorrupt:
        return frozenset()


def _entries(holdings: Holdings, customer_id: str) -> dict[str, list[Any]]:
    """The customer's entries of every log as JSON values with their positions."""
    decided = _decision_ids(holdings, customer_id)
    return {
        log: [
            {"position": position, **msgspec.json.decode(body)}
            for position, body in _about(holdings, log, customer_id, decided)
        ]
        for log in _LOGS_IN_ORDER
    }


def _decision_ids(holdings: Holdings, customer_id: str) -> frozenset[str]:
    found = _about(holdings, DECISIONS, customer_id, ())
    return frozenset(msgspec.json.decode(body)["decision_id"] for _, body in found)


def _about(
    holdings: Holdings, log: str, customer_id: str, decided: Container[str]
) -> Iterator[tuple[int, bytes]]:
    return entries_about(holdings.log_directories[log], customer_id, decision_ids=decided)


def _letters(holdings: Holdings, naming: _Naming) -> Iterator[DeadLetter]:
    for box in (holdings.letters, *holdings.streams):
        yield from (letter for letter in box.letters() if naming.is_in(letter.event))


def _letter(letter: DeadLetter) -> dict[str, Any]:
    return {"id": letter.id, "reason": letter.reason, "words": letter.words, "event": letter.event}


def _features(
    store: OnlineStore, customer_id: str, record: CustomerRecord, schema: FeatureSchema
) -> dict[str, Any] | None:
    if record.features is None:
        return None
    (row,) = exported(store, [customer_id], schema, SchemaVersions(store.schemas))
    return {
        "schema": record.features.schema_version,
        "values": dict(row.features),
        "view_times_ms": dict(row.view_times_ms),
    }


def _remembered(record: CustomerRecord) -> Any:  # noqa: ANN401  # JSON
    """What ingestion remembers, by field; bytes in base64."""
    if not record.stream:
        return None
    memory = read_memory(record.stream)
    return _plain({name: getattr(memory, name) for name in memory.__struct_fields__})


def _plain(value: object) -> Any:  # noqa: ANN401  # JSON
    return msgspec.to_builtins(value, str_keys=True)


_letter_entry: Final = msgspec.json.Decoder(LetterEntry)
