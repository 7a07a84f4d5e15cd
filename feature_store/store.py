"""The port to customer state. Every store passes tests/feature_store/conformance.py."""

from __future__ import annotations

from collections.abc import Iterable
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

    def put_customers(self, customers: Iterable[tuple[str, FeatureVector]]) -> int:
        """Creates customers or replaces their features; returns how many. One transaction."""
        ...

    def link(self, links: Iterable[tuple[Identity, str]]) -> None:
        """Adds identities to customers; an identity may be carried by several."""
        ...

    def put_consents(self, records: Iterable[tuple[str, ConsentRecord]]) -> None:
        """Projects consents: per purpose and channel the record with the latest time wins.

        Of two with the same time the more restrictive wins. Visible to every process on return.
        """
        ...

    def put_signals(self, customer_id: str, signals: Iterable[Signal]) -> None:
        """Replaces the customer's signals of the same names."""
        ...

    def record_contact(self, customer_id: str, event: ContactEvent, *, key: str) -> bool:
        """Counts a contact once for each `key`, atomically; False where `key` was counted before."""
        ...

    def claim(self, key: str, value: bytes, *, now_ms: int, ttl_ms: int) -> bytes | None:
        """Stores `value` under an idempotency key unless it holds an unexpired one, then returns that."""
        ...

    def release(self, key: str, value: bytes) -> None:
        """Removes a claim if it still holds `value`."""
        ...

    def close(self) -> None:
        """Releases files and connections; further calls are errors."""
        ...
