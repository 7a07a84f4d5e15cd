"""Changing the file of a segment that has ended: one process at a time, and whole or not at all."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from engine.decisionlog.segment import sync_directory, write_failure

_LOCK: Final = "changing.lock"
_SCRATCH_SUFFIX: Final = ".replacing"


@contextmanager
def changing(directory: Path, *, patient: bool = True) -> Iterator[bool]:
    """Holds the right to change segments that are written; readers and writers of new records go on.

    Gives whether it is held: without `patient` false where another process has it. Removes what a process
    that was killed had begun, as there may be records in it that are to be forgotten. Raises LogUnavailable.
    """
    try:
        fd = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT, 0o640)
    except OSError as error:
        raise write_failure(directory, error) from error
    try:
        held = _locked(fd, patient=patient)
        if held:
            for scratch in directory.glob(f"*{_SCRATCH_SUFFIX}"):
                scratch.unlink()
        yield held
    finally:
        os.close(fd)


def _locked(fd: int, *, patient: bool) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if patient else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` in one step when the block ends well, then durable.

    Whoever has the old one open reads on in it. Needs `changing`. Raises OSError.
    """
    scratch = path.with_suffix(_SCRATCH_SUFFIX)
    try:
        with os.fdopen(os.open(scratch, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o640), "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)
