"""Small values for the tests: what is not named does not matter to the test."""

from __future__ import annotations

import numpy as np

from feature_store.state import (
    ANY_CHANNEL,
    ConsentRecord,
    ConsentState,
    ContactEvent,
    FeatureVector,
    OutcomeType,
    Reservation,
)

SCHEMA_DIGEST = "sha256:" + "5a" * 32
DAY_MS = 86_400_000


def vector(
    *values: float, schema: str = SCHEMA_DIGEST, times: tuple[int, ...] = (1_000, 2_000)
) -> FeatureVector:
    return FeatureVector(schema, times, np.array(values or (1.0, float("nan")), dtype=np.float32))


def consent(
    state: ConsentState = ConsentState.GRANTED,
    *,
    at_ms: int = 1_000,
    purpose: str = "marketing",
    channel: str = ANY_CHANNEL,
    until_ms: int | None = None,
) -> ConsentRecord:
    return ConsentRecord(
        purpose, channel, state, at_ms, until_ms, source="web:preference-center", actor="customer"
    )


def contact(at_ms: int = 1_000, *, action: str = "security_addon") -> ContactEvent:
    return ContactEvent(at_ms, action, "cross_sell", "web", "marketing", OutcomeType.SHOWN)


def reservation(
    at_ms: int = 1_000, *, key: str = "r1", until_ms: int = 60_000, action: str = "security_addon"
) -> Reservation:
    event = ContactEvent(at_ms, action, "cross_sell", "web", "marketing", OutcomeType.RESERVED, until_ms)
    return Reservation(event, key)


def same_vector(left: FeatureVector | None, right: FeatureVector | None) -> bool:
    """Equality that takes NaN for NaN."""
    if left is None or right is None:
        return left is right
    return (
        left.schema_version == right.schema_version
        and left.view_times_ms == right.view_times_ms
        and left.values.dtype == right.values.dtype
        and bool(np.array_equal(left.values, right.values, equal_nan=True))
    )
