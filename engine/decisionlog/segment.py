"""Writing one segment file: append-only, with one writer, recoverable after a full disk.

A writer creates its own segment and never appends to another's. While it lives it holds an exclusive
flock on the file, so readers can tell a tail that is being written from one that was torn.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Self

from engine.decisionlog.chain import Head, first_link, seal
from engine.decisionlog.errors import LogFull, LogUnavailable
from engine.decisionlog.frame import HEADER_BYTES, MAX_OFFSET, MAX_SEGMENT_ID, Header, pack_frame, pack_header

SEGMENT_SUFFIX: Final = ".seg"
_SEGMENT_STEM: Final = re.compile("[0-9a-f]{10}")
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

NewId = Callable[[Path], int]
"""Proposes the id of the next segment of a directory; it is asked again where the id is taken."""


def segment_path(directory: Path, segment_id: int) -> Path:
    """Where a segment lies; the name is its id in hex."""
    return directory / f"{segment_id:010x}{SEGMENT_SUFFIX}"


def segment_ids(directory: Path) -> Iterator[int]:
    """Ids of the segments in a directory, in no order; files with other names are not ours."""
    for path in directory.glob(f"*{SEGMENT_SUFFIX}"):
        if _SEGMENT_STEM.fullmatch(path.stem):
            yield int(path.stem, 16)


def random_id(directory: Path) -> int:  # noqa: ARG001  # the signature is that of NewId
    """An id nobody can guess, for logs whose positions are handed out."""
    return secrets.randbits(40)


def sequential_id(directory: Path) -> int:
    """The id after the highest in the directory, for logs whose positions should be small and grow."""
    return max(segment_ids(directory), default=0) + 1


class SegmentWriter:
    """The only writer of one segment file. `append` needs outer locking; `sync` and `close` do not."""

    __slots__ = (
        "_durable", "_entry_synced", "_fd", "_head", "_sync_lock", "_synced", "damaged", "path", "segment_id",
    )  # fmt: skip

    def __init__(self, *, path: Path, fd: int, head: Head) -> None:
        self.path = path
        self.segment_id = head.segment_id
        self.damaged = False  # it must not be appended to any more
        self._fd = fd
        self._head = head
        self._durable: Head | None = None
        self._synced = 0
        self._entry_synced = False
        self._sync_lock = threading.Lock()

    @classmethod
    def create(cls, directory: Path, *, created_ms: int, new_id: NewId = random_id) -> Self:
        """Starts a new segment. Raises LogUnavailable or LogFull where the directory does not let it."""
        try:
            directory.mkdir(mode=0o750, parents=True, exist_ok=True)
            path, segment_id, fd = _create_exclusively(directory, new_id)
        except OSError as error:
            raise write_failure(directory, error) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            header = pack_header(Header(segment_id, created_ms))
            _write_all(fd, header, 0)
        except OSError as error:
            os.close(fd)
            path.unlink(missing_ok=True)
            raise write_failure(path, error) from error
        return cls(path=path, fd=fd, head=Head(segment_id, HEADER_BYTES, first_link(header)))

    @property
    def size(self) -> int:
        """Bytes of the header and of all whole frames: the offset of the next one."""
        return self._head.size

    @property
    def durable(self) -> Head | None:
        """How far the segment is known to survive a power cut, with the link there; None where nothing is."""
        return self._durable

    @property
    def synced(self) -> int:
        """Bytes that are known to survive a power cut."""
        return self._synced

    def append(self, payload: bytes) -> int:
        """Writes one frame with one system call and returns its offset.

        Once it returns, the frame survives the death of this process. Raises ValueError for a payload that
        cannot be framed, and LogFull or LogUnavailable with nothing recorded.
        """
        offset = self._head.size
        sealed, link = seal(payload, before=self._head.link, segment_id=self.segment_id, offset=offset)
        frame = pack_frame(sealed, segment_id=self.segment_id, offset=offset)
        if self.damaged or offset > MAX_OFFSET:
            raise LogUnavailable(self.path, "the segment is at its end", "write to the next one")
        try:
            _write_all(self._fd, frame, offset)
        except OSError as error:
            self._cut_back(offset)
            raise write_failure(self.path, error) from error
        self._head = Head(self.segment_id, offset + len(frame), link)
        return offset

    def sync(self, end: int) -> None:
        """Makes the first `end` bytes survive a power cut; threads that wait together share one fsync.

        Raises LogUnavailable for good once an fsync failed: the kernel reports a loss only once, so a
        second fsync that succeeds would prove nothing.
        """
        with self._sync_lock:
            if self._synced < end:
                self._sync_locked()

    def close(self) -> None:
        """Syncs what is left and gives up the file and its lock. Closing twice is fine."""
        with self._sync_lock:
            if self._fd < 0:
                return
            try:
                if 0 <= self._synced < self._head.size:  # a failed fsync has been told already
                    self._sync_locked()
            finally:
                os.close(self._fd)
                self._fd = -1

    def _sync_locked(self) -> None:
        if self._fd < 0 or self._synced < 0:
            raise LogUnavailable(
                self.path, "an earlier fsync failed", "look for disk errors in the kernel log"
            )
        target = self._head
        try:
            os.fdatasync(self._fd)
            if not self._entry_synced:
                sync_directory(self.path.parent)
                self._entry_synced = True
        except OSError as error:
            self.damaged, self._synced = True, -1
            raise write_failure(self.path, error) from error
        self._synced, self._durable = target.size, target

    def _cut_back(self, size: int) -> None:
        try:
            os.ftruncate(self._fd, size)
        except OSError:
            self.damaged = True  # readers see a torn tail; the next record goes to a new segment


def write_failure(path: Path, error: OSError) -> LogUnavailable:
    """The error to raise where the system refused to write to `path`."""
    cause = error.strerror or str(error)
    if error.errno in _NO_SPACE:
        return LogFull(path, cause, _free_bytes(path))
    return LogUnavailable(path, cause, "check that the directory exists, is writable and its disk healthy")


def _create_exclusively(directory: Path, new_id: NewId) -> tuple[Path, int, int]:
    while True:
        segment_id = new_id(directory)
        if not 0 <= segment_id <= MAX_SEGMENT_ID:
            raise LogUnavailable(directory, "segment ids are used up", "start a new directory")
        path = segment_path(directory, segment_id)
        try:
            return path, segment_id, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o640)
        except FileExistsError:
            continue


def _write_all(fd: int, data: bytes, offset: int) -> None:
    written = os.pwrite(fd, data, offset)
    while written < len(data):  # a short write: the next one succeeds or says why not
        written += os.pwrite(fd, data[written:], offset + written)


def sync_directory(directory: Path) -> None:
    """Makes names in a directory survive a power cut. Raises OSError."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_file(path: Path) -> None:
    """Makes what was written to a file survive a power cut. Raises OSError."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _free_bytes(path: Path) -> int | None:
    try:
        found = os.statvfs(path if path.exists() else path.parent)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize
