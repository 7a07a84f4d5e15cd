"""The packed layout: what is written comes back, and nothing else ever does."""

from __future__ import annotations

import struct
import zlib

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from store_examples import consent, contact, same_vector, vector

from feature_store import layout
from feature_store.contacts import key_digest
from feature_store.errors import StoreCorrupt, StoreRefused
from feature_store.state import (
    ConsentRecord,
    ConsentState,
    ContactEvent,
    ContactHistory,
    FeatureVector,
    Identity,
    OutcomeType,
    Signal,
)

CUSTOMER = "Zoë-4711"
HISTORY = ContactHistory((contact(1), contact(2)), (key_digest("a"), key_digest("b")))
SIGNAL = Signal("payment_trouble", True, 1, 2)
PHONE = Identity("phone", "+41790000000")
STORED = {
    "features": (layout.encode_features(CUSTOMER, vector()), layout.decode_features),
    "consents": (layout.encode_consents(CUSTOMER, [consent()]), layout.decode_consents),
    "contacts": (layout.encode_contacts(CUSTOMER, HISTORY), layout.decode_contacts),
    "signals": (layout.encode_signals(CUSTOMER, [SIGNAL]), layout.decode_signals),
    "stream": (layout.encode_stream(CUSTOMER, b"\x00 seen"), layout.decode_stream),
    "identities": (layout.encode_identities(CUSTOMER, [PHONE]), layout.decode_identities),
}
KINDS = pytest.mark.parametrize("kind", list(STORED))
OF_STATE = ("features", "consents", "contacts", "signals")

texts = st.text(st.characters(codec="utf-8"), max_size=20)
ids = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60)
instants = st.integers(-(1 << 63), (1 << 63) - 1)
vectors = st.builds(
    FeatureVector,
    st.binary(min_size=32, max_size=32).map(lambda digest: "sha256:" + digest.hex()),
    st.lists(instants, max_size=12).map(tuple),
    hnp.arrays(np.float32, st.integers(0, 60), elements=st.floats(width=32)),
)
consents = st.builds(
    ConsentRecord,
    texts,
    texts,
    st.sampled_from(ConsentState),
    instants,
    st.none() | instants,
    texts,
    texts,
    texts,
    texts,
)
events = st.builds(
    ContactEvent,
    instants,
    texts,
    texts,
    texts,
    texts,
    st.sampled_from(OutcomeType),
    st.none() | instants,
)
signals = st.builds(Signal, texts, st.booleans(), instants, instants)


@given(customer_id=ids, stored=vectors)
def test_features_come_back_bit_for_bit(customer_id: str, stored: FeatureVector) -> None:
    """Any float32 values, times and digest survive, under any id."""
    data = layout.encode_features(customer_id, stored)

    read = layout.decode_features(customer_id, data)

    assert same_vector(read, stored)
    assert read.values.tobytes() == stored.values.tobytes()


@given(ids, st.lists(consents, max_size=5).map(tuple), st.lists(signals, max_size=5).map(tuple))
def test_consents_and_signals_come_back(
    customer_id: str, will: tuple[ConsentRecord, ...], facts: tuple[Signal, ...]
) -> None:
    """Every field of every consent and signal survives."""
    read = (
        layout.decode_consents(customer_id, layout.encode_consents(customer_id, will)),
        layout.decode_signals(customer_id, layout.encode_signals(customer_id, facts)),
    )

    assert read == (will, facts)


@given(ids, st.lists(st.tuples(events, texts), max_size=8))
def test_contact_history_comes_back_with_its_keys(
    customer_id: str, rows: list[tuple[ContactEvent, str]]
) -> None:
    """Events keep their order and the digests of the keys they were counted under."""
    history = ContactHistory(tuple(e for e, _ in rows), tuple(key_digest(k) for _, k in rows))

    read = layout.decode_contacts(customer_id, layout.encode_contacts(customer_id, history))

    assert read == history


def test_whole_state_comes_back() -> None:
    """The values of one snapshot make the state a decision reads."""
    state = layout.decode_state(CUSTOMER, *(STORED[kind][0] for kind in OF_STATE), None)

    assert state.customer_id == CUSTOMER
    assert same_vector(state.features, vector())
    assert (state.consents, state.contacts, state.signals) == ((consent(),), HISTORY.events, (SIGNAL,))
    assert state.contacts_token == STORED["contacts"][0]


def test_whole_record_comes_back() -> None:
    """The values of one snapshot make the record an update looks at."""
    stored = [STORED[kind][0] for kind in OF_STATE]

    record = layout.decode_record(CUSTOMER, *stored, None, STORED["stream"][0])

    assert same_vector(record.features, vector())
    assert (record.consents, record.contacts, record.signals) == ((consent(),), HISTORY, (SIGNAL,))
    assert record.stream == b"\x00 seen"


