"""Decision ids that carry their own place in the log, so that a decision is found without an index.

An id is 128 bits: time in ms (48), segment id (40), offset in the segment (40), written as 26 characters
of Crockford's base32. It has the shape of a ULID and sorts by time. To clients it is opaque.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from engine.decisionlog.errors import InvalidDecisionId
from engine.decisionlog.frame import MAX_OFFSET, MAX_SEGMENT_ID

MAX_TIME_MS: Final = (1 << 48) - 1
ID_LENGTH: Final = 26
_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_TO_BASE_32: Final = str.maketrans(_CROCKFORD, "0123456789abcdefghijklmnopqrstuv")
_SHAPE: Final = re.compile(f"[0-7][{_CROCKFORD}]{{{ID_LENGTH - 1}}}")
_PAIRS: Final = [high + low for high in _CROCKFORD for low in _CROCKFORD]
"""What 10 bits are written as: 13 pairs hold our 128 bits."""
_10_BITS: Final = 1023
_SHIFTS: Final = tuple(range(120, -1, -10))


@dataclass(frozen=True, slots=True, order=True)
class DecisionPlace:
    """When a decision was made and where its record lies."""

    time_ms: int
    segment_id: int
    offset: int


def encode_id(place: DecisionPlace) -> str:
    """The id of the decision at `place`. Raises ValueError where a part does not fit its bits."""
    time_ms, segment_id, offset = place.time_ms, place.segment_id, place.offset
    fits = 0 <= time_ms <= MAX_TIME_MS and 0 <= segment_id <= MAX_SEGMENT_ID and 0 <= offset <= MAX_OFFSET
    if not fits:
        raise ValueError(f"no decision id can hold {place}")
    number = time_ms << 80 | segment_id << 40 | offset
    return "".join([_PAIRS[number >> shift & _10_BITS] for shift in _SHIFTS])


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
