"""The decision log: every decision with what it was made from, found again by its id alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from engine.decisionlog.checkpoints import Checkpoints
from engine.decisionlog.identifiers import DecisionPlace, decode_id, encode_id
from engine.decisionlog.journal import MAX_SEGMENT_BYTES, NO_AGE_MS, Journal, Slot
from engine.decisionlog.reading import (
    Frame,
    Report,
    Segment,
    frames,
    list_segments,
    merge,
    read_frame,
    refuse_corruption,
)
from engine.decisionlog.record import (
    DecisionRecord,
    RecordHead,
    decode_head,
    decode_record,
    encode_record,
)

_CLOCK_STEP_MS: Final = 60_000
"""How far a clock may step back, or a thread lag, before a scan misses records of a later segment."""


class DecisionSlot:
    """The id and the position the next decision will have, held while it is claimed and written."""

    __slots__ = ("_now_ms", "_slot", "decision_id", "position")

    def __init__(self, slot: Slot, *, now_ms: int) -> None:
        self._slot = slot
        self._now_ms = now_ms
        self.position = slot.segment_id << 40 | slot.offset
        self.decision_id = encode_id(DecisionPlace(now_ms, slot.segment_id, slot.offset))

    def write(self, record: DecisionRecord) -> None:
        """Appends the record. Raises LogFull or LogUnavailable with nothing recorded.

        Raises ValueError where the record carries another id or instant than this slot, or a number that
        is not finite.
        """
        if (record.decision_id, record.now_ms) != (self.decision_id, self._now_ms):
            raise ValueError(f"the record is of {record.decision_id}, the slot of {self.decision_id}")
        self._slot.write(encode_record(record))


class DecisionLog:
    """Appends and reads decisions; any number of processes may share the directory."""

    def __init__(
        self,
        directory: Path,
        *,
        fsync_interval_ms: int | None = 100,
        max_segment_bytes: int = MAX_SEGMENT_BYTES,
        max_segment_age_ms: int = NO_AGE_MS,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self._directory = directory
        self._checkpoints = checkpoints
        self._journal = Journal(
            directory,
            fsync_interval_ms=fsync_interval_ms,
            max_segment_bytes=max_segment_bytes,
            max_segment_age_ms=max_segment_age_ms,
            checkpoints=checkpoints,
        )

    def __enter__(self) -> Self:
        self.prepare()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def prepare(self) -> None:
        """Makes the directory and checks that it can be written. Raises LogUnavailable."""
        self._journal.prepare()

    @contextmanager
    def next(self, *, now_ms: int) -> Iterator[DecisionSlot]:
        """Holds the next decision id of this process; other threads wait until the block ends.

        A block that does not write leaves nothing behind. Raises LogFull or LogUnavailable, with
        `fsync_interval_ms` 0 also at the end of the block, where the fsync failed.
        """
        with self._journal.reserve(now_ms=now_ms) as slot:
            yield DecisionSlot(slot, now_ms=now_ms)

    def read(self, decision_id: str) -> DecisionRecord | None:
        """The record of a decision; None where the log does not hold the id.

        Raises InvalidDecisionId where the text is no id, LogCorrupt where the record was damaged, and
        UnreadableRecord where another engine wrote it.
        """
        place = decode_id(decision_id)
        payload = read_frame(self._directory, segment_id=place.segment_id, offset=place.offset)
        if payload is None:
            return None
        record = decode_record(payload)
        return record if record.decision_id == decision_id else None

    def scan(
        self,
        *,
        since_ms: int | None = None,
        until_ms: int | None = None,
        customer_id: str | None = None,
        report: Report = refuse_corruption,
    ) -> Iterator[DecisionRecord]:
        """Records made in [since_ms, until_ms), of one customer or of all, by time over all processes.

        Raises LogCorrupt where acknowledged records are damaged, unless `report` lets them pass.
        """

        def heads(segment: Segment) -> Iterator[tuple[RecordHead, Frame]]:
            return ((decode_head(frame.payload), frame) for frame in frames(segment, report=report))

        segments = list_segments(self._directory)
        if until_ms is not None:
            segments = [s for s in segments if (s.created_ms or 0) < until_ms + _CLOCK_STEP_MS]
        for head, frame in merge(segments, heads, lambda item: item[0].now_ms):
            in_time = (since_ms or 0) <= head.now_ms and (until_ms is None or head.now_ms < until_ms)
            if in_time and customer_id in (None, head.customer_id):
                yield decode_record(frame.payload)

    @property
    def has_ended_segments(self) -> bool:
        """Whether a segment ended since the last checkpoint."""
        return self._journal.has_ended_segments

    def checkpoint(self) -> None:
        """Notes outside the log how far it is on the platter. Raises LogUnavailable."""
        self._journal.checkpoint()

    def vouch(self) -> None:
        """Notes what writers that died left without a checkpoint. Raises LogUnavailable."""
        self._journal.vouch()

    @property
    def unsynced_bytes(self) -> int:
        """How much a power cut could still lose."""
        return self._journal.unsynced_bytes

    def flush(self) -> None:
        """Makes every appended record survive a power cut. Raises LogUnavailable."""
        self._journal.flush()

    def close(self) -> None:
        """Flushes and gives up the files; later appends raise LogUnavailable."""
        self._journal.close()
