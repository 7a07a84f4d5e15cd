"""What is older than a company keeps it goes: entries of logs become zeros in place; all still verifies.

What is still in force stays however old it is: the prevailing record of a consent, a reservation, and
contacts that a policy of the rules counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec

from engine.core.rulebook import Rulebook
from engine.decisionlog.checkpoints import Checkpoints
from engine.decisionlog.erasure import erase
from engine.decisionlog.ledger import ConsentEntry, consent_ledger
from engine.decisionlog.reading import frames, list_segments
from engine.events.applying import EventRules, tidied
from engine.events.deadletters import DeadLetterBox
from engine.service.identities import identity_log
from engine.service.merges import merges_in
from feature_store.consents import prevailing
from feature_store.contacts import DAY_MS
from feature_store.state import ConsentRecord, ContactHistory, CustomerChange, CustomerRecord
from feature_store.store import OnlineStore

REASON: Final = "retention"
ACTOR: Final = "arbiter retention run"
AGED_LOGS: Final = ("decisions", "outcomes", "shadow", "model-shadow", "dead-letters")
CONSENTS: Final = "consents"
IDENTITIES: Final = "identities"
CONTACTS: Final = "contacts"
STREAM_LETTERS: Final = "dead letters of the stream"
EVENTS: Final = "events"
DUE_AT_ONCE: Final = 100_000
_PAGE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """For how many days each class is kept; None for good. Names of logs are those of their folders."""

    days: Mapping[str, int | None]

    def limit_ms(self, name: str, now_ms: int) -> int | None:
        """What is older than this instant goes; None where nothing does."""
        days = self.days.get(name)
        return None if days is None else now_ms - days * DAY_MS

    def too_short_for(self, rulebook: Rulebook) -> str | None:
        """The contact policy that counts contacts for longer than they are to be kept; None for none."""
        days = self.days.get(CONTACTS)
        if days is None:
            return None
        return next((policy.id for policy in rulebook.contact if policy.window_ms > days * DAY_MS), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ageing:
    """Every place in which something grows old; the log of identities tells who was merged."""

    store: OnlineStore
    log_directories: Mapping[str, Path]
    checkpoints_of: Callable[[str], Checkpoints | None]
    streams: tuple[DeadLetterBox, ...] = ()


def enforce(places: Ageing, retention: Retention, *, now_ms: int, write: bool) -> dict[str, int]:
    """Erases what is too old, or with `write` false only counts it; how much of each class that is kept so
    long and no longer. Servers may go on, and to do it again is harmless. Raises StoreError and LogError.
    """
    gone: dict[str, int] = {}
    for log in (*AGED_LOGS, CONSENTS):
        limit_ms = retention.limit_ms(log, now_ms)
        if limit_ms is not None:
            wanted = _superseded(places, limit_ms) if log == CONSENTS else _older(limit_ms)
            gone[log] = _erased(places, log, wanted, now_ms=now_ms, write=write)
    letters_ms = retention.limit_ms("dead-letters", now_ms)
    if letters_ms is not None and places.streams:
        gone[STREAM_LETTERS] = _letters(places, letters_ms, now_ms=now_ms, write=write)
    contacts_ms = retention.limit_ms(CONTACTS, now_ms)
    if contacts_ms is not None:
        gone[CONTACTS] = _contacts(places.store, contacts_ms, now_ms=now_ms, write=write)
    return gone


def tidy(store: OnlineStore, rules: EventRules, *, now_ms: int, write: bool) -> int:
    """Drops what ingestion remembers beyond its time, and ended signals; how many things, or would.

    Servers do it when a customer is due; this is for customers whom none has looked at. Of those who do not
    exist only so many are looked at in one run; the longest due come first. Raises StoreError.
    """
    gone: dict[str, int] = {}

    def change(customer_id: str, record: CustomerRecord) -> CustomerChange | None:
        changed, gone[customer_id] = tidied(rules, record, now_ms=now_ms)
        return changed if write else None

    for page in _pages(store.customers()):
        store.update(page, change)
    due = store.due(now_ms=now_ms, limit=DUE_AT_ONCE)
    for page in _pages(name for name in due if name not in gone):
        store.update(page, change)
    return sum(gone.values())


class _Aged(msgspec.Struct):
    """When an entry was made: decisions say now, all others when it was received."""

    now_ms: int = 0
    received_at_ms: int = 0


_aged: Final = msgspec.json.Decoder(_Aged)
_consent: Final = msgspec.json.Decoder(ConsentEntry)


def _older(limit_ms: int) -> Callable[[bytes], bool]:
    def wanted(body: bytes) -> bool:
        made = _aged.decode(body)
        return 0 < (made.now_ms or made.received_at_ms) < limit_ms

    return wanted


def _erased(places: Ageing, log: str, wanted: Callable[[bytes], bool], *, now_ms: int, write: bool) -> int:
    directory = places.log_directories[log]
    if not directory.is_dir():
        return 0
    if not write:
        bodies = (frame.payload for segment in list_segments(directory) for frame in frames(segment))
        return sum(wanted(body) for body in bodies)
    checkpoints = places.checkpoints_of(log)
    return erase(directory, wanted, actor=ACTOR, reason=REASON, now_ms=now_ms, checkpoints=checkpoints)


def _superseded(places: Ageing, limit_ms: int) -> Callable[[bytes], bool]:
    """Names entries of which a later one took the place before the limit; never one that is in force.

    Nor any of who was ever merged: which of two persons' words is in force may change when they are parted.
    """
    directory = places.log_directories[CONSENTS]
    if not directory.is_dir():
        return lambda _body: False
    merged = _merged_ids(places.log_directories.get(IDENTITIES))
    ended = _ended(e for e in consent_ledger(directory).replay() if e.customer_id not in merged)

    def wanted(body: bytes) -> bool:
        entry = _consent.decode(body)
        return ended.get(_name(entry.customer_id, entry.consent), limit_ms) < limit_ms

    return wanted


def _ended(said: Iterable[ConsentEntry]) -> Mapping[bytes, int]:
    """When each word that is no longer in force was superseded, by its name.

    An objection and the later refusal that renewed it are in force together.
    """
    current: dict[tuple[str, str, str], tuple[ConsentRecord, list[bytes]]] = {}
    ended: dict[bytes, int] = {}
    for entry in said:
        record, name = entry.consent, _name(entry.customer_id, entry.consent)
        place = (entry.customer_id, record.purpose, record.channel)
        before, names = current.get(place, (record, []))
        kept = prevailing(before, record)
        if kept is record:
            ended |= dict.fromkeys(names, entry.received_at_ms)
            current[place] = record, [name]
        elif kept is before:
            ended[name] = entry.received_at_ms
        else:
            current[place] = kept, [*names, name]
    in_force = {name for _, names in current.values() for name in names}  # said twice, it is so all the same
    return {name: at_ms for name, at_ms in ended.items() if name not in in_force}


def _merged_ids(directory: Path | None) -> set[str]:
    """Who was ever merged into another, or another into them."""
    if directory is None or not directory.is_dir():
        return set()
    merges = merges_in(identity_log(directory).replay())
    return {name for merge in merges for name in (merge.customer_id, merge.into)}


def _name(customer_id: str, record: ConsentRecord) -> bytes:
    """What an entry says, without where it is: two that say the same go or stay together."""
    said = msgspec.json.encode((customer_id, replace(record, position=0)))
    return blake2b(said, digest_size=16).digest()


def _letters(places: Ageing, limit_ms: int, *, now_ms: int, write: bool) -> int:
    count = 0
    for box in places.streams:
        old = [letter.id for letter in box.letters() if letter.refused_ms < limit_ms]
        count += len(old)
        if write:
            box.remove(old, now_ms=now_ms)
    return count


def _contacts(store: OnlineStore, limit_ms: int, *, now_ms: int, write: bool) -> int:
    """Contacts of customers that exist; what is kept of others goes when they are erased."""
    dropped: dict[str, int] = {}

    def change(customer_id: str, record: CustomerRecord) -> CustomerChange | None:
        rows = list(zip(record.contacts.events, record.contacts.keys, strict=True))
        kept = [row for row in rows if row[0].at_ms >= limit_ms or (row[0].until_ms or 0) > now_ms]
        dropped[customer_id] = len(rows) - len(kept)
        if len(kept) == len(rows) or not write:
            return None
        return CustomerChange(
            contacts=ContactHistory(tuple(event for event, _ in kept), tuple(key for _, key in kept))
        )

    for page in _pages(store.customers()):
        store.update(page, change)
    return sum(dropped.values())


def _pages(customer_ids: Iterator[str]) -> Iterator[list[str]]:
    while page := list(islice(customer_ids, _PAGE)):
        yield page
