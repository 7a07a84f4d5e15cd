"""Looks through what a store holds: what cannot be read, and which schemas are in use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from feature_store.errors import StoreCorrupt
from feature_store.state import CustomerRecord
from feature_store.store import OnlineStore

MAX_NAMED = 20
"""Damaged customers that are named; the rest is counted."""

_PAGE = 500
_MOST_SAMPLED = 1_000


@dataclass(slots=True)
class Findings:
    """What was found: how many customers were looked at, which cannot be read and why, schemas in use."""

    customers: int = 0
    unreadable: int = 0
    named: dict[str, str] = field(default_factory=dict)
    schemas: Counter[str] = field(default_factory=Counter)


def sampled(store: OnlineStore) -> Iterator[str]:
    """Some customers, evenly over all."""
    step = max(1, store.stats().customers // _MOST_SAMPLED)
    return (customer_id for i, customer_id in enumerate(store.customers()) if i % step == 0)


def look_through(
    store: OnlineStore, customer_ids: Iterable[str], *, seen: Callable[[int], None] = lambda _count: None
) -> Findings:
    """Reads all that is kept of customers. `seen` gets how many were looked at so far."""
    findings = Findings()
    for page in pages(customer_ids):
        try:
            _look_at(store, page, findings)
        except StoreCorrupt:
            for customer_id in page:
                _look_at_one(store, customer_id, findings)
        seen(findings.customers)
    return findings


def _look_at(store: OnlineStore, customer_ids: Sequence[str], findings: Findings) -> None:
    schemas: dict[str, str] = {}

    def note(customer_id: str, record: CustomerRecord) -> None:
        if record.features is not None:
            schemas[customer_id] = record.features.schema_version

    store.update(customer_ids, note)
    for customer_id in customer_ids:
        store.identities(customer_id)
    findings.customers += len(customer_ids)
    findings.schemas.update(schemas.values())


def _look_at_one(store: OnlineStore, customer_id: str, findings: Findings) -> None:
    try:
        _look_at(store, [customer_id], findings)
    except StoreCorrupt as error:
        findings.customers += 1
        findings.unreadable += 1
        if len(findings.named) < MAX_NAMED:
            findings.named[customer_id] = str(error)


def pages(customer_ids: Iterable[str]) -> Iterator[list[str]]:
    """As many customers at a time as are read together."""
    waiting = iter(customer_ids)
    while page := list(islice(waiting, _PAGE)):
        yield page
