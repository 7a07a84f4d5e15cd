"""Forgetting records: bodies become zeros where they lie, and a chained journal says which, when and by whom.

The journal lies beside the segments and is written first. So an erasure that was cut short is finished by the
next one, and a body that is gone without an entry is told from one that was erased by right.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from engine.decisionlog.chain import erased
from engine.decisionlog.checkpoints import Checkpoints
from engine.decisionlog.contents import Contents, contents_of
from engine.decisionlog.errors import LogCorrupt
from engine.decisionlog.frame import (
    FRAME_BYTES,
    HEADER_BYTES,
    UNCHAINED,
    pack_frame,
    payload_length,
    unpack_header,
)
from engine.decisionlog.journal import MAX_SEGMENT_BYTES
from engine.decisionlog.ledger import Ledger, journal_of
from engine.decisionlog.packed import PackedContents, Packer
from engine.decisionlog.reading import Segment, find_segment, frames, list_segments, stored_frames
from engine.decisionlog.replacing import changing, replacing
from engine.decisionlog.segment import segment_path, write_failure

ERASURES: Final = "erasures"
"""Folder of the journal, inside that of the log."""
_MAX_OFFSETS: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureEntry:
    """Records of one segment that were erased: by whom, why, when. It names no customer."""

    segment_id: int
    offsets: tuple[int, ...]
    actor: str
    reason: str
    received_at_ms: int


@dataclass(frozen=True, slots=True)
class ErasedRecord:
    """When and by whom a record was erased."""

    at_ms: int
    actor: str
    reason: str


ErasureJournal = Ledger[ErasureEntry]


def erasure_journal(log_directory: Path, *, checkpoints: Checkpoints | None = None) -> ErasureJournal:
    """The journal of a log's erasures; an entry is on the platter before `append` returns."""
    return Ledger(journal_of(log_directory / ERASURES, 0, MAX_SEGMENT_BYTES, checkpoints), ErasureEntry)


def erasures(log_directory: Path) -> Mapping[tuple[int, int], ErasedRecord]:
    """What the journal lists, by segment and offset. Raises LogCorrupt where it is damaged."""
    return {
        (entry.segment_id, offset): ErasedRecord(entry.received_at_ms, entry.actor, entry.reason)
        for entry in erasure_journal(log_directory).replay()
        for offset in entry.offsets
    }


def erase(
    log_directory: Path,
    wanted: Callable[[bytes], bool],
    *,
    actor: str,
    reason: str,
    now_ms: int,
    checkpoints: Checkpoints | None = None,
) -> int:
    """Erases every record that `wanted` names; returns how many. Other processes may go on appending.

    Finishes first what an earlier call could not. `reason` and `actor` stay: they must not name the person.
    `checkpoints` are those of the log. Raises LogUnavailable, and LogCorrupt where damage may hide a record
    that should go.
    """
    _overwrite(log_directory, erasures(log_directory))
    found = {segment.segment_id: _found(segment, wanted) for segment in list_segments(log_directory)}
    journal_checkpoints = None if checkpoints is None else checkpoints.of_erasures
    with erasure_journal(log_directory, checkpoints=journal_checkpoints) as journal:
        for segment_id, offsets in found.items():
            for start in range(0, len(offsets), _MAX_OFFSETS):
                part = tuple(offsets[start : start + _MAX_OFFSETS])
                journal.append(
                    ErasureEntry(
                        segment_id=segment_id, offsets=part, actor=actor, reason=reason, received_at_ms=now_ms
                    )
                )
    places = [(segment_id, offset) for segment_id, offsets in found.items() for offset in offsets]
    _overwrite(log_directory, places)
    return len(places)


def erase_one(
    log_directory: Path,
    segment_id: int,
    offset: int,
    *,
    actor: str,
    reason: str,
    now_ms: int,
    checkpoints: Checkpoints | None = None,
) -> None:
    """Erases the record at a place, which must be there. See `erase`."""
    journal_checkpoints = None if checkpoints is None else checkpoints.of_erasures
    with erasure_journal(log_directory, checkpoints=journal_checkpoints) as journal:
        journal.append(
            ErasureEntry(
                segment_id=segment_id,
                offsets=(offset,),
                actor=actor,
                reason=reason,
                received_at_ms=now_ms,
            )
        )
    _overwrite(log_directory, [(segment_id, offset)])


def _found(segment: Segment, wanted: Callable[[bytes], bool]) -> list[int]:
    return [frame.offset for frame in stored_frames(segment) if frame.body is not None and wanted(frame.body)]


