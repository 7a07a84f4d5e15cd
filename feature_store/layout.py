"""How customer state lies in bytes: packed, checksummed, and naming its owner.

Every stored value is an envelope, so that no damaged or misplaced value is ever read as data:

    byte 0      format (1)
    byte 1      kind: F features, C consents, H contact history, S signals, E stream, I identities,
                P parts merged in; M in the place of any but I: merged into another
    bytes 2-5   CRC-32 of everything that follows, little-endian
    bytes 6-7   length of the customer id in UTF-8, little-endian
    then        the customer id, then the payload

Payload of features: 32 bytes SHA-256 of the schema, uint32 number of views, an int64 time for each view,
then the float32 values to the end; all little-endian, values on a multiple of 4 so that NumPy reads them
in place. The whole digest is kept, not a prefix: a value then says by itself which schema it belongs to,
without a side table. Payload of contact history: uint32 number of events, 16 bytes of key digest each,
then the events. Consents, events, signals and identities are MessagePack. The payload of a stream is what
event ingestion made of it.

Who is merged into another has in the place of every value one of kind M: MessagePack of whom to ask, and
in the place of features those that are loaded for it. So whoever reads or replaces any value of the customer
learns of the merge from that value. Parts are MessagePack; what they hold of a customer are values again.

There is one value per kind, not one per customer: writers of different kinds never rewrite each other's
bytes, and a read pays under 1 us more (look-up and envelope) for each kind that is present.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from feature_store.contacts import KEY_BYTES
from feature_store.errors import CustomerMerged, StoreCorrupt, StoreRefused
from feature_store.merging import parted_contacts, united_contacts
from feature_store.state import (
    ConsentRecord,
    ContactEvent,
    ContactHistory,
    CustomerChange,
    CustomerRecord,
    CustomerState,
    FeatureVector,
    Identity,
    MergedPart,
    Signal,
)

FORMAT = 1
_FEATURES, _CONSENTS, _CONTACTS, _SIGNALS, _STREAM, _IDENTITIES, _PARTS, _MERGED = (
    bytes((FORMAT, kind)) for kind in b"FCHSEIPM"
)
_NAMES = {
    _FEATURES: "features",
    _CONSENTS: "consents",
    _CONTACTS: "contacts",
    _SIGNALS: "signals",
    _STREAM: "stream",
    _IDENTITIES: "identities",
    _PARTS: "merged parts",
    _MERGED: "merge",
}
_CHECKED_FROM = 6
_DIGEST_BYTES = 32
_COUNT = struct.Struct("<I")
_FLOAT32 = np.dtype("<f4")
_DIGEST_PREFIX = "sha256:"
_TOKEN_PARTS = b"parts:"
"""Begins no stored value."""

Rows = npt.NDArray[np.float32]
Value = TypeVar("Value", bound=Sequence[object])

_encoder = msgspec.msgpack.Encoder()
_consents_decoder = msgspec.msgpack.Decoder(tuple[ConsentRecord, ...])
_events_decoder = msgspec.msgpack.Decoder(tuple[ContactEvent, ...])
_signals_decoder = msgspec.msgpack.Decoder(tuple[Signal, ...])
_identities_decoder = msgspec.msgpack.Decoder(tuple[Identity, ...])
_PackedPart = tuple[str, str, int, bytes | None, bytes | None, bytes | None, bytes | None]
_parts_decoder = msgspec.msgpack.Decoder(tuple[_PackedPart, ...])
_merge_decoder = msgspec.msgpack.Decoder(tuple[str, bytes | None])


def encode_features(customer_id: str, vector: FeatureVector) -> bytes:
    """A customer's packed features. Raises StoreRefused where the vector cannot be kept."""
    times = vector.view_times_ms
    if vector.values.ndim != 1:
        raise StoreRefused(
            f"customer {customer_id!r}: feature values have shape {vector.values.shape}, not (n,)"
        )
    try:
        digest = bytes.fromhex(vector.schema_version.removeprefix(_DIGEST_PREFIX))
        head = _COUNT.pack(len(times)) + _times_struct(len(times)).pack(*times)
    except (ValueError, struct.error) as error:
        raise StoreRefused(f"customer {customer_id!r}: features cannot be packed: {error}") from error
    if len(digest) != _DIGEST_BYTES:
        raise StoreRefused(
            f"customer {customer_id!r}: schema_version {vector.schema_version!r} is not a digest of the form "
            "sha256:<64 hex digits>; use FeatureSchema.digest"
        )
    return _seal(_FEATURES, customer_id, digest + head + vector.values.astype(_FLOAT32, copy=False).tobytes())


