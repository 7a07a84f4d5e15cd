"""Reading segments: all frames in order, or the one at a known place.

A bad frame with nothing whole after it is a torn tail: its writer died while writing, and the record was
never acknowledged. A bad frame with a whole one after it is corruption: acknowledged records are lost.
"""

from __future__ import annotations

import fcntl
import heapq
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, TypeVar

import structlog

from engine.decisionlog.chain import Chained, is_erased, unseal
from engine.decisionlog.contents import Contents, opened
from engine.decisionlog.errors import LogCorrupt, UnreadableRecord
from engine.decisionlog.frame import (
    FRAME_BYTES,
    HEADER_BYTES,
    UNCHAINED,
    Header,
    find_frame,
    payload_length,
    unpack_frame,
    unpack_header,
)
from engine.decisionlog.segment import segment_ids, segment_path

_READ_AHEAD_BYTES: Final = 1 << 16
"""One read for nearly every decision (about 10 kB) and the frame before the next."""

Item = TypeVar("Item")


class DamageKind(StrEnum):
    """What became of the bytes."""

    TORN = "torn"  # the end of a file whose writer died; nothing acknowledged is lost
    CORRUPT = "corrupt"  # records follow, so what was here had been acknowledged


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes of a segment that hold no readable record."""

    kind: DamageKind
    path: Path
    offset: int
    length: int


Report = Callable[[Damage], None]
"""Told of damage while reading. If it returns, reading goes on after the damage."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment file. `created_ms` and `format` are None where the header is unreadable."""

    path: Path
    segment_id: int
    created_ms: int | None
    format: int | None


@dataclass(frozen=True, slots=True)
class Frame:
    """One record as stored."""

    segment_id: int
    offset: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class StoredFrame:
    """One whole frame with all it carries. `chained` is None where its segment keeps no chain."""

    offset: int
    content: bytes
    chained: Chained | None

    @property
    def body(self) -> bytes | None:
        """The record; None where it was erased."""
        if self.chained is not None:
            return self.chained.body
        return None if is_erased(self.content) else self.content

    @property
    def end(self) -> int:
        """Offset of what follows."""
        return self.offset + FRAME_BYTES + len(self.content)


def refuse_corruption(damage: Damage) -> None:
    """Lets a torn tail pass with a warning in the log and raises LogCorrupt for anything else."""
    if damage.kind is DamageKind.CORRUPT:
        raise LogCorrupt(damage.path, damage.offset, f"{damage.length} bytes are not what was written")
    structlog.get_logger().warning(
        "log.tail_torn", path=str(damage.path), offset=damage.offset, bytes=damage.length
    )


def list_segments(directory: Path) -> list[Segment]:
    """All segments of a directory, oldest first; those with an unreadable header come first of all."""
    found = [find_segment(directory, segment_id) for segment_id in segment_ids(directory)]
    return sorted(found, key=lambda segment: (segment.created_ms or 0, segment.segment_id))


def find_segment(directory: Path, segment_id: int) -> Segment:
    """One segment of a directory. Raises LogCorrupt where it was renamed, UnreadableRecord where it is of a
    format this engine does not know.
    """
    path = segment_path(directory, segment_id)
    with path.open("rb") as file:
        header = _header(path, segment_id, file.read(HEADER_BYTES))
    created_ms, version = (None, None) if header is None else (header.created_ms, header.format)
    return Segment(path, segment_id, created_ms, version)


def header_of(segment: Segment) -> bytes:
    """The first bytes of a segment, to which its chain is tied; the same whether it is compressed or not."""
    with opened(segment.path) as contents:
        return contents.at(0, HEADER_BYTES)


def size_of(segment: Segment) -> int:
    """Bytes of a segment as written, however few its file has."""
    with opened(segment.path) as contents:
        return contents.size


def frames(segment: Segment, *, report: Report = refuse_corruption) -> Iterator[Frame]:
    """Every record of a segment in the order written, up to its size when reading starts; not the erased."""
    for frame in stored_frames(segment, report=report):
        body = frame.body
        if body is not None:
            yield Frame(segment.segment_id, frame.offset, body)


def stored_frames(
    segment: Segment, *, report: Report = refuse_corruption, start: int = HEADER_BYTES
) -> Iterator[StoredFrame]:
    """Every whole frame of a segment from offset `start` on, erased ones too."""
    with opened(segment.path) as contents:
        offset: int | None = start
        if segment.created_ms is None:
            offset = _beyond_damage(segment, contents, 0, report)
        while offset is not None and offset < contents.size:
            content = _content_at(contents, segment.segment_id, offset)
            if content is None:
                offset = _beyond_damage(segment, contents, offset, report)
                continue
            yield StoredFrame(offset, content, _chained(content, segment.format))
            offset += FRAME_BYTES + len(content)
        if contents.lost_bytes:
            report(Damage(DamageKind.CORRUPT, segment.path, contents.size, contents.lost_bytes))


