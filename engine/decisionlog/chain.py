"""The chain through the records of a segment, so that none is changed, moved or left out unseen.

What a frame of format 2 carries: link (32 bytes), commitment (32), salt (16), then the body.

    commitment = SHA-256(salt || body)
    link       = SHA-256(link before || segment id || offset || commitment)

The link before the first record is SHA-256 of the segment's header. Salt and body may be overwritten with
zeros when a person must be forgotten: the commitment stays, says nothing about what it was made of without
the salt, and the links still fit. Why so: docs/adr/0016-hash-chains.md.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from engine.decisionlog.frame import MAX_PAYLOAD_BYTES

LINK_BYTES: Final = 32
SALT_BYTES: Final = 16
CHAIN_BYTES: Final = 2 * LINK_BYTES + SALT_BYTES
"""Size of what precedes a body in a frame of format 2."""
MAX_BODY_BYTES: Final = MAX_PAYLOAD_BYTES - CHAIN_BYTES
_COMMITTED_BYTES: Final = 2 * LINK_BYTES
_PLACE: Final = struct.Struct("<QQ")


@dataclass(frozen=True, slots=True)
class Head:
    """How far a segment is, and the link of its last record: what a checkpoint keeps elsewhere.

    Nothing is ever written behind the head of a segment that has `ended`.
    """

    segment_id: int
    size: int
    link: bytes
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Chained:
    """A frame's content taken apart; `body` is None where it was erased."""

    link: bytes
    commitment: bytes
    salt: bytes
    body: bytes | None

    @property
    def is_committed(self) -> bool:
        """Whether the body is the one that was committed to; an erased one cannot be told."""
        return self.body is None or commit(self.salt, self.body) == self.commitment


def first_link(header: bytes) -> bytes:
    """The link before the first record of the segment with this header."""
    return sha256(header).digest()


def commit(salt: bytes, body: bytes) -> bytes:
    """The commitment to a body, which tells nothing about it to who does not have the salt."""
    hashed = sha256(salt)
    hashed.update(body)
    return hashed.digest()


def next_link(before: bytes, *, segment_id: int, offset: int, commitment: bytes) -> bytes:
    """The link of the record at a place."""
    return sha256(before + _PLACE.pack(segment_id, offset) + commitment).digest()


def seal(body: bytes, *, before: bytes, segment_id: int, offset: int) -> tuple[bytes, bytes]:
    """What a frame carries for a body, and its link. Raises ValueError for an empty or too large body."""
    if not 0 < len(body) <= MAX_BODY_BYTES:
        raise ValueError(
            f"a payload of {len(body)} bytes cannot be logged; allowed are 1 to {MAX_BODY_BYTES}"
        )
    salt = os.urandom(SALT_BYTES)
    commitment = commit(salt, body)
    link = next_link(before, segment_id=segment_id, offset=offset, commitment=commitment)
    return b"".join((link, commitment, salt, body)), link


def unseal(payload: bytes) -> Chained | None:
    """A frame's content taken apart; None where it is too short to be chained."""
    if len(payload) <= CHAIN_BYTES:
        return None
    salted = payload[_COMMITTED_BYTES:]
    return Chained(
        link=payload[:LINK_BYTES],
        commitment=payload[LINK_BYTES:_COMMITTED_BYTES],
        salt=salted[:SALT_BYTES],
        body=None if is_erased(salted) else salted[SALT_BYTES:],
    )


def is_erased(content: bytes) -> bool:
    """Whether nothing but zeros is left; no salt and no record is that."""
    return not content.strip(b"\0")


def erased(payload: bytes, *, chained: bool) -> bytes:
    """The content of a frame without its body, of the same length; link and commitment stay."""
    kept = payload[:_COMMITTED_BYTES] if chained else b""
    return kept.ljust(len(payload), b"\0")
