"""The customers of the benchmark's company, their consents and what they have been shown."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from engine.bench.whole_features import AREAS, BLOCK, values_of
from engine.bench.whole_shape import Company
from feature_store.contacts import key_digest
from feature_store.schema import load_schema
from feature_store.state import (
    ANY_CHANNEL,
    ConsentRecord,
    ConsentState,
    ContactEvent,
    ContactHistory,
    CustomerChange,
    CustomerRecord,
    FeatureVector,
    OutcomeType,
)
from feature_store.store import OnlineStore

SEED: Final = 7
_FIRST_ID: Final = 1
_DAY_MS: Final = 86_400_000


def customer_id(number: int) -> str:
    """The id of a customer, from 0 on."""
    return f"W{number + _FIRST_ID:07}"


def customers_of(company: Company, *, now_ms: int) -> Iterator[list[tuple[str, FeatureVector]]]:
    """All customers with their features, block by block."""
    digest = load_schema(company.folder / "schema.toml").digest
    times = (now_ms,) * len(AREAS)
    for start in range(0, company.size.customers, BLOCK):
        values = values_of(start // BLOCK, company.features, seed=SEED)
        wanted = min(BLOCK, company.size.customers - start)
        yield [
            (customer_id(start + place), FeatureVector(digest, times, values[place]))
            for place in range(wanted)
        ]


def consents_of(number: int, now_ms: int) -> list[ConsentRecord]:
    """What a customer said: yes to all, at some time."""
    at_ms = now_ms - (5 + number % 600) * _DAY_MS
    return [
        ConsentRecord(purpose, ANY_CHANNEL, ConsentState.GRANTED, at_ms, notice_version="2026-01")
        for purpose in ("marketing", "personalization", "profiling")
    ]


@dataclass(frozen=True, slots=True)
class Contact:
    """One contact of a customer's past, on the web."""

    days_ago: int
    offer: int
    outcome: OutcomeType


def contacts_of(number: int, candidates: int) -> list[Contact]:
    """A customer's past: four offers shown, one of them twice, and one declined."""
    first = number * 7
    shown = [Contact(2 + step, (first + 3 * step) % candidates, OutcomeType.SHOWN) for step in range(4)]
    again = Contact(9, first % candidates, OutcomeType.SHOWN)
    declined = Contact(20, (first + 1) % candidates, OutcomeType.DECLINED)
    return [declined, again, *reversed(shown)]


def _history(company: Company, number: int, now_ms: int) -> ContactHistory:
    events, keys = [], []
    for place, contact in enumerate(contacts_of(number, company.size.candidates)):
        offer = company.offers[contact.offer]
        at_ms = now_ms - contact.days_ago * _DAY_MS
        events.append(ContactEvent(at_ms, offer.id, offer.group, "web", offer.purpose, contact.outcome))
        keys.append(key_digest(f"past-{place}"))
    return ContactHistory(tuple(events), tuple(keys))


def fill(store: OnlineStore, company: Company, *, now_ms: int, met: Collection[int] | None = None) -> None:
    """Puts the customers into a store, and the consents and contacts of those `met`: of all by default."""
    schema = company.folder / "schema.toml"
    store.put_schema(load_schema(schema).digest, schema.read_text(encoding="utf-8"))
    for block in customers_of(company, now_ms=now_ms):
        store.put_customers(block)
    numbers = range(company.size.customers) if met is None else met
    store.put_consents((customer_id(n), record) for n in numbers for record in consents_of(n, now_ms))

    def contacted(name: str, _: CustomerRecord) -> CustomerChange:
        return CustomerChange(contacts=_history(company, int(name[1:]) - _FIRST_ID, now_ms))

    store.update([customer_id(number) for number in numbers], contacted)
