"""The port to customer state. Every store passes tests/feature_store/conformance.py.

Reads and writes raise the errors of feature_store/errors.py. A customer exists from `put_customers` on;
identities, consents, contacts and signals that arrive earlier are kept and show once it exists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from feature_store.oversight import StoreCondition, StoreStats
from feature_store.state import (
    ConsentRecord,
    ContactEvent,
    CustomerChange,
    CustomerRecord,
    CustomerState,
    Demand,
    FeatureVector,
    Identity,
    Reservation,
    Signal,
)

Update = Callable[[str, CustomerRecord], CustomerChange | None]
"""From a customer's id and record to what is to be replaced, or None for nothing."""

FeatureMerge = Callable[[Sequence[int], Sequence[bytes | None]], Sequence[bytes]]
"""From places among the customers and their packed features now (None where none) to what replaces them."""


class OnlineStore(Protocol):
    """State of customers, read on every decision. Safe for many threads and processes."""

    def read(self, customer_id: str) -> CustomerState | None:
        """One consistent read of everything a decision needs; None where the customer is unknown."""
        ...

    def read_many(self, customer_ids: Sequence[str]) -> list[CustomerState | None]:
        """`read` of many customers, in their order, in as few round trips as the store can."""
        ...

    def update(self, customer_ids: Sequence[str], change: Update) -> None:
        """Replaces what `change` returns for each customer, known or not yet known, atomically for each.

        `change` gets the customer's id and record and returns what to replace, or None for nothing. It must
        be pure and must not use the store: it is called again where another writer came between, and for all
        customers before any is written. What customers say is not kept so, but by `put_consents`.
        """
        ...

    def due(self, *, now_ms: int, limit: int) -> list[str]:
        """Customers whose `due_at_ms` is not after now, the longest due first.

        A mark stays until an update sets another or takes it away, and may outlive a change that was not
        kept: looking at a customer for nothing must be harmless.
        """
        ...

    def reserve(self, state: CustomerState, reservations: Sequence[Reservation]) -> bool:
        """Adds reservations, if the customer's contacts are still those of `state`; whether they were.

        Where they are not, nothing is kept: read again and decide again. One round trip. Contacts older than
        the store's history are dropped.
        """
        ...

    def take(self, demands: Sequence[Demand], *, key: str, now_ms: int, until_ms: int) -> tuple[str, ...]:
        """Takes one unit from each budget, or from none; names of the budgets that had none left.

        The units are held under `key` until `until_ms`, exclusive, then free again unless `settle` made them
        spent. A spent unit counts until it is `window_ms` old; it never ends counting early. Taking again
        under the same key is one taking. The sum held and spent never exceeds a limit, whatever runs at once.
        """
        ...

    def settle(self, budgets: Sequence[str], *, key: str, now_ms: int, spent: bool) -> None:
        """Makes the units held under `key` spent, or gives them back. Harmless where there are none."""
        ...

    def left(self, demands: Sequence[Demand], *, now_ms: int) -> tuple[int, ...]:
        """Units left of each budget now; a hint, as others may take them meanwhile."""
        ...

    def resolve(self, identity: Identity) -> tuple[str, ...]:
        """Ids of the customers that carry the identity, sorted: none, one or several."""
        ...

    def customers(self) -> Iterator[str]:
        """Ids of all customers in order; customers added meanwhile may or may not be among them."""
        ...

    def put_customers(self, customers: Iterable[tuple[str, FeatureVector]]) -> int:
        """Creates customers or replaces their features; returns how many. One transaction."""
        ...

    def merge_features(self, customer_ids: Sequence[str], merge: FeatureMerge) -> None:
        """Replaces the packed features of many customers by what `merge` makes of those stored now, in bulk.

        `merge` gets places in `customer_ids` and the values of layout.py stored for them, and returns as many
        values, which are kept as they are. It must be pure and must not use the store: it is called for any
        part of the customers, and again where another writer came between. Atomic for each customer. On
        return all are kept. The ids differ from each other.
        """
        ...

    def link(self, links: Iterable[tuple[Identity, str]]) -> None:
        """Adds identities to customers; an identity may be carried by several."""
        ...

    def unlink(self, links: Iterable[tuple[Identity, str]]) -> None:
        """Takes identities away from customers; what was not carried is no error."""
        ...

    def identities(self, customer_id: str) -> tuple[Identity, ...]:
        """What the customer carries now, sorted."""
        ...

    def put_consents(self, records: Iterable[tuple[str, ConsentRecord]]) -> None:
        """Projects consents: per purpose and channel the record with the latest time wins.

        Of two with the same time the more restrictive wins; an objection yields to a later grant only.
        Visible to every process on return.
        """
        ...

    def put_signals(self, customer_id: str, signals: Iterable[Signal]) -> None:
        """Replaces the customer's signals of the same names."""
        ...

    def record_contact(
        self, customer_id: str, event: ContactEvent, *, key: str, settles: str | None = None
    ) -> bool:
        """Counts a contact once for each customer and `key`, atomically; False where it was counted before.

        A reservation under the key `settles` is replaced by the contact, also where it had ended. Contacts
        older than the store's history are dropped.
        """
        ...

    def claim(self, key: str, value: bytes, *, now_ms: int, ttl_ms: int) -> bytes | None:
        """Stores `value` under an idempotency key unless it holds an unexpired one, then returns that.

        A claim holds until `now_ms + ttl_ms`, exclusive; with `ttl_ms` 0 the call only looks.
        """
        ...

    def release(self, key: str, value: bytes) -> None:
        """Removes a claim if it still holds `value`."""
        ...

    def erase(self, customer_id: str) -> bool:
        """Removes everything kept of a customer, identities included; False where there was nothing."""
        ...

    def put_schema(self, digest: str, text: str) -> None:
        """Keeps the text of a feature schema under its digest, so that readers of another one can convert."""
        ...

    def schemas(self) -> Mapping[str, str]:
        """Texts of the schemas kept, by digest."""
        ...

    def stats(self) -> StoreStats:
        """What the store holds."""
        ...

    def condition(self) -> StoreCondition:
        """How the store stands, for an operator. Never slow: it counts nothing."""
        ...

    def close(self) -> None:
        """Releases files and connections; further calls are errors."""
        ...
