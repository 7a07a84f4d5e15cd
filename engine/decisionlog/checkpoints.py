"""Checkpoints: how far each segment of a log was, and its link there, kept outside the log.

A chain alone does not show that its end was cut off or that it was made anew from the start; who compares
it to what was noted elsewhere sees both. The file of a log holds one JSON object a line, appended by all
processes under a lock, each carrying the digest of the line before; with a key the digest is an HMAC, which
nobody can make who does not have the key. When the file has grown it is put aside under the number of its
last line, and the new one begins with what is known of every segment: one file always tells all.
"""

from __future__ import annotations

import errno
import fcntl
import hmac
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec

from engine.decisionlog.chain import Head
from engine.decisionlog.segment import write_failure

CHECKPOINT_SUFFIX: Final = ".checkpoints"
_HEADS_PER_LINE: Final = 100
_LONGEST_LINE_BYTES: Final = 1 << 16
MAX_FILE_BYTES: Final = 4 << 20
"""Where a new file begins: about 20,000 checkpoints, read in some 50 ms."""
_PLAIN, _KEYED = "sha256", "hmac-sha256"


class _Mark(msgspec.Struct, array_like=True):
    """A head in a line: segment id, size, link in hex, and whether the segment ended there."""

    segment_id: int
    size: int
    link: str
    ended: bool


class _Line(msgspec.Struct, kw_only=True):
    number: int
    at_ms: int
    heads: list[_Mark]
    previous: str
    seal: str
    digest: str = ""
    begins: bool = False  # a file, after another was put aside


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What was noted at one time: the heads that had moved since."""

    number: int
    at_ms: int
    heads: tuple[Head, ...]
    digest: str


@dataclass(frozen=True, slots=True)
class BrokenCheckpoint:
    """A line of the file that is not what was written; `line` counts from 1."""

    line: int
    cause: str


@dataclass(frozen=True, slots=True)
class CheckpointHistory:
    """All checkpoints of a log that can be read, in order, and those that cannot be believed.

    `authenticated` is None without a key: then the lines fit each other, but whoever may write the file
    could have written all of it. `by_segment` holds what was noted of each segment, with the time.
    """

    path: Path
    checkpoints: tuple[Checkpoint, ...]
    broken: tuple[BrokenCheckpoint, ...]
    authenticated: bool | None
    by_segment: Mapping[int, list[tuple[int, Head]]]

    def heads_of(self, segment_id: int) -> list[tuple[int, Head]]:
        """What was noted of one segment, with the time, in order."""
        return self.by_segment.get(segment_id, [])

    @property
    def last(self) -> Checkpoint | None:
        """The latest one; None where there is none."""
        return self.checkpoints[-1] if self.checkpoints else None


def _by_segment(checkpoints: Sequence[Checkpoint]) -> dict[int, list[tuple[int, Head]]]:
    found: dict[int, list[tuple[int, Head]]] = {}
    for checkpoint in checkpoints:
        for head in checkpoint.heads:
            found.setdefault(head.segment_id, []).append((checkpoint.at_ms, head))
    return found


def wall_clock_ms() -> int:
    """Now, in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class Checkpoints:
    """The checkpoints of one log, in a directory outside it. Safe for threads and processes."""

    def __init__(
        self,
        directory: Path,
        log: str,
        *,
        key: bytes = b"",
        clock: Callable[[], int] = wall_clock_ms,
        max_file_bytes: int = MAX_FILE_BYTES,
    ) -> None:
        self.path = directory / f"{log}{CHECKPOINT_SUFFIX}"
        self._log = log
        self._key = key
        self._clock = clock
        self._max_file_bytes = max_file_bytes

    @property
    def of_erasures(self) -> Checkpoints:
        """The checkpoints of the journal that says what was erased from the log."""
        return Checkpoints(self.path.parent, f"{self._log}-erasures", key=self._key, clock=self._clock)

    def prepare(self) -> None:
        """Makes the directory and the file. Raises LogUnavailable where checkpoints cannot be kept there."""
        with self._held():
            pass

    def append(self, heads: Sequence[Head]) -> None:
        """Notes heads, on the platter when it returns. Raises LogFull or LogUnavailable."""
        with self._held() as fd:
            if os.fstat(fd).st_size < self._max_file_bytes:
                self._append_lines(fd, heads, _last_line(fd))
                return
            known = {head.segment_id: head for c in self.history().checkpoints for head in c.heads}
            self._begin_anew([*(known | {h.segment_id: h for h in heads}).values()], _last_line(fd))

    def _begin_anew(self, heads: Sequence[Head], last: _Line | None) -> None:
        """Puts the file aside and one that tells all in its place; whoever looks meanwhile finds either.

        The lock of the old file is held: who waits for it finds out that it was put aside.
        """
        fresh = self.path.with_suffix(".new")  # a killed writer may have left one
        fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o640)
        try:
            self._append_lines(fd, heads, last)
            os.fsync(fd)
        finally:
            os.close(fd)
        aside = self._aside(0 if last is None else last.number)
        if not (aside.exists() and aside.samefile(self.path)):  # else a killed writer came as far as this
            aside.hardlink_to(self.path)
        fresh.replace(self.path)

    def _aside(self, number: int) -> Path:
        return self.path.with_name(f"{self._log}-{number}{CHECKPOINT_SUFFIX}")

    def earlier(self, number: int) -> CheckpointHistory:
        """The file, possibly put aside since, that holds a checkpoint; the present one where none does."""
        aside = {
            int(path.stem.rpartition("-")[2]): path
            for path in self.path.parent.glob(f"{self._log}-*{CHECKPOINT_SUFFIX}")
            if path.stem.removeprefix(f"{self._log}-").isdecimal()
        }
        last = min((n for n in aside if n >= number), default=None)
        return self._read(self.path if last is None else aside[last])

    def history(self) -> CheckpointHistory:
        """The checkpoints of the present file; empty where there is none yet."""
        return self._read(self.path)

    def _read(self, path: Path) -> CheckpointHistory:
        try:
            lines = path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            lines = []
        checkpoints: list[Checkpoint] = []
        broken: list[BrokenCheckpoint] = []
        before, number, was_keyed = "", 0, False
        for place, line in enumerate((raw for raw in lines if raw.endswith(b"\n")), start=1):
            try:
                read = msgspec.json.decode(line, type=_Line)
                checkpoint = _checkpoint(read)
            except (msgspec.MsgspecError, ValueError) as error:
                broken.append(BrokenCheckpoint(place, f"it cannot be read: {error}"))
                number += 1
                continue
            if place == 1 and read.begins:
                before, number = read.previous, read.number - 1
            cause = self._fault(read, before, number, was_keyed)
            if cause:
                broken.append(BrokenCheckpoint(place, cause))
            checkpoints.append(checkpoint)
            before, number, was_keyed = read.digest, read.number, was_keyed or read.seal == _KEYED
        authenticated = None if not self._key else was_keyed and not broken
        by_segment = _by_segment(checkpoints)
        return CheckpointHistory(path, tuple(checkpoints), tuple(broken), authenticated, by_segment)

    def _fault(self, line: _Line, before: str, number: int, was_keyed: bool) -> str:
        """What is wrong with a line that follows the one with digest `before`; "" for nothing."""
        if line.previous != before or line.number != number + 1:
            return "it does not follow the line before: lines were removed, moved or changed"
        if line.seal == _KEYED:
            wrong = bool(self._key) and not hmac.compare_digest(line.digest, _digest(line, self._key))
            return "its HMAC does not match: it was changed, or written with another key" if wrong else ""
        if was_keyed:
            return "it is not sealed with the key, as earlier lines are"
        return "" if line.digest == _digest(line, b"") else "it was changed: its digest does not match"

    @contextmanager
    def _held(self) -> Iterator[int]:
        """The open file, locked against other writers."""
        try:
            self.path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            fd = self._locked()
        except OSError as error:
            raise write_failure(self.path, error) from error
        try:
            yield fd
            os.fsync(fd)
        except OSError as error:
            raise write_failure(self.path, error) from error
        finally:
            os.close(fd)

    def _locked(self) -> int:
        """The file, once nobody else writes it and it is the present one."""
        while True:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o640)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                if self.path.exists() and os.path.samestat(os.fstat(fd), self.path.stat()):
                    return fd
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)  # it was put aside while we waited

    def _append_lines(self, fd: int, heads: Sequence[Head], last: _Line | None) -> None:
        begins = last is not None and os.fstat(fd).st_size == 0
        for start in range(0, len(heads), _HEADS_PER_LINE):
            part = heads[start : start + _HEADS_PER_LINE]
            line = _Line(
                number=1 if last is None else last.number + 1,
                at_ms=self._clock(),
                heads=[_Mark(head.segment_id, head.size, head.link.hex(), head.ended) for head in part],
                previous="" if last is None else last.digest,
                seal=_KEYED if self._key else _PLAIN,
                begins=begins and start == 0,
            )
            line.digest = _digest(line, self._key)
            _write_line(fd, line)
            last = line


