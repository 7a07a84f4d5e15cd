"""What is known of one customer at one instant: frozen values that stores return and writers pass.

All instants are integer milliseconds since the Unix epoch, UTC, and end in `_ms`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

ANY_CHANNEL = "any"
"""Channel of a consent that holds for every channel without a record of its own."""


class ConsentState(StrEnum):
    """The customer's recorded will. EXPIRED and UNKNOWN are derived when reading, never recorded."""

    GRANTED = "granted"
    DENIED = "denied"
    WITHDRAWN = "withdrawn"
    OBJECTED = "objected"
    EXPIRED = "expired"
    UNKNOWN = "unknown"


class OutcomeType(StrEnum):
    """What happened after a decision was delivered."""

    SHOWN = "shown"
    CLICKED = "clicked"
    ACCEPTED = "accepted"
    DECLINED = "declined"
    SNOOZED = "snoozed"


@dataclass(frozen=True, slots=True)
class ConsentRecord:
    """The latest will for one purpose on one channel (or `ANY_CHANNEL`); after ISO/IEC TS 27560."""

    purpose: str
    channel: str
    state: ConsentState
    recorded_at_ms: int
    valid_until_ms: int | None = None
    source: str = ""
    notice_version: str = ""
    actor: str = ""
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class ContactEvent:
    """One counted contact. Group and purpose are those of the action when it happened."""

    at_ms: int
    action_id: str
    group: str
    channel: str
    purpose: str
    outcome: OutcomeType


@dataclass(frozen=True, slots=True)
class Signal:
    """A fact derived from recent events; readable in rules as `signals.<name>`."""

    name: str
    value: bool
    since_ms: int
    valid_until_ms: int


@dataclass(frozen=True, slots=True)
class Identity:
    """A way to name a customer other than by id."""

    type: str
    value: str


@dataclass(frozen=True, slots=True, eq=False)
class FeatureVector:
    """Packed features: `values` is float32 of shape (features of the schema,), NaN where absent.

    `view_times_ms` holds the event time of each feature view, in the schema's view order.
    `schema_version` is the digest of the schema it was packed with.
    """

    schema_version: str
    view_times_ms: tuple[int, ...]
    values: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class CustomerState:
    """Everything one decision reads of a customer, from one consistent read."""

    customer_id: str
    features: FeatureVector | None = None
    consents: tuple[ConsentRecord, ...] = ()
    contacts: tuple[ContactEvent, ...] = ()
    signals: tuple[Signal, ...] = field(default=())


Identities = Mapping[str, str]
"""Identity type to value, for one customer."""
