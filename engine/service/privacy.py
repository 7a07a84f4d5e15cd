"""All that is held of one customer: told in full, and erased so that every log still verifies."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from engine.decisionlog.checkpoints import Checkpoints
from engine.decisionlog.erasure import entries_about, erase_entries
from engine.events.deadletters import DeadLetter, DeadLetterBox, DiskDeadLetters
from engine.events.memory import read_memory
from engine.service.consent_texts import shown_texts
from engine.service.erased import ErasedCustomers, ErasedEntry
from feature_store.errors import StoreCorrupt
from feature_store.exporting import exported
from feature_store.schema import FeatureSchema
from feature_store.sealing import TextCipher
from feature_store.state import CustomerRecord, Identity, MergedPart
from feature_store.store import OnlineStore
from feature_store.versions import SchemaVersions

FORMAT: Final = 1
DECISIONS: Final = "decisions"
_LOGS_IN_ORDER: Final = ("outcomes", "shadow", "model-shadow", "consents", "identities", DECISIONS)
_WITHOUT_CHECKPOINTS: Final = ("shadow", "model-shadow", "identities")
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
        "each tally as long as its window, ids as long as events may be late and 30 days at most besides",
    ),
    "decisions": ("every decision with the state and context it was made from", _UNTIL_ERASED),
    "outcomes": ("what happened after decisions, and the consents each contact rested on", _UNTIL_ERASED),
    "shadow": ("what a shadow version of the rules would have answered", _UNTIL_ERASED),
    "model_shadow": ("what shadow versions of models said beside those that scored", _UNTIL_ERASED),
    "dead_letters": ("events that could not be applied", "until they are erased, or dropped"),
    "merged": (
        "what was held of customers merged into this one, by id; their contacts are among the contacts",
        _UNTIL_ERASED,
    ),
    "erasure": ("an earlier erasure: that and when, without an id", "for good"),
}
"""What each class of data is, and how long it is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """Every place that holds anything of customers; `log_directories` by name, as in `engine.logfiles`.

    `texts` opens what is sealed of consents, and `identity` what is of identities.
    """

    store: OnlineStore
    log_directories: Mapping[str, Path]
    checkpoints_of: Callable[[str], Checkpoints]
    letters: DiskDeadLetters
    streams: Sequence[DeadLetterBox]
    erased: ErasedCustomers
    texts: TextCipher
    identity: Callable[[Identity], Identity]


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
        "identity_log": [_with_identity(holdings, entry) for entry in entries["identities"]],
        "consents": _plain([shown_texts(consent, holdings.texts) for consent in record.consents]),
        "consent_ledger": _opened(entries["consents"], holdings.texts),
        "contacts": _plain(record.contacts.events),
        "signals": _plain(record.signals),
        "events": _remembered(record),
        "decisions": _opened(entries[DECISIONS], holdings.texts),
        "outcomes": entries["outcomes"],
        "shadow": entries["shadow"],
        "model_shadow": entries["model-shadow"],
        "dead_letters": [_letter(x) for x in _letters(holdings, _Naming(customer_id, holdings.store))],
        "merged": [_merged(holdings, part, schema) for part in record.parts],
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

    The note comes first: no event brings anything back meanwhile, and whoever is about to write of the
    customer sees it and takes back what this does not find (`engine.service.late_writes`). `actor` and
    `reason` stay in the registers and must not name the customer. Raises StoreError and LogError, and
    StoreCorrupt where a dead letter may name the customer and cannot be read.
    """
    found = held(holdings, customer_id)
    if found.erased_before is None:
        holdings.erased.add(customer_id, actor=actor, reason=reason, now_ms=now_ms)
    else:
        holdings.erased.announce()
    naming = _Naming(customer_id, holdings.store)
    holdings.letters.erase(naming.is_in, actor=actor, reason=reason, now_ms=now_ms)
    for box in holdings.streams:
        box.remove([letter.id for letter in box.letters() if naming.is_in(letter)], now_ms=now_ms)
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

    def is_in(self, letter: DeadLetter) -> bool:
        """Of what is no JSON object, whether the id stands anywhere in it: rather one letter too many.

        Raises StoreCorrupt where the letter cannot be read, as then nobody can tell.
        """
        if letter.unread:
            raise StoreCorrupt(
                f"dead letter {letter.id} may name the customer: {letter.unread}; or drop the letter, with "
                "`arbiter events dlq drop`"
            )
        try:
            event = json.loads(letter.event)
        except ValueError:
            event = None
        if not isinstance(event, dict):
            return self.customer_id in letter.event
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
        yield from (letter for letter in box.letters() if naming.is_in(letter))


def _with_identity(holdings: Holdings, entry: dict[str, Any]) -> dict[str, Any]:
    """An entry of the identity log with its identity readable; as it is kept where no key opens it."""
    written = entry.get("identity")
    if not isinstance(written, dict):
        return entry
    try:
        identity = holdings.identity(Identity(written["type"], written["value"]))
    except StoreCorrupt as error:
        return {**entry, "identity": {**written, "unread": str(error)}}
    return {**entry, "identity": _plain(identity)}


def _opened(value: Any, texts: TextCipher) -> Any:  # noqa: ANN401  # JSON
    """A document with every sealed text of a consent in it readable, or the words why one is not."""
    if isinstance(value, str):
        return texts.shown(value)
    if isinstance(value, dict):
        return {name: _opened(each, texts) for name, each in value.items()}
    return [_opened(each, texts) for each in value] if isinstance(value, list) else value


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


def _merged(holdings: Holdings, part: MergedPart, schema: FeatureSchema) -> dict[str, Any]:
    """What a customer was when it was merged, and every entry of the logs under its id."""
    entries = _entries(holdings, part.customer_id)
    return {
        "customer_id": part.customer_id,
        "into": part.into,
        "merged_at_ms": part.at_ms,
        "features": _part_features(holdings.store, part, schema),
        "identities": _plain(holdings.store.identities(part.customer_id)),
        "identity_log": [_with_identity(holdings, entry) for entry in entries["identities"]],
        "consent_ledger": _opened(entries["consents"], holdings.texts),
        "contacts": _plain(part.contacts.events),
        "signals": _plain(part.signals),
        "events": _remembered(part),
        "decisions": _opened(entries[DECISIONS], holdings.texts),
        "outcomes": entries["outcomes"],
        "shadow": entries["shadow"],
        "dead_letters": [_letter(x) for x in _letters(holdings, _Naming(part.customer_id, holdings.store))],
    }


def _part_features(store: OnlineStore, part: MergedPart, schema: FeatureSchema) -> dict[str, Any] | None:
    """Features by name; only of which schema they are where they cannot be read in this one."""
    if part.features is None:
        return None
    vector = SchemaVersions(store.schemas).read(part.features, schema, now_ms=part.at_ms)
    if vector.schema_version != schema.digest:
        return {"schema": vector.schema_version}
    return {
        "schema": part.features.schema_version,
        "values": dict(zip(schema.index, schema.decode_all(vector.values), strict=True)),
        "view_times_ms": dict(zip((view.name for view in schema.view), vector.view_times_ms, strict=True)),
    }


def _remembered(record: CustomerRecord | MergedPart) -> Any:  # noqa: ANN401  # JSON
    """What ingestion remembers, by field; bytes in base64."""
    if not record.stream:
        return None
    memory = read_memory(record.stream)
    return _plain({name: getattr(memory, name) for name in memory.__struct_fields__})


def _plain(value: object) -> Any:  # noqa: ANN401  # JSON
    return msgspec.to_builtins(value, str_keys=True)