@given(ids, st.binary(max_size=200), st.lists(st.builds(Identity, texts, texts), max_size=5).map(tuple))
def test_stream_and_identities_come_back(
    customer_id: str, stream: bytes, carried: tuple[Identity, ...]
) -> None:
    """What ingestion remembers survives byte for byte, and every identity in its place."""
    read = (
        layout.decode_stream(customer_id, layout.encode_stream(customer_id, stream)),
        layout.decode_identities(customer_id, layout.encode_identities(customer_id, carried)),
    )

    assert read == (stream, carried)


def test_contacts_kept_before_reservations_were_still_read() -> None:
    """An event without an end, as earlier versions wrote it, reads as one without an end."""
    data = layout.encode_contacts(CUSTOMER, HISTORY)
    payload = data[6 + len(layout.owner_tag(CUSTOMER)) :]
    events = msgspec.msgpack.decode(payload[4 + 16 * 2 :])
    for event in events:
        event.pop("until_ms", None)
    body = layout.owner_tag(CUSTOMER) + payload[: 4 + 16 * 2] + msgspec.msgpack.encode(events)
    older = data[:2] + zlib.crc32(body).to_bytes(4, "little") + body

    read = layout.decode_contacts(CUSTOMER, older)

    assert read == HISTORY


@KINDS
def test_truncation_at_every_byte_is_corrupt(kind: str) -> None:
    """A value that lost any number of bytes at its end is never read as data."""
    data, decode = STORED[kind]

    for length in range(len(data)):
        with pytest.raises(StoreCorrupt, match=f"stored {kind} of customer"):
            decode(CUSTOMER, data[:length])


@KINDS
def test_a_flipped_bit_in_any_byte_is_corrupt(kind: str) -> None:
    """Damage anywhere, header and numbers alike, is noticed."""
    data, decode = STORED[kind]

    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 0x10
        with pytest.raises(StoreCorrupt):
            decode(CUSTOMER, bytes(damaged))


@KINDS
def test_appended_bytes_are_corrupt(kind: str) -> None:
    """A value with something after its end is not what was written."""
    data, decode = STORED[kind]

    with pytest.raises(StoreCorrupt, match="damaged"):
        decode(CUSTOMER, data + b"\0")


@KINDS
@pytest.mark.parametrize("other", ["Zoë-471", "Zoë-47111", "Zoe-4711", "x"])
def test_value_of_another_customer_is_corrupt(kind: str, other: str) -> None:
    """A whole value under the wrong customer is refused, and the text says which customer was asked for."""
    data, decode = STORED[kind]

    with pytest.raises(StoreCorrupt, match=f"customer '{other}': belongs to another customer"):
        decode(other, data)


@KINDS
def test_value_of_another_kind_is_corrupt(kind: str) -> None:
    """A value never passes for one of another kind."""
    data, _ = STORED[kind]

    for other, (_, decode) in STORED.items():
        if other != kind:
            with pytest.raises(StoreCorrupt, match="is of kind"):
                decode(CUSTOMER, data)


def test_later_format_is_told_apart_from_damage() -> None:
    """A value of a later Arbiter says so instead of being called damaged."""
    data, decode = STORED["features"]

    with pytest.raises(StoreCorrupt, match="format 2, this version reads 1"):
        decode(CUSTOMER, b"\x02" + data[1:])


@pytest.mark.parametrize("kind", [kind for kind in STORED if kind != "stream"])
@pytest.mark.parametrize("payload", [b"", b"\xff" * 40, b"\x91\x01", struct.pack("<I", 9) + b"\x90"])
def test_whole_envelope_around_a_wrong_payload_is_corrupt(kind: str, payload: bytes) -> None:
    """A payload that does not have the layout is refused even where the checksum holds."""
    data, decode = STORED[kind]
    body = layout.owner_tag(CUSTOMER) + payload
    forged = data[:2] + zlib.crc32(body).to_bytes(4, "little") + body

    with pytest.raises(StoreCorrupt, match=r"(layout|keys for)"):
        decode(CUSTOMER, forged)


def test_what_cannot_be_kept_is_refused() -> None:
    """A vector of two dimensions, a time beyond int64 and a number beyond 64 bits are refused in words."""
    square = FeatureVector(vector().schema_version, (), np.zeros((2, 2), dtype=np.float32))

    with pytest.raises(StoreRefused, match="shape"):
        layout.encode_features(CUSTOMER, square)
    with pytest.raises(StoreRefused, match="cannot be packed"):
        layout.encode_features(CUSTOMER, vector(times=(1 << 63,)))
    with pytest.raises(StoreRefused, match="cannot be packed"):
        layout.encode_consents(CUSTOMER, [consent(at_ms=1 << 64)])
