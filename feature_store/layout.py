"""How customer state lies in bytes: packed, checksummed, and naming its owner.

Every stored value is an envelope, so that no damaged or misplaced value is ever read as data:

    byte 0      format (1)
    byte 1      kind: F features, C consents, H contact history, S signals, E stream, I identities
    bytes 2-5   CRC-32 of everything that follows, little-endian
    bytes 6-7   length of the customer id in UTF-8, little-endian
    then        the customer id, then the payload

Payload of features: 32 bytes SHA-256 of the schema, uint32 number of views, an int64 time for each view,
then the float32 values to the end; all little-endian, values on a multiple of 4 so that NumPy reads them
in place. The whole digest is kept, not a prefix: a value then says by itself which schema it belongs to,
without a side table. Payload of contact history: uint32 number of events, 16 bytes of key digest each,
then the events. Consents, events, signals and identities are MessagePack. The payload of a stream is what
event ingestion made of it.

There is one value per kind, not one per customer: writers of different kinds never rewrite each other's
bytes, and a read pays under 1 us more (look-up and envelope) for each kind that is present.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from functools import lru_cache

import msgspec
import numpy as np
import numpy.typing as npt

from feature_store.contacts import KEY_BYTES
from feature_store.errors import StoreCorrupt, StoreRefused
from feature_store.state import (
    ConsentRecord,
    ContactEvent,
    ContactHistory,
    CustomerRecord,
    CustomerState,
    FeatureVector,
    Identity,
    Signal,
)

FORMAT = 1
_FEATURES, _CONSENTS, _CONTACTS, _SIGNALS, _STREAM, _IDENTITIES = (
    bytes((FORMAT, kind)) for kind in b"FCHSEI"
)
_NAMES = {
    _FEATURES: "features",
    _CONSENTS: "consents",
    _CONTACTS: "contacts",
    _SIGNALS: "signals",
    _STREAM: "stream",
    _IDENTITIES: "identities",
}
_CHECKED_FROM = 6
_DIGEST_BYTES = 32
_COUNT = struct.Struct("<I")
_FLOAT32 = np.dtype("<f4")
_DIGEST_PREFIX = "sha256:"

Rows = npt.NDArray[np.float32]

_encoder = msgspec.msgpack.Encoder()
_consents_decoder = msgspec.msgpack.Decoder(tuple[ConsentRecord, ...])
_events_decoder = msgspec.msgpack.Decoder(tuple[ContactEvent, ...])
_signals_decoder = msgspec.msgpack.Decoder(tuple[Signal, ...])
_identities_decoder = msgspec.msgpack.Decoder(tuple[Identity, ...])


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
) -> CustomerState:
    """Everything a decision reads, from the stored values of one snapshot. Raises StoreCorrupt."""
    owner = owner_tag(customer_id)
    return CustomerState(
        customer_id,
        _read_features(_unseal(_FEATURES, owner, features)),
        () if consents is None else _read_consents(_unseal(_CONSENTS, owner, consents)),
        () if contacts is None else _read_events(_unseal(_CONTACTS, owner, contacts)),
        () if signals is None else _read_signals(_unseal(_SIGNALS, owner, signals)),
        contacts_token=contacts or b"",
    )


def decode_record(
    customer_id: str,
    features: bytes | None,
    consents: bytes | None,
    contacts: bytes | None,
    signals: bytes | None,
    stream: bytes | None,
) -> CustomerRecord:
    """Everything an update may look at, from the stored values of one snapshot. Raises StoreCorrupt."""
    owner = owner_tag(customer_id)
    return CustomerRecord(
        None if features is None else _read_features(_unseal(_FEATURES, owner, features)),
        () if consents is None else _read_consents(_unseal(_CONSENTS, owner, consents)),
        ContactHistory() if contacts is None else _read_history(_unseal(_CONTACTS, owner, contacts)),
        () if signals is None else _read_signals(_unseal(_SIGNALS, owner, signals)),
        b"" if stream is None else _unseal(_STREAM, owner, stream),
    )


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