def encode_feature_rows(
    customer_ids: Sequence[str], schema_version: str, times_ms: npt.NDArray[np.int64], values: Rows
) -> list[bytes]:
    """The packed features of many customers of one schema: `encode_features` of each row, at bulk speed.

    `times_ms` has shape (customers, views), `values` (customers, features).
    """
    views = times_ms.shape[1]
    head = bytes.fromhex(schema_version.removeprefix(_DIGEST_PREFIX)) + _COUNT.pack(views)
    tails = np.hstack([_bytes_of(times_ms, "<i8"), _bytes_of(values, "<f4")])
    joined, width, crc32 = tails.tobytes(), tails.shape[1], zlib.crc32
    packed = []
    for i, customer_id in enumerate(customer_ids):
        body = owner_tag(customer_id) + head + joined[i * width : (i + 1) * width]
        packed.append(_FEATURES + crc32(body).to_bytes(4, "little") + body)
    return packed


def decode_feature_rows(
    customer_ids: Sequence[str], stored: Sequence[bytes], *, views: int, features: int
) -> tuple[npt.NDArray[np.int64], Rows]:
    """Times and values behind packed features, all of one schema of this shape. Raises StoreCorrupt."""
    start, width = _DIGEST_BYTES + _COUNT.size, 8 * views + 4 * features
    tails = []
    for customer_id, data in zip(customer_ids, stored, strict=True):
        payload = _unseal(_FEATURES, owner_tag(customer_id), data)
        if len(payload) != start + width:
            raise StoreCorrupt(
                f"stored features of customer {customer_id!r} do not have their schema's shape"
            )
        tails.append(payload[start:])
    rows = np.frombuffer(b"".join(tails), dtype=np.uint8).reshape(len(tails), width)
    times = np.ascontiguousarray(rows[:, : 8 * views]).view("<i8")
    return times, np.ascontiguousarray(rows[:, 8 * views :]).view(_FLOAT32)


def features_schema(stored: bytes) -> str:
    """The digest of the schema that packed features are of, from a value not yet checked."""
    start = _CHECKED_FROM + 2 + int.from_bytes(stored[_CHECKED_FROM : _CHECKED_FROM + 2], "little")
    return _version_text(stored[start : start + _DIGEST_BYTES])


def encode_consents(customer_id: str, records: Sequence[ConsentRecord]) -> bytes:
    """A customer's consents."""
    return _seal(_CONSENTS, customer_id, _pack(customer_id, records))


def encode_contacts(customer_id: str, history: ContactHistory) -> bytes:
    """A customer's contact history with the keys it was counted under."""
    head = _COUNT.pack(len(history.keys)) + b"".join(history.keys)
    return _seal(_CONTACTS, customer_id, head + _pack(customer_id, history.events))


def encode_signals(customer_id: str, signals: Sequence[Signal]) -> bytes:
    """A customer's signals."""
    return _seal(_SIGNALS, customer_id, _pack(customer_id, signals))


def encode_stream(customer_id: str, stream: bytes) -> bytes:
    """What event ingestion remembers of a customer."""
    return _seal(_STREAM, customer_id, stream)


def encode_identities(customer_id: str, identities: Sequence[Identity]) -> bytes:
    """The identities a customer carries."""
    return _seal(_IDENTITIES, customer_id, _pack(customer_id, identities))


