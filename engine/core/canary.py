"""Which customers a challenger scores: a salted hash of the customer, the same on every machine and for good.

The salt is that of one rollout, so that it is not always the same customers on whom something new is tried.
Customers stay in when the share grows.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Self

_HASHES: Final = 1 << 64
_HASH_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Share:
    """The customers whose hash is `below`; `salt` comes before their id in what is hashed."""

    model: str
    salt: bytes
    below: int

    @classmethod
    def of(cls, model: str, *, salt: str, percent: float) -> Self:
        """The share of a model's challenger: 0 is nobody, 100 everybody."""
        return cls(model, f"{salt}\0".encode(), int(_HASHES * (percent / 100)))

    def holds(self, customer_id: str) -> bool:
        """Whether a customer is in it; takes about a microsecond."""
        digest = blake2b(self.salt + customer_id.encode(), digest_size=_HASH_BYTES).digest()
        return int.from_bytes(digest) < self.below