def _overwrite(log_directory: Path, places: Iterable[tuple[int, int]]) -> None:
    by_segment: dict[int, list[int]] = {}
    for segment_id, offset in places:
        by_segment.setdefault(segment_id, []).append(offset)
    if not by_segment:
        return
    with changing(log_directory):
        for segment_id, offsets in by_segment.items():
            if segment_path(log_directory, segment_id).exists():
                _blank(find_segment(log_directory, segment_id), offsets)


def _blank(segment: Segment, offsets: Sequence[int]) -> None:
    """Takes records out of a segment: in place, or where it is compressed in a file that takes its place."""
    try:
        with _open_to_change(segment.path) as fd:
            contents = contents_of(fd)
            frames = dict(_blank_frames(segment, contents, offsets))
            if isinstance(contents, PackedContents):
                if frames:
                    _repack(segment, contents, frames)
                return
            for offset, frame in frames.items():
                os.pwrite(fd, frame, offset)
            os.fsync(fd)
    except OSError as error:
        raise write_failure(segment.path, error) from error


def _blank_frames(
    segment: Segment, contents: Contents, offsets: Sequence[int]
) -> Iterator[tuple[int, bytes]]:
    """Zeros for each body that is not gone yet. Length, link and commitment stay, so it can be done again."""
    for offset in offsets:
        length = payload_length(contents.at(offset, FRAME_BYTES))
        content = contents.at(offset + FRAME_BYTES, length)
        if not length or len(content) != length:
            raise LogCorrupt(segment.path, offset, "a record that is to be erased is not there")
        blank = erased(content, chained=segment.format != UNCHAINED)
        if blank != content:
            yield offset, pack_frame(blank, segment_id=segment.segment_id, offset=offset)


def _repack(segment: Segment, contents: PackedContents, frames: Mapping[int, bytes]) -> None:
    """The segment with other frames in some places; blocks without any are copied as they are."""
    header = unpack_header(contents.at(0, HEADER_BYTES))
    waiting = deque(sorted(frames.items()))
    with replacing(segment.path) as file:
        packer = Packer(file, header)
        for number, (start, end) in enumerate(contents.blocks()):
            if not waiting or waiting[0][0] >= end:
                packer.copy(contents.packed(number), end - start)
                continue
            raw = bytearray(contents.at(start, end - start))
            while waiting and waiting[0][0] < end:
                offset, frame = waiting.popleft()
                raw[offset - start : offset - start + len(frame)] = frame
            packer.add(bytes(raw))
        packer.finish()


@contextmanager
def _open_to_change(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDWR)
    try:
        yield fd
    finally:
        os.close(fd)


class _Named(msgspec.Struct):
    customer_id: str = ""


class _Whose(msgspec.Struct):
    """Where the logs say whom an entry is about: at the top, in the request, or in the use of a consent.

    A merge is about both customers.
    """

    customer_id: str = ""
    into: str = ""
    decision_id: str = ""
    request: _Named | None = None
    use: _Named | None = None

    def is_about(self, customer_id: str) -> bool:
        """Whether the entry names the customer."""
        parts = (self.request, self.use)
        return customer_id in (self.customer_id, self.into) or any(
            p is not None and p.customer_id == customer_id for p in parts
        )


_whose: Final = msgspec.json.Decoder(_Whose)


def entries_about(
    log_directory: Path, customer_id: str, *, decision_ids: Container[str] = ()
) -> Iterator[tuple[int, bytes]]:
    """What `erase_entries` would erase: the position and the JSON of each entry, segment by segment.

    Raises LogCorrupt where damage may hide one.
    """
    for segment in list_segments(log_directory):
        for frame in frames(segment):
            whose = _whose.decode(frame.payload)
            if whose.is_about(customer_id) or whose.decision_id in decision_ids:
                yield frame.segment_id << 40 | frame.offset, frame.payload


def erase_entries(
    log_directory: Path,
    customer_id: str,
    *,
    actor: str,
    reason: str,
    now_ms: int,
    decision_ids: Container[str] = (),
    checkpoints: Checkpoints | None = None,
) -> int:
    """Erases what a log (of decisions, consents, outcomes or shadow answers) holds of one customer.

    `decision_ids` are the customer's decisions: outcomes of earlier engines name only these. See `erase`.
    """

    def wanted(body: bytes) -> bool:
        whose = _whose.decode(body)
        return whose.is_about(customer_id) or whose.decision_id in decision_ids

    return erase(log_directory, wanted, actor=actor, reason=reason, now_ms=now_ms, checkpoints=checkpoints)
