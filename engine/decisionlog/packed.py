"""A compressed segment: the same bytes in blocks of their own, so that any place is read by itself.

    header      28 bytes, as that of every segment, but its format says "compressed"
    blocks      each a Zstandard frame with a checksum: the bytes of the segment as written, its own header
                first, cut where records begin once a block holds 128 KiB
    seek table  a skippable frame of Zstandard's seekable format: for each block the length as it lies here
                and the length as written (2 x u32), then their number (u32), a zero, and a magic number

Offsets mean what they meant before, so ids, links of the chain and checkpoints hold. Whatever reads Zstandard
reads it: `tail -c +29 FILE | zstd -dc` gives the segment as it was written.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from itertools import pairwise
from typing import BinaryIO, Final

import numpy as np
import zstandard

from engine.decisionlog.frame import FRAME_BYTES, HEADER_BYTES, MAX_PAYLOAD_BYTES, Header, pack_header

BLOCK_BYTES: Final = 1 << 17
"""Where a block ends: decisions pack 14 to 1, and one of them is unpacked in 0.06 ms. With half of it they
pack 11 to 1, with twice of it 18 to 1 in twice the time."""
LEVEL: Final = 6
"""180 MB/s. Level 3 is four times as fast and packs 12 to 1; level 9 packs hardly better."""
ZSTANDARD: Final = b"\x28\xb5\x2f\xfd"
"""How every block begins."""
_MAX_BLOCK_BYTES: Final = BLOCK_BYTES + FRAME_BYTES + MAX_PAYLOAD_BYTES
_SKIPPABLE: Final = struct.Struct("<II")
_SKIPPABLE_MAGIC: Final = 0x184D2A5E
_FOOTER: Final = struct.Struct("<IBI")
_SEEKABLE_MAGIC: Final = 0x8F92EAB1
_ENTRY_BYTES: Final = 8
_TAIL_BYTES: Final = 1 << 14
"""One read for the seek table of nearly every segment: 64 MiB are about 1,000 blocks."""
_PIECE_BYTES: Final = 1 << 16


class PackedContents:
    """The bytes of a compressed segment as written. What of a damaged block cannot be told reads as zeros,
    which are no record. `lost_bytes` of the file lie behind the last block that is known.
    """

    compressed: Final = True

    def __init__(self, fd: int, header: Header | None) -> None:
        self._fd = fd
        self.format = None if header is None else header.format
        file_bytes = os.fstat(fd).st_size
        lengths = _seek_table(fd, file_bytes)
        self.lost_bytes = 0
        if lengths is None:  # a damaged table or a cut end: the blocks tell where they end themselves
            lengths = np.array(list(_walked(fd, file_bytes)), dtype=np.int64).reshape(-1, 2)
            self.lost_bytes = max(1, file_bytes - HEADER_BYTES - int(lengths[:, 0].sum()))
        self._starts = [HEADER_BYTES, *(HEADER_BYTES + np.cumsum(lengths[:, 0])).tolist()]
        self._offsets = np.concatenate(([0], np.cumsum(lengths[:, 1])))
        self.size = int(self._offsets[-1])
        self._unpacked: tuple[int, bytes] = (-1, b"")

    def at(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from an offset; fewer only at the end."""
        end = min(offset + length, self.size)
        parts = []
        while offset < end:
            number = int(np.searchsorted(self._offsets, offset, side="right")) - 1
            start = int(self._offsets[number])
            part = self._block(number)[offset - start : end - start]
            parts.append(part)
            offset += len(part)
        return b"".join(parts)

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Offset and end of each block."""
        return pairwise(self._offsets.tolist())

    def packed(self, number: int) -> bytes:
        """A block as it lies in the file."""
        start = self._starts[number]
        return os.pread(self._fd, self._starts[number + 1] - start, start)

    def _block(self, number: int) -> bytes:
        if self._unpacked[0] != number:
            length = int(self._offsets[number + 1] - self._offsets[number])
            self._unpacked = number, _unpacked(self.packed(number), length)
        return self._unpacked[1]


def _unpacked(packed: bytes, length: int) -> bytes:
    try:
        raw = zstandard.ZstdDecompressor().decompress(packed, max_output_size=length)
    except zstandard.ZstdError:
        return bytes(length)
    return raw if len(raw) == length else bytes(length)


class Packer:
    """Writes a compressed segment to a file that is new: blocks in their order, then `finish`."""

    def __init__(self, file: BinaryIO, header: Header) -> None:
        self._file = file
        self._zstd = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
        self._table: list[bytes] = []
        compressed = Header(header.segment_id, header.created_ms, header.format, compressed=True)
        file.write(pack_header(compressed))

    def add(self, raw: bytes) -> None:
        """A block of bytes as written."""
        self.copy(self._zstd.compress(raw), len(raw))

    def copy(self, packed: bytes, length: int) -> None:
        """A block that is compressed already, of `length` bytes as written."""
        self._file.write(packed)
        self._table.append(struct.pack("<II", len(packed), length))

    def finish(self) -> None:
        """The seek table."""
        table = b"".join(self._table)
        footer = _FOOTER.pack(len(self._table), 0, _SEEKABLE_MAGIC)
        self._file.write(_SKIPPABLE.pack(_SKIPPABLE_MAGIC, len(table) + len(footer)) + table + footer)


def _seek_table(fd: int, file_bytes: int) -> np.ndarray | None:
    """Lengths of the blocks, packed and as written; None where the table does not fit the file."""
    tail = os.pread(fd, _TAIL_BYTES, max(HEADER_BYTES, file_bytes - _TAIL_BYTES))
    if len(tail) < _FOOTER.size:
        return None
    count, descriptor, magic = _FOOTER.unpack_from(tail, len(tail) - _FOOTER.size)
    table_bytes = count * _ENTRY_BYTES
    whole_bytes = _SKIPPABLE.size + table_bytes + _FOOTER.size
    if (descriptor, magic) != (0, _SEEKABLE_MAGIC) or whole_bytes > file_bytes - HEADER_BYTES:
        return None
    if len(tail) < whole_bytes:
        tail = os.pread(fd, whole_bytes, file_bytes - whole_bytes)
    begin = len(tail) - whole_bytes
    if _SKIPPABLE.unpack_from(tail, begin) != (_SKIPPABLE_MAGIC, table_bytes + _FOOTER.size):
        return None
    entries = np.frombuffer(tail, "<u4", count * 2, begin + _SKIPPABLE.size)
    lengths = entries.reshape(-1, 2).astype(np.int64)
    fits = int(lengths[:, 0].sum()) == file_bytes - HEADER_BYTES - whole_bytes
    return lengths if fits and count and int(lengths[:, 1].max()) <= _MAX_BLOCK_BYTES else None


def _walked(fd: int, file_bytes: int) -> Iterator[tuple[int, int]]:
    """Lengths of the blocks from the first one on, as far as they can be unpacked."""
    start = HEADER_BYTES
    while start < file_bytes:
        zstd = zstandard.ZstdDecompressor().decompressobj()
        at, length = start, 0
        try:
            while not zstd.eof:
                piece = os.pread(fd, _PIECE_BYTES, at)
                if not piece:
                    return
                at += len(piece)
                length += len(zstd.decompress(piece))
        except zstandard.ZstdError:
            return
        end = at - len(zstd.unused_data)
        if not 0 < length <= _MAX_BLOCK_BYTES:  # the seek table unpacks to nothing
            return
        yield end - start, length
        start = end
