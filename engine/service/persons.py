"""All ids of one person: erased together, as what is held of one may be found through the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from engine.service.identities import identity_log
from engine.service.merges import merges_in, persons, standing
from engine.service.privacy import Held, Holdings, forget, held
from feature_store.errors import StoreCorrupt
from feature_store.merged import MergingStore
from feature_store.state import CustomerRecord

_IDENTITIES = "identities"


@dataclass(frozen=True, slots=True)
class Person:
    """A customer, those merged into it, and whom it is merged into itself; "" for nobody."""

    customer_id: str
    merged: tuple[str, ...] = ()
    into: str = ""


def person(holdings: Holdings, customer_id: str) -> Person:
    """Who is one with a customer, by store and log of identities. Raises StoreError and LogError."""
    record = _look(holdings, customer_id)
    merges = standing(merges_in(identity_log(holdings.log_directories[_IDENTITIES]).replay()))
    into = record.merged_into or next((m.into for m in merges if m.customer_id == customer_id), "")
    others = persons(merges, [customer_id]) | {part.customer_id for part in record.parts}
    return Person(customer_id, tuple(sorted(others - {customer_id})), into)


def held_of_person(holdings: Holdings, person: Person) -> Mapping[str, Held]:
    """How much there is under each id, those merged in first. Raises StoreError and LogError."""
    return {name: held(holdings, name) for name in (*person.merged, person.customer_id)}


def forget_person(
    holdings: Holdings, person: Person, *, actor: str, reason: str, now_ms: int
) -> Mapping[str, Held]:
    """Erases a customer and all merged into it; what there was under each id. Again is harmless.

    The customer itself goes last, as it knows the others. Raises what `forget` raises.
    """
    return {
        name: forget(holdings, name, actor=actor, reason=reason, now_ms=now_ms)
        for name in (*person.merged, person.customer_id)
    }


def _look(holdings: Holdings, customer_id: str) -> CustomerRecord:
    """What lies under the id itself; nothing where that is damaged, and only the log tells."""
    store, seen = holdings.store, [CustomerRecord()]
    own = store.own if isinstance(store, MergingStore) else store

    def look(_: str, record: CustomerRecord) -> None:
        seen[0] = record

    try:
        own.update([customer_id], look)
    except StoreCorrupt:
        return CustomerRecord()
    return seen[0]
