"""What can go wrong in the feature store; the tree that callers map to statuses.

FeatureStoreError
├── SchemaError            a feature schema file, or a value offered to it, is wrong
├── LoadError              a file of customers is wrong; names every bad cell, nothing was loaded
└── StoreError             customer state could not be read or written
    ├── StoreUnavailable   not open, not readable, or busy beyond its limits: retry, or look at the host
    ├── StoreFull          no room left on disk or in the configured map: nothing was written
    ├── StoreCorrupt       a stored value is damaged or belongs to another customer: nothing was returned
    └── StoreRefused       the caller offered a value that can never be kept: do not retry

No text holds personal data beyond ids, and none is meant for clients.
"""

from __future__ import annotations


class FeatureStoreError(Exception):
    """Base of everything this package raises on purpose."""


class SchemaError(FeatureStoreError):
    """The feature schema file, or a value offered to it, is wrong; the text says where and why."""


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


class StoreRefused(StoreError):  # named for the state that callers see
    """A value offered can never be kept; trying again does not help."""
