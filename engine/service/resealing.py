"""Puts what is sealed under the present key, and what is not sealed yet: wherever something may be rewritten.

A log is proof and is not rewritten; what of it needs a former key, or none, is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from engine.decisionlog.ledger import ConsentLedger
from engine.events.deadletters import DeadLetterBox
from engine.service.consent_texts import resealed_texts
from engine.service.identities import IdentityLog
from feature_store.identities import is_sealed
from feature_store.inspecting import pages
from feature_store.sealing import TextCipher, key_id_of
from feature_store.state import CustomerChange, CustomerRecord
from feature_store.store import OnlineStore

CLEAR = ""
"""Stands for no key where texts are counted by key."""
UNNAMED = "unnamed"
"""Stands for the key of values that earlier engines sealed, which do not say which it was."""


class SealingStore(OnlineStore, Protocol):
    """A store that seals identities."""

    def reseal(self, customer_ids: Iterator[str]) -> int:
        """Writes what customers carry in today's form and under the present key; how many were not so."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealable:
    """Every place in which something is sealed. `texts` is the cipher of free texts of consents."""

    store: SealingStore
    ledger: ConsentLedger
    identity_log: IdentityLog
    letters: Sequence[DeadLetterBox]
    texts: TextCipher


@dataclass(frozen=True, slots=True, kw_only=True)
class Resealed:
    """Whose identities and consents in the store, and which dead letters, were written anew.

    `unread` dead letters are under keys that are not here. What stays in the logs is counted by key id.
    """

    identities: int
    consents: int
    letters: int
    unread: int
    in_consent_log: Mapping[str, int]
    in_identity_log: Mapping[str, int]


def reseal(places: Sealable, *, now_ms: int, told: Callable[[int], None] = lambda _n: None) -> Resealed:
    """Seals what there is under the present key. Others may go on, and again is harmless.

    `told` gets the number of customers looked at so far. Raises StoreError, and LogError.
    """
    known: set[str] = set()
    in_consent_log, in_identity_log = _in_consent_log(places, known), _in_identity_log(places, known)
    identities = consents = looked_at = 0
    for page in pages(_everybody(places.store, known)):
        identities += places.store.reseal(iter(page))
        consents += _reseal_consents(places, page)
        looked_at += len(page)
        told(looked_at)
    return Resealed(
        identities=identities,
        consents=consents,
        letters=sum(box.reseal(now_ms=now_ms) for box in places.letters),
        unread=sum(bool(letter.unread) for box in places.letters for letter in box.letters()),
        in_consent_log=in_consent_log,
        in_identity_log=in_identity_log,
    )


def _everybody(store: OnlineStore, known: set[str]) -> Iterator[str]:
    """Whoever is in a log, and whoever is only in the store."""
    yield from sorted(known)
    yield from (customer_id for customer_id in store.customers() if customer_id not in known)


def _reseal_consents(places: Sealable, customer_ids: Sequence[str]) -> int:
    changed: dict[str, bool] = {}

    def change(customer_id: str, record: CustomerRecord) -> CustomerChange | None:
        anew = tuple(resealed_texts(consent, places.texts) for consent in record.consents)
        changed[customer_id] = anew != record.consents
        return CustomerChange(consents=anew) if changed[customer_id] else None

    places.store.update(customer_ids, change)
    return sum(changed.values())


def _in_consent_log(places: Sealable, known: set[str]) -> dict[str, int]:
    """Texts of the ledger by the key they need, without those under the present one."""
    found: Counter[str] = Counter()
    for entry in places.ledger.replay():
        known.add(entry.customer_id)
        texts = (entry.consent.actor, entry.consent.evidence)
        found.update(key_id_of(text) or CLEAR for text in texts if text)
    return _but_present(found, places.texts)


def _in_identity_log(places: Sealable, known: set[str]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for entry in places.identity_log.replay():
        known.add(entry.customer_id)
        if entry.identity is None:
            continue
        found[key_id_of(entry.identity.value) or (UNNAMED if is_sealed(entry.identity) else CLEAR)] += 1
    return _but_present(found, places.texts)


def _but_present(found: Mapping[str, int], texts: TextCipher) -> dict[str, int]:
    return {key: count for key, count in found.items() if key != texts.current}
