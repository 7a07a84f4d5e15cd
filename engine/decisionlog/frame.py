"""The bytes of a segment file: one header, then frames, each with its own checksum.

Header, 28 bytes, little-endian: magic (6), format (u16), segment id (u64), created ms (u64), CRC-32 (u32).
Frame: payload length (u32), CRC-32 (u32), payload. The checksum of a frame also covers its length, its
offset and the id of its segment, so neither zeros nor bytes of another place or file can pass for a frame.
What the payload of a chained frame holds: engine/decisionlog/chain.py. In format 1 it is the record itself.
Of a compressed segment only the header is as here; what follows it: engine/decisionlog/packed.py.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final
from zlib import crc32

import numpy as np

from engine.decisionlog.errors import UnreadableRecord

MAGIC: Final = b"ARBLOG"
FORMAT: Final = 2
"""What is written: chained frames."""
UNCHAINED: Final = 1
"""The first format, still read."""
_COMPRESSED: Final = 0x100
"""Added to the format of a file whose bytes are compressed: an engine that cannot read it says so."""
MAX_PAYLOAD_BYTES: Final = (1 << 24) - 1
"""Upper end of a payload. Being below 2^24 keeps the fourth length byte zero, which no text byte is."""
MAX_SEGMENT_ID: Final = (1 << 40) - 1
MAX_OFFSET: Final = (1 << 40) - 1

_HEADER: Final = struct.Struct("<6sHQQI")
_FRAME: Final = struct.Struct("<II")
_PLACE: Final = struct.Struct("<QQI")
HEADER_BYTES: Final = _HEADER.size
FRAME_BYTES: Final = _FRAME.size
"""Size of what precedes a payload."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a segment says of itself. `format` is that of its frames, whether they are compressed or not."""

    segment_id: int
    created_ms: int
    format: int = FORMAT
    compressed: bool = False


def pack_header(header: Header) -> bytes:
    """The first bytes of a segment file."""
    version = header.format | (_COMPRESSED if header.compressed else 0)
    checked = _HEADER.pack(MAGIC, version, header.segment_id, header.created_ms, 0)[:-4]
    return checked + crc32(checked).to_bytes(4, "little")


def unpack_header(data: bytes) -> Header:
    """Reads the first bytes of a segment file. Raises ValueError saying what is wrong with them.

    Raises UnreadableRecord where they are whole and a newer engine wrote them.
    """
    if len(data) < HEADER_BYTES:
        raise ValueError("the header is cut off")
    magic, version, segment_id, created_ms, checksum = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise ValueError("this is not a log segment")
    if checksum != crc32(data[: HEADER_BYTES - 4]):
        raise ValueError("the header does not match its checksum")
    kind = version & ~_COMPRESSED
    if kind not in (FORMAT, UNCHAINED):
        known = f"{UNCHAINED} and {FORMAT}"
        raise UnreadableRecord(f"segment format {version} is not known to this engine, which reads {known}")
    return Header(segment_id, created_ms, kind, compressed=kind != version)


def pack_frame(payload: bytes, *, segment_id: int, offset: int) -> bytes:
    """One frame, ready for its place. Raises ValueError where the payload is empty or too large."""
    length = len(payload)
    if not 0 < length <= MAX_PAYLOAD_BYTES:
        raise ValueError(
            f"a payload of {length} bytes cannot be logged; allowed are 1 to {MAX_PAYLOAD_BYTES}"
        )
    return _FRAME.pack(length, _checksum(payload, segment_id, offset)) + payload


def unpack_frame(data: bytes, *, segment_id: int, offset: int, start: int = 0) -> bytes | None:
    """The payload of the frame at `data[start:]`, at `offset` of its file; None where it is bad."""
    if len(data) - start < FRAME_BYTES:
        return None
    length, checksum = _FRAME.unpack_from(data, start)
    payload = data[start + FRAME_BYTES : start + FRAME_BYTES + length]
    if not 0 < length <= MAX_PAYLOAD_BYTES or len(payload) != length:
        return None
    return payload if checksum == _checksum(payload, segment_id, offset) else None


def payload_length(frame_start: bytes) -> int:
    """The payload length that the first bytes of a frame claim; 0 where they are cut off or absurd."""
    if len(frame_start) < FRAME_BYTES:
        return 0
    length: int = _FRAME.unpack_from(frame_start)[0]
    return length if length <= MAX_PAYLOAD_BYTES else 0


def find_frame(data: bytes, *, segment_id: int, base: int) -> int | None:
    """Index in `data` of the first whole frame; `data[0]` lies at offset `base` of its file."""
    if len(data) <= FRAME_BYTES:
        return None
    raw = np.frombuffer(data, dtype=np.uint8)
    last = len(raw) - FRAME_BYTES
    low = raw[:last] | raw[1 : last + 1] | raw[2 : last + 2]
    for index in np.flatnonzero((low != 0) & (raw[3 : last + 3] == 0)).tolist():
        if unpack_frame(data, segment_id=segment_id, offset=base + index, start=index) is not None:
            return int(index)
    return None


def _checksum(payload: bytes, segment_id: int, offset: int) -> int:
    return crc32(payload, crc32(_PLACE.pack(segment_id, offset, len(payload))))
