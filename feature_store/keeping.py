"""What a store keeps of what it is offered: the rules that are the same for every store. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from feature_store.consents import prevailing
from feature_store.errors import StoreRefused
from feature_store.state import ConsentRecord, ConsentState, Identity, Signal

MAX_ID_BYTES = 511
"""Longest customer id in UTF-8: the longest key LMDB takes."""

_RECORDED = frozenset(
    {ConsentState.GRANTED, ConsentState.DENIED, ConsentState.WITHDRAWN, ConsentState.OBJECTED}
)
_DIGEST_BYTES = 16


def customer_bytes(customer_id: str) -> bytes:
    """A customer id in UTF-8. Raises StoreRefused where nobody can be kept under it."""
    try:
        encoded = customer_id.encode()
    except UnicodeEncodeError as error:
        raise StoreRefused(f"customer id {customer_id!r} is not valid Unicode") from error
    if not 1 <= len(encoded) <= MAX_ID_BYTES:
        raise StoreRefused(f"customer id of {len(encoded)} bytes; it must have 1 to {MAX_ID_BYTES} in UTF-8")
    return encoded


def identity_digest(identity: Identity) -> bytes:
    """A fixed-size stand-in for an identity: a phone number has no place among the keys of a store."""
    kind = identity.type.encode(errors="surrogatepass")
    value = identity.value.encode(errors="surrogatepass")
    return blake2b(len(kind).to_bytes(4, "big") + kind + value, digest_size=_DIGEST_BYTES).digest()


def identity_order(identity: Identity) -> tuple[str, str]:
    """What identities are sorted by."""
    return identity.type, identity.value


def check_recordable(customer_id: str, record: ConsentRecord) -> None:
    """Raises StoreRefused for a consent that can never be kept."""
    customer_bytes(customer_id)
    if record.state not in _RECORDED:
        raise StoreRefused(
            f"customer {customer_id!r}: consent for {record.purpose} cannot be recorded as {record.state}; "
            "that state is derived when reading"
        )


def merged_consents(current: Iterable[ConsentRecord], new: Iterable[ConsentRecord]) -> list[ConsentRecord]:
    """The prevailing record for each purpose and channel, in that order."""
    kept = {(record.purpose, record.channel): record for record in current}
    for record in new:
        place = (record.purpose, record.channel)
        kept[place] = prevailing(kept[place], record) if place in kept else record
    return [kept[place] for place in sorted(kept)]


def merged_signals(current: Iterable[Signal], new: Iterable[Signal]) -> list[Signal]:
    """The signals by name; a new one replaces that of its name."""
    kept = {signal.name: signal for signal in (*current, *new)}
    return [kept[name] for name in sorted(kept)]