def decode_features(customer_id: str, data: bytes) -> FeatureVector:
    """The features in a stored value; `values` is a read-only view of it. Raises StoreCorrupt."""
    return _read_features(_unseal(_FEATURES, owner_tag(customer_id), data))


def decode_consents(customer_id: str, data: bytes) -> tuple[ConsentRecord, ...]:
    """The consents in a stored value. Raises StoreCorrupt."""
    return _read_consents(_unseal(_CONSENTS, owner_tag(customer_id), data))


def decode_contacts(customer_id: str, data: bytes) -> ContactHistory:
    """The contact history in a stored value, with its keys. Raises StoreCorrupt."""
    return _read_history(_unseal(_CONTACTS, owner_tag(customer_id), data))


def decode_signals(customer_id: str, data: bytes) -> tuple[Signal, ...]:
    """The signals in a stored value. Raises StoreCorrupt."""
    return _read_signals(_unseal(_SIGNALS, owner_tag(customer_id), data))


def decode_stream(customer_id: str, data: bytes) -> bytes:
    """What event ingestion remembers, from a stored value. Raises StoreCorrupt."""
    return _unseal(_STREAM, owner_tag(customer_id), data)


def decode_identities(customer_id: str, data: bytes) -> tuple[Identity, ...]:
    """The identities in a stored value. Raises StoreCorrupt."""
    payload = _unseal(_IDENTITIES, owner_tag(customer_id), data)
    try:
        return _identities_decoder.decode(payload)
    except msgspec.MsgspecError as error:
        raise StoreCorrupt(f"stored identities do not have the declared layout: {error}") from error


def decode_state(
    customer_id: str,
    features: bytes,
    consents: bytes | None,
    contacts: bytes | None,
    signals: bytes | None,
    parts: bytes | None,
) -> CustomerState:
    """Everything a decision reads, from the stored values of one snapshot.

    Raises StoreCorrupt, and CustomerMerged where another customer is to be asked.
    """
    owner = owner_tag(customer_id)
    state = CustomerState(
        customer_id,
        _read_features(_unseal(_FEATURES, owner, features)),
        () if consents is None else _read_consents(_unseal(_CONSENTS, owner, consents)),
        () if contacts is None else _read_events(_unseal(_CONTACTS, owner, contacts)),
        () if signals is None else _read_signals(_unseal(_SIGNALS, owner, signals)),
        contacts_token=contacts or b"",
    )
    return state if parts is None else _with_parts(state, contacts, parts)


def _with_parts(state: CustomerState, contacts: bytes | None, stored: bytes) -> CustomerState:
    """The state of a customer together with those merged into it."""
    parts = decode_parts(state.customer_id, stored)
    history = ContactHistory() if contacts is None else decode_contacts(state.customer_id, contacts)
    return replace(
        state,
        contacts=united_contacts(history, parts).events,
        contacts_token=contacts_token(contacts, stored),
        merged_features=tuple(part.features for part in parts if part.features is not None),
    )


def contacts_token(contacts: bytes | None, parts: bytes | None) -> bytes:
    """`CustomerState.contacts_token`: the contacts as stored, behind the parts where there are any."""
    head = b"" if parts is None else _TOKEN_PARTS + _COUNT.pack(len(parts)) + parts
    return head + (contacts or b"")


def read_contacts_token(token: bytes) -> tuple[bytes | None, bytes | None]:
    """The contacts and the parts behind a token."""
    if not token.startswith(_TOKEN_PARTS):
        return token or None, None
    start = len(_TOKEN_PARTS) + _COUNT.size
    (size,) = _COUNT.unpack_from(token, len(_TOKEN_PARTS))
    return token[start + size :] or None, token[start : start + size]


