"""The names of everything Arbiter keeps in Redis; all begin with one prefix, so an ACL can hold them.

- `<prefix>:{<customer>}:` and `f`, `c`, `h`, `s`, `m`, `e`, `i` or `d`: a customer's features, consents,
  contact history, signals, parts merged in, stream, identities, and who last set the due mark.
- `<prefix>:identity:<digest>`: ids of the customers that carry an identity.
- `<prefix>:due:{<shard>}:at` and `:by`: due marks by instant, and the writers at work on them.
- `<prefix>:budget:{all}:<digest>:held` and `:spent`: units of a budget by the instant they count by.
- `<prefix>:claim:<digest>`: an idempotency key.
- `<prefix>:schemas`: texts of feature schemas by digest.

The braces are Redis Cluster's hash tags: all values of a customer lie in one slot.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from zlib import crc32

from feature_store.contacts import key_digest
from feature_store.errors import StoreRefused
from feature_store.keeping import customer_bytes, identity_digest
from feature_store.state import Identity

DECIDED = b"fchsm"
"""Kinds that a decision reads."""
UPDATED = b"fchsmed"
"""Kinds that an update reads or replaces."""
ALL = b"ifchsmed"
"""Every kind; identities first, as erasing goes by them."""

DUE_SHARDS = 16
"""Sets that the due marks are spread over, so that several nodes of a cluster share them."""

_PREFIX = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_ESCAPES = {b"%": b"%25", b"{": b"%7B", b"}": b"%7D"}
_ESCAPED = re.compile(rb"[%{}]")
_UNESCAPED = re.compile(rb"%(25|7B|7D)")


class Keys:
    """The names under one prefix."""

    def __init__(self, prefix: str) -> None:
        """Raises StoreRefused for a prefix that does not keep keys apart."""
        if not _PREFIX.fullmatch(prefix):
            raise StoreRefused(
                f"key prefix {prefix!r}: must be 1 to 64 letters, digits or any of `_.:-`, such as arbiter"
            )
        self._prefix = prefix.encode()
        self._customer = self._prefix + b":{"
        self.schemas = self._prefix + b":schemas"
        self.customers_pattern = self._prefix + b":{*}:f"
        self.identities_pattern = self._prefix + b":identity:*"

    def of(self, customer_id: str, kinds: bytes) -> tuple[bytes, ...]:
        """Keys of a customer's values, in the order of `kinds`. Raises StoreRefused."""
        name = customer_bytes(customer_id)
        if _ESCAPED.search(name):
            name = _ESCAPED.sub(lambda found: _ESCAPES[found[0]], name)
        start = self._customer + name + b"}:"
        return tuple([start + kinds[i : i + 1] for i in range(len(kinds))])

    def customer_of(self, key: bytes) -> str:
        """The customer whose features are under a key."""
        name = key[len(self._customer) : -len(b"}:f")]
        return _UNESCAPED.sub(lambda found: bytes([int(found[1], 16)]), name).decode()

    def kind_of(self, key: bytes) -> bytes:
        """The kind of a customer's value; empty for other keys."""
        return key[-1:] if key.startswith(self._customer) and key[-3:-1] == b"}:" else b""

    def is_identity(self, key: bytes) -> bool:
        """Whether a key holds the customers that carry an identity."""
        return key.startswith(self._prefix + b":identity:")

    def is_budget(self, key: bytes) -> bool:
        """Whether a key holds units of a budget."""
        return key.startswith(self._prefix + b":budget:")

    def identity(self, identity: Identity) -> bytes:
        """Key of the customers that carry an identity."""
        return self._prefix + b":identity:" + identity_digest(identity).hex().encode()

    def claim(self, key: str) -> bytes:
        """Key of a claim; client-made ids are of any length and alphabet, so it is a digest."""
        return self._prefix + b":claim:" + key_digest(key).hex().encode()

    def budget(self, name: str) -> tuple[bytes, bytes]:
        """Keys of a budget's units held and spent. All budgets share a slot, as they are taken together."""
        digest = blake2b(name.encode(errors="surrogatepass"), digest_size=16).hexdigest().encode()
        start = self._prefix + b":budget:{all}:" + digest
        return start + b":held", start + b":spent"

    def due(self, shard: int) -> tuple[bytes, bytes]:
        """Keys of a shard's marks and of the writers at work on them."""
        start = b"%b:due:{%d}:" % (self._prefix, shard)
        return start + b"at", start + b"by"

    def due_shard(self, customer_id: str) -> int:
        """Where a customer's due mark is."""
        return crc32(customer_bytes(customer_id)) % DUE_SHARDS
