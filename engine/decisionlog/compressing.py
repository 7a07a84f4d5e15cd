"""Compresses segments that have ended, in place: every byte comes back, at the offset where it was.

A segment that is damaged stays as it is, as evidence. A process that is killed on the way leaves the old file
or the new one, never half of one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from engine.decisionlog.contents import contents_of, opened
from engine.decisionlog.errors import LogCorrupt, LogError
from engine.decisionlog.frame import HEADER_BYTES, Header
from engine.decisionlog.packed import BLOCK_BYTES, Packer
from engine.decisionlog.reading import Damage, DamageKind, Segment, find_segment, is_live, stored_frames
from engine.decisionlog.replacing import changing, replacing
from engine.decisionlog.segment import segment_ids, segment_path, write_failure

_LEAST_BYTES: Final = 1 << 12
"""Smaller files fill a block of the disk either way."""


@dataclass(frozen=True, slots=True)
class Compressed:
    """What became of one segment; `refused` says why it stays as it is, "" where it does not."""

    path: str
    bytes_before: int
    bytes_after: int
    refused: str = ""


def compressible(directory: Path, *, ended_before_s: float) -> Iterator[Path]:
    """Segments that can be compressed: nobody writes them, and nobody did since an instant of the clock."""
    for segment_id in sorted(segment_ids(directory)):
        path = segment_path(directory, segment_id)
        found = path.stat()
        old = found.st_mtime <= ended_before_s and found.st_size >= _LEAST_BYTES
        if old and not is_live(path) and not _is_compressed(path):
            yield path


def compress(directory: Path, *, ended_before_s: float, patient: bool = True) -> Iterator[Compressed]:
    """Compresses segments one by one, while servers go on; what became of each.

    Without `patient` it ends where another process changes segments now. Raises LogUnavailable.
    """
    for path in compressible(directory, ended_before_s=ended_before_s):
        with changing(directory, patient=patient) as held:
            if not held:
                return
            if not _is_compressed(path):  # by another process, meanwhile
                yield _compress_one(directory, path)


def _compress_one(directory: Path, path: Path) -> Compressed:
    before = path.stat().st_size
    try:
        segment = find_segment(directory, int(path.stem, 16))
        with replacing(path) as file:
            _pack(segment, file)
            _compare(segment, file)
    except LogError as error:
        return Compressed(str(path), before, before, str(error))
    except OSError as error:
        raise write_failure(path, error) from error
    return Compressed(str(path), before, path.stat().st_size)


def _pack(segment: Segment, file: BinaryIO) -> None:
    """Writes the segment compressed. Raises LogCorrupt where anything of it is damaged."""
    if segment.format is None:
        raise LogCorrupt(segment.path, 0, "the header is damaged")
    packer = Packer(file, Header(segment.segment_id, segment.created_ms or 0, segment.format))
    start = 0
    with opened(segment.path) as contents:
        for end in _ends(segment):
            if end - start >= BLOCK_BYTES:
                packer.add(contents.at(start, end - start))
                start = end
        if start < contents.size:
            packer.add(contents.at(start, contents.size - start))
    packer.finish()


def _ends(segment: Segment) -> Iterator[int]:
    """Where each record ends. Raises LogCorrupt where bytes hold no readable one."""
    yield HEADER_BYTES
    for frame in stored_frames(segment, report=_refuse):
        yield frame.end


def _refuse(damage: Damage) -> None:
    torn = damage.kind is DamageKind.TORN
    cause = "its writer died while writing" if torn else f"{damage.length} bytes are not what was written"
    raise LogCorrupt(damage.path, damage.offset, cause)


def _compare(segment: Segment, file: BinaryIO) -> None:
    """Reads what was written back. Raises LogCorrupt where one byte would come back another."""
    file.flush()
    packed = contents_of(file.fileno())
    with opened(segment.path) as contents:
        same = packed.size == contents.size and all(
            packed.at(start, BLOCK_BYTES) == contents.at(start, BLOCK_BYTES)
            for start in range(0, contents.size, BLOCK_BYTES)
        )
    if not same:
        raise LogCorrupt(segment.path, 0, "its compressed form would not be the same; memory or disk errs")


def _is_compressed(path: Path) -> bool:
    with opened(path) as contents:
        return contents.compressed
