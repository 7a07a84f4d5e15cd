"""What is older than a company keeps it goes: entries of logs become zeros in place; all still verifies.

What is still in force stays however old it is: the prevailing record of a consent, a reservation, and
contacts that a policy of the rules counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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
from engine.events.deadletters import DeadLetterBox
from feature_store.consents import prevailing
from feature_store.contacts import DAY_MS
from feature_store.state import ConsentRecord, ContactHistory, CustomerChange, CustomerRecord
from feature_store.store import OnlineStore

REASON: Final = "retention"
ACTOR: Final = "arbiter retention run"
AGED_LOGS: Final = ("decisions", "outcomes", "shadow", "dead-letters")
CONSENTS: Final = "consents"
CONTACTS: Final = "contacts"
STREAM_LETTERS: Final = "dead letters of the stream"
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
    """Every place in which something grows old."""

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
    """Names entries of which a later one took the place before the limit; never one that is in force."""
    current: dict[tuple[str, str, str], ConsentRecord] = {}
    ended: dict[bytes, int] = {}
    directory = places.log_directories[CONSENTS]
    if not directory.is_dir():
        return lambda _body: False
    for position, entry in consent_ledger(directory).replay_places():
        record = replace(entry.consent, position=position)
        place = (entry.customer_id, record.purpose, record.channel)
        before = current.get(place)
        if before is None:
            current[place] = record
            continue
        current[place] = prevailing(before, record)
        loser = before if current[place] is record else record
        ended[_name(entry.customer_id, loser)] = entry.received_at_ms
    for (customer_id, _, _), record in current.items():  # said twice, it is in force all the same
        ended.pop(_name(customer_id, record), None)

    def wanted(body: bytes) -> bool:
        entry = _consent.decode(body)
        return ended.get(_name(entry.customer_id, entry.consent), limit_ms) < limit_ms

    return wanted


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
