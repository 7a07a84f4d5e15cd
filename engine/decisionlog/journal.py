"""An append-only log of payloads over a directory of segments, written by many processes at once.

Each journal (one for each server process) writes segments of its own and reads everyone's.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import structlog

from engine.decisionlog.chain import Head
from engine.decisionlog.checkpoints import Checkpoints
from engine.decisionlog.errors import LogUnavailable
from engine.decisionlog.segment import NewId, SegmentWriter, random_id, write_failure
from engine.decisionlog.vouching import unvouched

MAX_SEGMENT_BYTES: Final = 64 << 20
"""Where a new segment begins: small enough to copy and to scan, large enough to keep files few."""
NO_AGE_MS: Final = 1 << 62
"""Where segments end by size alone."""


class Slot:
    """The place the next payload will have, held until its block ends. It is written once or not at all."""

    __slots__ = ("_end", "_segment", "offset")

    def __init__(self, segment: SegmentWriter) -> None:
        self._segment = segment
        self._end: int | None = None
        self.offset = segment.size

    @property
    def segment_id(self) -> int:
        """The segment the payload will be in."""
        return self._segment.segment_id

    def write(self, payload: bytes) -> None:
        """Appends the payload at this place. Raises LogFull or LogUnavailable with nothing recorded."""
        if self._end is not None:
            raise RuntimeError("the slot is written already; ask for the next one")
        self._segment.append(payload)
        self._end = self._segment.size

    def sync(self) -> None:
        """Makes the payload survive a power cut; nothing to do where none was written."""
        if self._end is not None:
            self._segment.sync(self._end)


class Journal:
    """Appends payloads, rotates segments, syncs in groups. Safe for threads.

    With `fsync_interval_ms` 0 a payload survives a power cut when its block ends, and threads share
    fsyncs. Otherwise it survives the death of the process at once, and a power cut after the next
    `flush`, which a `Flusher` calls at that interval; with None nobody does, and it is left to checkpoints
    and to the system. A segment ends when it has grown to `max_segment_bytes`, or with the first payload
    that comes `max_segment_age_ms` after it began. How far each segment is on the platter goes to
    `checkpoints`, if there are any, whenever `checkpoint` is called, which a `Checkpointer` does.
    """

    def __init__(
        self,
        directory: Path,
        *,
        fsync_interval_ms: int | None,
        max_segment_bytes: int = MAX_SEGMENT_BYTES,
        max_segment_age_ms: int = NO_AGE_MS,
        new_id: NewId = random_id,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self.directory = directory
        self.fsync_interval_ms = fsync_interval_ms
        self._max_segment_bytes = max_segment_bytes
        self._max_segment_age_ms = max_segment_age_ms
        self._old_from_ms = 0
        self._new_id = new_id
        self._lock = threading.Lock()
        self._segment: SegmentWriter | None = None
        self._retired: list[SegmentWriter] = []
        self._closed = False
        self._checkpoints = checkpoints
        self._noting = threading.Lock()
        self._ended: list[Head] = []
        self._noted: Head | None = None

    def __enter__(self) -> Self:
        self.prepare()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def prepare(self) -> None:
        """Makes the directory and checks that it can be written. Raises LogUnavailable."""
        try:
            self.directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        except OSError as error:
            raise write_failure(self.directory, error) from error
        if not os.access(self.directory, os.W_OK | os.X_OK):
            raise LogUnavailable(self.directory, "no permission to write", "change its owner or mode")
        if self._checkpoints is not None:
            self._checkpoints.prepare()

    @contextmanager
    def reserve(self, *, now_ms: int) -> Iterator[Slot]:
        """Holds the place of the next payload; nobody else appends until the block ends.

        A block that does not write leaves the place to the next one. Raises LogFull or LogUnavailable.
        """
        with self._lock:
            slot = Slot(self._current(now_ms))
            yield slot
        if self.fsync_interval_ms == 0:
            slot.sync()
            self._close_retired()

    def append(self, payload: bytes, *, now_ms: int) -> Slot:
        """Appends one payload and returns its place. Raises LogFull or LogUnavailable."""
        with self.reserve(now_ms=now_ms) as slot:
            slot.write(payload)
        return slot

    @property
    def unsynced_bytes(self) -> int:
        """How much a power cut could still lose."""
        with self._lock:
            written = [*self._retired, *([self._segment] if self._segment else [])]
        return sum(segment.size - max(segment.synced, 0) for segment in written)

    def flush(self) -> None:
        """Makes everything appended so far survive a power cut. Raises LogUnavailable."""
        current = self._segment  # before the retired ones, lest it retires in between
        self._close_retired()
        if current is not None:
            current.sync(current.size)

    @property
    def has_ended_segments(self) -> bool:
        """Whether a segment ended since the last checkpoint."""
        return bool(self._ended)

    def checkpoint(self) -> None:
        """Notes outside the log how far each segment is on the platter, if that is further than before.

        Raises LogFull or LogUnavailable; then the next one notes it.
        """
        if self._checkpoints is None:
            return
        self.flush()
        with self._noting:
            ended, current = tuple(self._ended), self._segment
            head = None if current is None else current.durable
            moved = [*ended, *([head] if head is not None and head != self._noted else [])]
            if moved:
                self._checkpoints.append(moved)
            self._noted = head
            del self._ended[: len(ended)]

    def vouch(self) -> None:
        """Notes what writers that died left without a checkpoint, where it fits what was noted of it."""
        if self._checkpoints is not None:
            heads = unvouched(self.directory, self._checkpoints.history())
            if heads:
                self._checkpoints.append(heads)

    def close(self) -> None:
        """Flushes, notes a last checkpoint and gives up the files; later appends raise LogUnavailable.

        Closing twice is fine. A checkpoint that cannot be written is logged: the next process vouches.
        """
        with self._lock:
            self._closed = True
            self._retire()
        self.flush()
        try:
            self.checkpoint()
        except LogUnavailable as error:
            structlog.get_logger().error("checkpoint.failed", error=str(error))

    def _current(self, now_ms: int) -> SegmentWriter:
        if self._closed:
            raise LogUnavailable(self.directory, "the log is closed", "the server is shutting down")
        segment = self._segment
        if segment is not None and (
            segment.size >= self._max_segment_bytes or now_ms >= self._old_from_ms or segment.damaged
        ):
            self._retire()
        if self._segment is None:
            self._old_from_ms = now_ms + self._max_segment_age_ms
            self._segment = SegmentWriter.create(self.directory, created_ms=now_ms, new_id=self._new_id)
        return self._segment

    def _close_retired(self) -> None:
        if not self._retired:  # looked at without the lock: it stands on the path of each append
            return
        with self._lock:
            retired, self._retired = self._retired, []
        with ExitStack() as stack:  # closes all of them, then raises what the last failure was
            for segment in reversed(retired):
                stack.callback(self._end, segment)

    def _end(self, segment: SegmentWriter) -> None:
        """Gives up a segment; the last word on how far it is, unless it was damaged, goes outside."""
        try:
            segment.close()
        finally:
            head = segment.durable
            if self._checkpoints is not None and head is not None:
                self._ended.append(replace(head, ended=not segment.damaged))

    def _retire(self) -> None:
        """Leaves the current segment to the next flush, so that no append waits for its fsync."""
        if self._segment is not None:
            self._retired.append(self._segment)
            self._segment = None