def decode_record(
    customer_id: str,
    features: bytes | None,
    consents: bytes | None,
    contacts: bytes | None,
    signals: bytes | None,
    parts: bytes | None,
    stream: bytes | None,
) -> CustomerRecord:
    """Everything an update may look at, from the stored values of one snapshot. Raises StoreCorrupt."""
    owner = owner_tag(customer_id)
    if features is not None and features.startswith(_MERGED):
        into, own = _read_merge(owner, features)
        loaded = None if own is None else decode_features(customer_id, own)
        return CustomerRecord(loaded, merged_into=into)
    merged = () if parts is None else decode_parts(customer_id, parts)
    history = ContactHistory() if contacts is None else _read_history(_unseal(_CONTACTS, owner, contacts))
    return CustomerRecord(
        None if features is None else _read_features(_unseal(_FEATURES, owner, features)),
        () if consents is None else _read_consents(_unseal(_CONSENTS, owner, consents)),
        united_contacts(history, merged),
        () if signals is None else _read_signals(_unseal(_SIGNALS, owner, signals)),
        b"" if stream is None else _unseal(_STREAM, owner, stream),
        merged,
        history,
    )


def encode_change(
    customer_id: str, change: CustomerChange, stored: Sequence[bytes | None]
) -> list[bytes | None]:
    """The values of `decode_record` after a change of them. Raises StoreRefused and StoreCorrupt."""
    if change.merged_into:
        return _merged_values(customer_id, change.merged_into, _own_features(customer_id, stored[0]))
    values = list(stored)
    if change.merged_into is not None:
        values = [_own_features(customer_id, stored[0]), *[None] * (len(stored) - 1)]
    features, consents, contacts, signals, parts, stream = values
    contacts, parts = _changed_histories(customer_id, change, contacts, parts)
    return [
        features if change.features is None else encode_features(customer_id, change.features),
        _changed_value(customer_id, encode_consents, change.consents, consents),
        contacts,
        _changed_value(customer_id, encode_signals, change.signals, signals),
        parts,
        _changed_value(customer_id, encode_stream, change.stream, stream),
    ]


def _changed_value(
    customer_id: str, encode: Callable[[str, Value], bytes], new: Value | None, stored: bytes | None
) -> bytes | None:
    """The stored value where there is no new one; nothing where the new one is empty."""
    if new is None:
        return stored
    return encode(customer_id, new) if new else None


def _changed_histories(
    customer_id: str, change: CustomerChange, contacts: bytes | None, parts: bytes | None
) -> tuple[bytes | None, bytes | None]:
    if change.parts is None and change.contacts is not None:
        return changed_contacts(customer_id, change.contacts, contacts, parts, under=change.under)
    if change.contacts is not None:
        contacts = _contacts_or_none(customer_id, change.contacts)
    return contacts, parts if change.parts is None else encode_parts(customer_id, change.parts)


def decode_all_contacts(customer_id: str, contacts: bytes | None, parts: bytes | None) -> ContactHistory:
    """The contacts of a customer and of all merged into it."""
    history = ContactHistory() if contacts is None else decode_contacts(customer_id, contacts)
    return history if parts is None else united_contacts(history, decode_parts(customer_id, parts))


def changed_contacts(
    customer_id: str, changed: ContactHistory, contacts: bytes | None, parts: bytes | None, *, under: str = ""
) -> tuple[bytes | None, bytes | None]:
    """The values of contacts and parts once `decode_all_contacts` of them has become another history."""
    if parts is None:
        return _contacts_or_none(customer_id, changed), None
    own, merged = parted_contacts(
        changed,
        ContactHistory() if contacts is None else decode_contacts(customer_id, contacts),
        decode_parts(customer_id, parts),
        under=under,
    )
    return _contacts_or_none(customer_id, own), encode_parts(customer_id, merged)


def _contacts_or_none(customer_id: str, history: ContactHistory) -> bytes | None:
    return encode_contacts(customer_id, history) if history.events else None


def encode_parts(customer_id: str, parts: Sequence[MergedPart]) -> bytes | None:
    """The customers merged into one; None for none."""
    packed = [_packed_part(part) for part in parts]
    return _seal(_PARTS, customer_id, _pack(customer_id, packed)) if packed else None


