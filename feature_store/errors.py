"""What can go wrong in the feature store; the tree that callers map to statuses.

FeatureStoreError
├── SchemaError            a feature schema file, or a value offered to it, is wrong
│   └── SchemaVersionTaken the store keeps another schema under the same version: nothing was written
├── LoadError              a file of customers is wrong; names every bad cell, nothing was loaded
└── StoreError             customer state could not be read or written
    ├── StoreUnavailable   not open, not readable, or busy beyond its limits: retry, or look at the host
    ├── StoreFull          no room left on disk or in the configured map: nothing was written
    ├── StoreCorrupt       a stored value is damaged or belongs to another customer: nothing was returned
    │   └── KeyMissing     what is stored is sealed, and its key is not configured: nothing is damaged
    ├── StoreRefused       the caller offered a value that can never be kept: do not retry
    └── CustomerMerged     the customer is part of another now, which the error names: ask for that one

No text holds personal data beyond ids, and none is meant for clients.
"""

from __future__ import annotations


class FeatureStoreError(Exception):
    """Base of everything this package raises on purpose."""


class SchemaError(FeatureStoreError):
    """The feature schema file, or a value offered to it, is wrong; the text says where and why."""


class SchemaVersionTaken(SchemaError):  # named for what callers meet
    """The store keeps another schema of the same version; the text says what differs and what to do."""


class LoadError(FeatureStoreError):
    """A file of customers is wrong; the text lists the cells, and nothing of the file was used."""


class StoreError(FeatureStoreError):
    """Customer state could not be read or written."""


class StoreUnavailable(StoreError):  # named for the state that callers see
    """The store cannot be reached now; a later try may succeed."""


class StoreFull(StoreError):  # named for the state that callers see
    """There is no room for a write; nothing of it was kept."""


class StoreCorrupt(StoreError):  # named for the state that callers see
    """Stored bytes are not what was written, or not of this customer."""


class KeyMissing(StoreCorrupt):  # named for the state that callers see
    """What is stored opens by a key that is not configured; `key_id` names it."""

    def __init__(self, what: str, key_id: str) -> None:
        super().__init__(
            f"sealed {what}: opens by identity key {key_id}, which is not configured; give it as "
            "ARBITER_IDENTITY_KEY_FILE, or add it to ARBITER_FORMER_IDENTITY_KEY_FILES"
        )
        self.key_id = key_id


class StoreRefused(StoreError):  # named for the state that callers see
    """A value offered can never be kept; trying again does not help."""


class CustomerMerged(StoreError):  # named for the state that callers see
    """The customer was merged into another. `MergingStore` follows; nobody behind it sees this."""

    def __init__(self, customer_id: str, into: str) -> None:
        super().__init__(f"customer {customer_id!r} is merged into {into!r}; ask for that one")
        self.customer_id = customer_id
        self.into = into
