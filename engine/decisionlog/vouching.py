"""What writers that died left behind their last checkpoint, so that the next process can vouch for it."""

from __future__ import annotations

from pathlib import Path

import structlog

from engine.decisionlog.chain import Head, first_link, next_link
from engine.decisionlog.checkpoints import CheckpointHistory
from engine.decisionlog.errors import LogError
from engine.decisionlog.frame import FORMAT, HEADER_BYTES
from engine.decisionlog.reading import (
    Segment,
    header_of,
    is_live,
    list_segments,
    refuse_corruption,
    size_of,
    stored_frames,
)


def unvouched(directory: Path, history: CheckpointHistory) -> list[Head]:
    """Heads of the segments nobody writes any more, of which no checkpoint says that they ended.

    A segment that does not fit what was noted of it is passed over with a warning: `verify` says more.
    """
    heads = []
    for segment in list_segments(directory):
        noted = history.heads_of(segment.segment_id)
        known = noted[-1][1] if noted else None
        if segment.format != FORMAT or (known is not None and known.ended) or is_live(segment.path):
            continue
        head = _end_of(segment, known)
        if head is not None:
            heads.append(head)
    return heads


def _end_of(segment: Segment, known: Head | None) -> Head | None:
    """The head behind the last record; None where the records do not continue what is known."""
    start = known or Head(segment.segment_id, HEADER_BYTES, _first_link(segment))
    size, link = start.size, start.link
    try:
        if size_of(segment) < size:
            raise ValueError("it is shorter than at its last checkpoint")
        for frame in stored_frames(segment, report=refuse_corruption, start=size):
            chained = frame.chained
            if chained is None:
                raise ValueError(f"the record at byte {frame.offset} is not chained")
            link = next_link(
                link, segment_id=segment.segment_id, offset=frame.offset, commitment=chained.commitment
            )
            if link != chained.link or not chained.is_committed:
                raise ValueError(f"the record at byte {frame.offset} does not fit the chain")
            size = frame.end
    except (ValueError, LogError) as error:
        structlog.get_logger().warning("checkpoint.not_vouched", path=str(segment.path), cause=str(error))
        return None
    return Head(segment.segment_id, size, link, ended=True)


def _first_link(segment: Segment) -> bytes:
    return first_link(header_of(segment))
