"""Decision ids that carry their own place in the log, so that a decision is found without an index.

An id is 128 bits: time in ms (48), segment id (40), offset in the segment (40), written as 26 characters
of Crockford's base32. It has the shape of a ULID and sorts by time. To clients it is opaque.
"""

from __future__ import annotations

import re
from base64 import b32encode
from dataclasses import dataclass
from typing import Final

from engine.decisionlog.errors import InvalidDecisionId
from engine.decisionlog.frame import MAX_OFFSET, MAX_SEGMENT_ID

MAX_TIME_MS: Final = (1 << 48) - 1
ID_LENGTH: Final = 26
_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_TO_CROCKFORD: Final = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", _CROCKFORD.encode())
_TO_BASE_32: Final = str.maketrans(_CROCKFORD, "0123456789abcdefghijklmnopqrstuv")
_SHAPE: Final = re.compile(f"[0-7][{_CROCKFORD}]{{{ID_LENGTH - 1}}}")
_PADDED_BYTES: Final = 20
"""160 bits are 32 whole base32 characters; the last 26 of them hold our 128 bits."""


@dataclass(frozen=True, slots=True, order=True)
class DecisionPlace:
    """When a decision was made and where its record lies."""

    time_ms: int
    segment_id: int
    offset: int


def encode_id(place: DecisionPlace) -> str:
    """The id of the decision at `place`. Raises ValueError where a part does not fit its bits."""
    limits = ((place.time_ms, MAX_TIME_MS), (place.segment_id, MAX_SEGMENT_ID), (place.offset, MAX_OFFSET))
    if any(not 0 <= part <= limit for part, limit in limits):
        raise ValueError(f"no decision id can hold {place}")
    number = place.time_ms << 80 | place.segment_id << 40 | place.offset
    padded = b32encode(number.to_bytes(_PADDED_BYTES, "big"))
    return padded[-ID_LENGTH:].translate(_TO_CROCKFORD).decode("ascii")


def decode_id(decision_id: str) -> DecisionPlace:
    """Where the decision's record should lie. Raises InvalidDecisionId where the text is no id.

    An id that was made up still decodes: whoever reads the record must compare the id it holds.
    """
    if _SHAPE.fullmatch(decision_id) is None:
        raise InvalidDecisionId(
            f"{decision_id[:40]!r} is not a decision id: expected the {ID_LENGTH} characters "
            "(digits and upper-case letters without I, L, O, U) that a decision was answered with"
        )
    number = int(decision_id.translate(_TO_BASE_32), 32)
    return DecisionPlace(number >> 80, number >> 40 & MAX_SEGMENT_ID, number & MAX_OFFSET)