def _packed_part(part: MergedPart) -> _PackedPart:
    name = part.customer_id
    return (
        name,
        part.into,
        part.at_ms,
        None if part.features is None else encode_features(name, part.features),
        _contacts_or_none(name, part.contacts),
        encode_signals(name, part.signals) if part.signals else None,
        encode_stream(name, part.stream) if part.stream else None,
    )


def decode_parts(customer_id: str, data: bytes) -> tuple[MergedPart, ...]:
    """The customers merged into one. Raises StoreCorrupt."""
    payload = _unseal(_PARTS, owner_tag(customer_id), data)
    try:
        packed = _parts_decoder.decode(payload)
    except msgspec.MsgspecError as error:
        raise StoreCorrupt(f"stored merged parts do not have the declared layout: {error}") from error
    return tuple(
        MergedPart(
            name,
            into,
            at_ms,
            None if features is None else decode_features(name, features),
            ContactHistory() if contacts is None else decode_contacts(name, contacts),
            () if signals is None else decode_signals(name, signals),
            b"" if stream is None else decode_stream(name, stream),
        )
        for name, into, at_ms, features, contacts, signals, stream in packed
    )


def latest_merge_ms(customer_id: str, parts: bytes | None) -> int | None:
    """When anybody was last merged into a customer; None where nobody is."""
    if parts is None:
        return None
    return max(part.at_ms for part in decode_parts(customer_id, parts))


def _merged_values(customer_id: str, into: str, own: bytes | None) -> list[bytes | None]:
    """What lies in the places of all values of a customer that `into` is to be asked for."""
    plain = _seal(_MERGED, customer_id, _pack(customer_id, (into, None)))
    return [_seal(_MERGED, customer_id, _pack(customer_id, (into, own))), *[plain] * 3, None, plain]


def _read_merge(owner: bytes, data: bytes) -> tuple[str, bytes | None]:
    try:
        return _merge_decoder.decode(_unseal(_MERGED, owner, data))
    except msgspec.MsgspecError as error:
        raise StoreCorrupt(f"a stored merge does not have the declared layout: {error}") from error


def _own_features(customer_id: str, stored: bytes | None) -> bytes | None:
    """The packed features of a customer, merged away or not."""
    if stored is None or not stored.startswith(_MERGED):
        return stored
    return _read_merge(owner_tag(customer_id), stored)[1]


def loaded_features(customer_ids: Sequence[str], stored: Sequence[bytes | None]) -> list[bytes | None]:
    """The packed features behind values in their place, of who is merged into another too."""
    return [_own_features(name, value) for name, value in zip(customer_ids, stored, strict=True)]


def reloaded_features(
    customer_ids: Sequence[str], stored: Sequence[bytes | None], packed: Sequence[bytes]
) -> list[bytes]:
    """What takes the place of stored values once features are packed anew: who is merged stays merged."""
    return [
        new if old is None or not old.startswith(_MERGED) else _reloaded(name, old, new)
        for name, old, new in zip(customer_ids, stored, packed, strict=True)
    ]


def _reloaded(customer_id: str, stored: bytes, packed: bytes) -> bytes:
    into, _ = _read_merge(owner_tag(customer_id), stored)
    return _seal(_MERGED, customer_id, _pack(customer_id, (into, packed)))


def owner_tag(customer_id: str) -> bytes:
    """The customer id as every value holds it: length, then UTF-8."""
    encoded = customer_id.encode()
    return len(encoded).to_bytes(2, "little") + encoded


def _seal(kind: bytes, customer_id: str, payload: bytes) -> bytes:
    body = owner_tag(customer_id) + payload
    return kind + zlib.crc32(body).to_bytes(4, "little") + body


