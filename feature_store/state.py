"""What is known of one customer at one instant: frozen values that stores return and writers pass.

All instants are integer milliseconds since the Unix epoch, UTC, and end in `_ms`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from feature_store.frozen import Frozen

ANY_CHANNEL = "any"
"""Channel of a consent that holds for every channel without a record of its own."""


class ConsentState(StrEnum):
    """The customer's recorded will. The last three are derived when reading, never recorded.

    UNREADABLE is not UNKNOWN: something may be on record, and nobody can see now what.
    """

    GRANTED = "granted"
    DENIED = "denied"
    WITHDRAWN = "withdrawn"
    OBJECTED = "objected"
    EXPIRED = "expired"
    UNKNOWN = "unknown"
    UNREADABLE = "unreadable"


class OutcomeType(StrEnum):
    """What happened after a decision was delivered."""

    RESERVED = "reserved"  # a decision returned the action; recorded by decisions, never by clients
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
    position: int = 0  # of its entry in the ledger; 0 where it is not known


class ContactEvent(Frozen, frozen=True):
    """One counted contact. Group and purpose are those of the action when it happened.

    A reservation (outcome RESERVED) counts until `until_ms`, exclusive; None for every other outcome.
    """

    at_ms: int
    action_id: str
    group: str
    channel: str
    purpose: str
    outcome: OutcomeType
    until_ms: int | None = None


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
    `schema_version` is the digest of the schema it was packed with. `unread` are places whose value another
    schema could not tell: missing, also where the feature declares a default. Stores keep none of it.
    """

    schema_version: str
    view_times_ms: tuple[int, ...]
    values: npt.NDArray[np.float32]
    unread: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class CustomerState:
    """Everything one decision reads of a customer, from one consistent read."""

    customer_id: str
    features: FeatureVector | None = None
    consents: tuple[ConsentRecord, ...] = ()
    contacts: tuple[ContactEvent, ...] = ()
    signals: tuple[Signal, ...] = field(default=())
    consents_readable: bool = True  # else nothing is known of them, and only what needs none may go on
    contacts_token: bytes = b""
    """The contact history as stored; `reserve` compares it. Opaque, and no part of a decision's record."""
    merged_features: tuple[FeatureVector, ...] = ()
    """Features of customers merged into this one, for views of which it has nothing itself."""


@dataclass(frozen=True, slots=True)
class ContactHistory:
    """Contacts in order of time, and for each the digest of the key it was counted under."""

    events: tuple[ContactEvent, ...] = ()
    keys: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Reservation:
    """A contact that a decision is about to cause: an event of outcome RESERVED, and its key."""

    event: ContactEvent
    key: str


@dataclass(frozen=True, slots=True, eq=False)
class MergedPart:
    """What a customer was when it was merged into another: all it has back when they are parted again.

    It lies with the customer who answers for both. `into` is whom it was merged into, who may have been
    merged further. Its contacts are still settled and added to; the rest stays as it was.
    """

    customer_id: str
    into: str
    at_ms: int
    features: FeatureVector | None = None
    contacts: ContactHistory = ContactHistory()
    signals: tuple[Signal, ...] = ()
    stream: bytes = b""


@dataclass(frozen=True, slots=True, eq=False)
class CustomerRecord:
    """Everything kept under a customer's id, whether the customer exists yet or not; read for an update.

    `stream` is what event ingestion remembers of the customer, opaque to stores; b"" where nothing.
    `parts` are the customers merged into this one: their contacts are among `contacts`, all else is apart;
    `own_contacts` are those without them.
    Of a customer who is `merged_into` another nothing else is told but the features loaded for it.
    """

    features: FeatureVector | None = None
    consents: tuple[ConsentRecord, ...] = ()
    contacts: ContactHistory = ContactHistory()
    signals: tuple[Signal, ...] = ()
    stream: bytes = b""
    parts: tuple[MergedPart, ...] = ()
    own_contacts: ContactHistory = ContactHistory()
    merged_into: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class CustomerChange:
    """What an update replaces; what is None stays.

    `due_at_ms` is when the customer is to be looked at again (`OnlineStore.due`); 0 takes the mark away.
    `consents` is for rebuilding the projection from the ledger only; what customers say goes through
    `put_consents`.

    `contacts` are those of all parts too; ones that are new came in under the merged id `under`, "" for the
    customer's own. Where `parts` are replaced, `contacts` are the customer's own alone. `merged_into` leaves
    nothing under the id but whom to ask instead, and the features loaded for it; "" takes that away.
    """

    features: FeatureVector | None = None
    consents: tuple[ConsentRecord, ...] | None = None
    contacts: ContactHistory | None = None
    signals: tuple[Signal, ...] | None = None
    stream: bytes | None = None
    due_at_ms: int | None = None
    parts: tuple[MergedPart, ...] | None = None
    merged_into: str | None = None
    under: str = ""


@dataclass(frozen=True, slots=True)
class Demand:
    """One unit asked of a budget that all customers share: at most `limit` within `window_ms`."""

    budget: str
    limit: int
    window_ms: int


Identities = Mapping[str, str]
"""Identity type to value, for one customer."""
