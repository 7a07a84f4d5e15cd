"""How far somebody who reads a log beside its writers has come, kept on disk so that they go on there."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from engine.decisionlog.errors import LogCorrupt, LogUnavailable
from engine.decisionlog.frame import HEADER_BYTES
from engine.decisionlog.reading import Segment, find_segment, stored_frames
from engine.decisionlog.segment import segment_ids, segment_path, sync_directory, write_failure

FileState = tuple[int, int]
"""Size and time of a file's last change."""
Settled = dict[int, FileState]
"""How the file of a segment was when it was read to its end, by segment id."""


class Cursor(msgspec.Struct, kw_only=True):
    """`places` is the offset behind the last record that was handled, by log and segment id in hex.

    `runs` have ended well; `policy` is what masked them; `erased_ms` is when the last erasure was made that
    was followed.
    """

    places: dict[str, dict[str, int]] = {}
    runs: int = 0
    policy: str = ""
    erased_ms: int = 0


Kept = TypeVar("Kept", bound=Cursor)


@dataclass(frozen=True, slots=True)
class NewRecord:
    """A record that was not handled yet; `body` is None where it was erased."""

    segment_id: int
    offset: int
    end: int
    body: bytes | None


def read_cursor(path: Path, kind: type[Kept]) -> Kept:
    """Where one is; at the beginning where there is no file. Raises LogCorrupt and LogUnavailable."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return kind()
    except msgspec.MsgspecError as error:
        raise LogCorrupt(path, 0, f"it is no cursor: {error}") from error
    except OSError as error:
        raise LogUnavailable(path, error.strerror or str(error), "check its owner and mode") from error


class Bookmark(Generic[Kept]):
    """Where one is in a log that is followed: it moves on over what was handled, and is on disk then.

    `cursor` may hold more, which is kept with it.
    """

    def __init__(self, directory: Path, path: Path, kind: type[Kept]) -> None:
        """`path` is the file of the cursor. Raises LogCorrupt and LogUnavailable."""
        self.cursor = read_cursor(path, kind)
        self._directory = directory
        self._path = path
        self._settled: Settled = {}

    def new(self) -> Iterator[NewRecord]:
        """Records behind it that are written now. Raises LogCorrupt."""
        return new_records(self._directory, dict(self._places), settled=self._settled)

    def passed(self, records: Iterable[NewRecord]) -> None:
        """Moves on over records, in memory until it is kept."""
        self.cursor.places[self._directory.name] = self._places | {
            f"{record.segment_id:010x}": record.end for record in records
        }

    def keep(self) -> None:
        """Puts it on disk. Raises LogUnavailable."""
        write_cursor(self._path, self.cursor)

    @property
    def _places(self) -> dict[str, int]:
        return self.cursor.places.get(self._directory.name, {})


def write_cursor(path: Path, cursor: Cursor) -> None:
    """Keeps a cursor, on the platter when it returns: the old one or the new one. Raises LogUnavailable."""
    scratch = path.with_suffix(".part")
    try:
        with scratch.open("wb") as file:
            file.write(msgspec.json.encode(cursor))
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        raise write_failure(path, error) from error


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Makes the folder of a cursor and keeps others out of it. Raises LogUnavailable where somebody is in."""
    try:
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o640)
    except OSError as error:
        raise write_failure(folder, error) from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LogUnavailable(folder, "another process is at it", "wait until it has ended") from error
        yield
    finally:
        os.close(fd)


def new_records(
    directory: Path, places: dict[str, int], *, settled: Settled | None = None
) -> Iterator[NewRecord]:
    """Records behind `places`, segment by segment, which move on once the next one is asked for.

    Ends with what is written now. Who asks again and again gives `settled`, where it is kept which files were
    read to their end: they are opened again once they change. Raises LogCorrupt; a torn end is no record.
    """
    if not directory.is_dir():
        return
    known = {} if settled is None else settled
    for segment, state in _changed(directory, known):
        name = f"{segment.segment_id:010x}"
        for frame in stored_frames(segment, start=places.get(name, HEADER_BYTES)):
            yield NewRecord(segment.segment_id, frame.offset, frame.end, frame.body)
            places[name] = frame.end
        known[segment.segment_id] = state


def _changed(directory: Path, known: Settled) -> list[tuple[Segment, FileState]]:
    """Segments that are not as they were when they were read, oldest first, with how they are now."""
    found = []
    for segment_id in segment_ids(directory):
        file = segment_path(directory, segment_id).stat()
        state = file.st_size, file.st_mtime_ns
        if known.get(segment_id) != state:
            found.append((find_segment(directory, segment_id), state))
    return sorted(found, key=lambda one: (one[0].created_ms or 0, one[0].segment_id))