def _unseal(kind: bytes, owner: bytes, data: bytes) -> bytes:
    """The payload of a value that is whole, of this kind and of this customer."""
    body = data[_CHECKED_FROM:]
    if (
        data.startswith(kind)
        and body.startswith(owner)
        and zlib.crc32(body) == int.from_bytes(data[2:_CHECKED_FROM], "little")
    ):
        return body[len(owner) :]
    if data.startswith(_MERGED) and kind not in (_MERGED, _IDENTITIES, _PARTS):
        raise CustomerMerged(_id_of(owner), _read_merge(owner, data)[0])
    raise StoreCorrupt(f"stored {_NAMES[kind]} of customer {_id_of(owner)!r}: {_fault(kind, owner, data)}")


def _fault(kind: bytes, owner: bytes, data: bytes) -> str:
    """Why a value was not unsealed, and what to do."""
    body = data[_CHECKED_FROM:]
    whole = len(body) >= 2 and zlib.crc32(body) == int.from_bytes(data[2:_CHECKED_FROM], "little")
    if not whole:
        return f"damaged ({len(data)} bytes, checksum differs); write it again from its source"
    if not body.startswith(owner):
        return "belongs to another customer; stop the writers and look at how the store was filled"
    if data[:1] != kind[:1]:
        return f"format {data[0]}, this version reads {FORMAT}; use the Arbiter version that wrote it"
    return f"is of kind {data[1:2]!r}; the store was filled by something else"


def _bytes_of(array: npt.NDArray[np.int64] | Rows, dtype: str) -> npt.NDArray[np.uint8]:
    """The little-endian bytes of each row."""
    return np.ascontiguousarray(array, dtype=dtype).view(np.uint8)


def _id_of(owner: bytes) -> str:
    return owner[2:].decode()


def _pack(customer_id: str, values: Sequence[object]) -> bytes:
    try:
        return _encoder.encode(values)
    except (OverflowError, UnicodeEncodeError, msgspec.MsgspecError) as error:
        raise StoreRefused(f"customer {customer_id!r}: a value cannot be packed: {error}") from error


def _read_features(payload: bytes) -> FeatureVector:
    try:
        (views,) = _COUNT.unpack_from(payload, _DIGEST_BYTES)
        start = _DIGEST_BYTES + _COUNT.size
        times = _times_struct(views).unpack_from(payload, start)
        values = np.frombuffer(payload, _FLOAT32, -1, start + 8 * views)
    except (struct.error, ValueError) as error:
        raise StoreCorrupt(f"stored features do not have the declared layout: {error}") from error
    return FeatureVector(_version_text(payload[:_DIGEST_BYTES]), times, values)


def _read_consents(payload: bytes) -> tuple[ConsentRecord, ...]:
    try:
        return _consents_decoder.decode(payload)
    except msgspec.MsgspecError as error:
        raise StoreCorrupt(f"stored consents do not have the declared layout: {error}") from error


def _read_events(payload: bytes) -> tuple[ContactEvent, ...]:
    try:
        (count,) = _COUNT.unpack_from(payload)
        events = _events_decoder.decode(payload[_COUNT.size + KEY_BYTES * count :])
    except (struct.error, msgspec.MsgspecError) as error:
        raise StoreCorrupt(f"stored contacts do not have the declared layout: {error}") from error
    if len(events) != count:
        raise StoreCorrupt(f"stored contacts: {count} keys for {len(events)} events")
    return events


def _read_history(payload: bytes) -> ContactHistory:
    events = _read_events(payload)
    start, size = _COUNT.size, KEY_BYTES
    keys = tuple(payload[start + i * size : start + (i + 1) * size] for i in range(len(events)))
    return ContactHistory(events, keys)


def _read_signals(payload: bytes) -> tuple[Signal, ...]:
    try:
        return _signals_decoder.decode(payload)
    except msgspec.MsgspecError as error:
        raise StoreCorrupt(f"stored signals do not have the declared layout: {error}") from error


@lru_cache(maxsize=64)
def _times_struct(views: int) -> struct.Struct:
    return struct.Struct(f"<{views}q")


@lru_cache(maxsize=64)
def _version_text(digest: bytes) -> str:
    return _DIGEST_PREFIX + digest.hex()
