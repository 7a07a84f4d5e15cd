"""The port to customer state. Every store passes tests/feature_store/conformance.py.

Reads and writes raise the errors of feature_store/errors.py. A customer exists from `put_customers` on;
identities, consents, contacts and signals that arrive earlier are kept and show once it exists.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from feature_store.state import (
    ConsentRecord,
    ContactEvent,
    CustomerState,
    FeatureVector,
    Identity,
    Signal,
)


class OnlineStore(Protocol):
    """State of customers, read on every decision. Safe for many threads and processes."""

    def read(self, customer_id: str) -> CustomerState | None:
        """One consistent read of everything a decision needs; None where the customer is unknown."""
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

    def link(self, links: Iterable[tuple[Identity, str]]) -> None:
        """Adds identities to customers; an identity may be carried by several."""
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

    def record_contact(self, customer_id: str, event: ContactEvent, *, key: str) -> bool:
        """Counts a contact once for each customer and `key`, atomically; False where it was counted before.

        Contacts older than the store's history are dropped.
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

    def close(self) -> None:
        """Releases files and connections; further calls are errors."""
        ...