def _write_line(fd: int, line: _Line) -> None:
    data = msgspec.json.encode(line) + b"\n"
    end = os.fstat(fd).st_size
    if os.write(fd, data) != len(data):
        os.ftruncate(fd, end)
        raise OSError(errno.ENOSPC, "the line was written in part")


def _checkpoint(line: _Line) -> Checkpoint:
    heads = tuple(Head(m.segment_id, m.size, bytes.fromhex(m.link), m.ended) for m in line.heads)
    return Checkpoint(line.number, line.at_ms, heads, line.digest)


def _digest(line: _Line, key: bytes) -> str:
    """The digest of a line without its own; it covers that of the line before."""
    whole = msgspec.json.encode((line.number, line.at_ms, line.heads, line.previous, line.seal, line.begins))
    return hmac.new(key, whole, sha256).hexdigest() if key else sha256(whole).hexdigest()


def _last_line(fd: int) -> _Line | None:
    """The last whole line; what a killed writer left after it is cut off. A line nobody can read is passed
    over: the next one then does not follow it, which `history` reports.
    """
    size = os.fstat(fd).st_size
    tail = os.pread(fd, _LONGEST_LINE_BYTES, max(0, size - _LONGEST_LINE_BYTES))
    whole = tail[: tail.rfind(b"\n") + 1]
    if len(whole) < len(tail):
        os.ftruncate(fd, size - len(tail) + len(whole))
    for line in reversed(whole.splitlines()):
        try:
            return msgspec.json.decode(line, type=_Line)
        except msgspec.MsgspecError:
            continue
    return None