def _chained(content: bytes, version: int | None) -> Chained | None:
    """The content taken apart, if the segment is chained; where its header is lost, if it looks so."""
    if version == UNCHAINED:
        return None
    chained = unseal(content)
    if version is None and chained is not None and not chained.is_committed:
        return None
    return chained


def read_frame(directory: Path, *, segment_id: int, offset: int) -> bytes | None:
    """The record at one place; None where no frame begins there, or it was erased.

    Raises LogCorrupt where a frame begins there and does not match its checksum.
    """
    path = segment_path(directory, segment_id)
    try:
        with opened(path) as contents:
            data = contents.at(offset, _READ_AHEAD_BYTES)
            missing = payload_length(data) + FRAME_BYTES - len(data)
            if missing > 0:
                data += contents.at(offset + len(data), missing)
            content = unpack_frame(data, segment_id=segment_id, offset=offset)
            if content is not None:
                return StoredFrame(offset, content, _chained(content, contents.format)).body
            if _is_damaged(contents, segment_id, offset):
                raise LogCorrupt(path, offset, "the record does not match its checksum")
            return None
    except FileNotFoundError:
        return None


def merge(
    segments: Sequence[Segment], read: Callable[[Segment], Iterator[Item]], time_ms: Callable[[Item], int]
) -> Iterator[Item]:
    """Items of all segments by time, as far as each segment is in order of time itself.

    A segment is opened when its turn comes, so only as many are open as were written at the same time.
    """
    waiting = deque(segments)
    heap: list[tuple[int, int, Item, Iterator[Item]]] = []

    def push(order: int, items: Iterator[Item]) -> None:
        for item in items:
            heapq.heappush(heap, (time_ms(item), order, item, items))
            return

    while waiting or heap:
        while waiting and (not heap or (waiting[0].created_ms or 0) <= heap[0][0]):
            push(-len(waiting), read(waiting.popleft()))
        if heap:
            _, order, item, items = heapq.heappop(heap)
            yield item
            push(order, items)


def is_live(path: Path) -> bool:
    """Whether a writer holds the segment."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def _header(path: Path, segment_id: int, header_bytes: bytes) -> Header | None:
    try:
        header = unpack_header(header_bytes)
    except UnreadableRecord as error:
        raise UnreadableRecord(f"{path}: {error}") from error
    except ValueError:
        return None
    if header.segment_id != segment_id:
        raise LogCorrupt(path, 0, f"it was written as segment {header.segment_id:010x} and renamed")
    return header


def _content_at(contents: Contents, segment_id: int, offset: int) -> bytes | None:
    start = contents.at(offset, FRAME_BYTES)
    length = payload_length(start)
    if length > contents.size - offset - FRAME_BYTES:
        return None
    content = contents.at(offset + FRAME_BYTES, length)
    return unpack_frame(start + content, segment_id=segment_id, offset=offset)


def _beyond_damage(segment: Segment, contents: Contents, offset: int, report: Report) -> int | None:
    """Reports what is bad at `offset` and returns where the next whole frame is, if there is one."""
    rest = contents.at(offset, contents.size - offset)
    found = find_frame(rest, segment_id=segment.segment_id, base=offset)
    if found is not None:
        report(Damage(DamageKind.CORRUPT, segment.path, offset, found))
        return offset + found
    if contents.compressed:  # what is compressed was whole to its end
        report(Damage(DamageKind.CORRUPT, segment.path, offset, len(rest)))
    elif rest and not is_live(segment.path):  # a live writer is still writing its tail
        report(Damage(DamageKind.TORN, segment.path, offset, len(rest)))
    return None


def _is_damaged(contents: Contents, segment_id: int, offset: int) -> bool:
    """Whether a frame begins at `offset`, or that cannot be told for damage before it, and records follow.

    Walks from frame to frame, so that a made-up offset is told from a damaged record.
    """
    size = contents.size
    at = HEADER_BYTES
    while at < offset < size:
        length = payload_length(contents.at(at, FRAME_BYTES))
        if length == 0:
            break
        at += FRAME_BYTES + length
    if offset >= size:
        return contents.lost_bytes > 0
    if at > offset:
        return False
    if contents.compressed:
        return True
    return find_frame(contents.at(at, size - at), segment_id=segment_id, base=at) is not None
