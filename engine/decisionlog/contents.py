"""The bytes of a segment as written, whether its file is compressed or not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from engine.decisionlog.frame import HEADER_BYTES, Header, unpack_header
from engine.decisionlog.packed import ZSTANDARD, PackedContents


class Contents(Protocol):
    """What a segment holds. It stays the same though the file be replaced, up to its `size`."""

    size: int
    """Bytes as written when it was opened."""
    format: int | None
    """Of its frames; None where the header is unreadable."""
    lost_bytes: int
    """Bytes of a compressed file behind `size` of which nothing can be told."""

    @property
    def compressed(self) -> bool:
        """Whether the file is; then it was whole to its end, and nobody appends to it."""
        ...

    def at(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from an offset; fewer only at the end."""
        ...


_WINDOW_BYTES: Final = 1 << 18
"""Read at once: for each read, a thread gives the interpreter away and may wait long to have it back."""


class PlainContents:
    """A file that is as it was written, read in windows."""

    compressed: Final = False
    lost_bytes: int = 0

    def __init__(self, fd: int, header: Header | None) -> None:
        self._fd = fd
        self.format = None if header is None else header.format
        self.size = os.fstat(fd).st_size
        self._window = b""
        self._window_at = 0

    def at(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from an offset; fewer only at the end."""
        start = offset - self._window_at
        if start < 0 or start + length > len(self._window):
            self._window, self._window_at, start = (
                os.pread(self._fd, max(length, _WINDOW_BYTES), offset), offset, 0,
            )  # fmt: skip
        return self._window[start : start + length]


@contextmanager
def opened(path: Path) -> Iterator[Contents]:
    """What the file of a segment holds. Raises OSError."""
    fd = os.open(path, os.O_RDONLY)
    try:
        yield contents_of(fd)
    finally:
        os.close(fd)


def contents_of(fd: int) -> Contents:
    """What an open file of a segment holds."""
    start = os.pread(fd, HEADER_BYTES + len(ZSTANDARD), 0)
    try:
        header = unpack_header(start)
    except ValueError:
        header = None
    compressed = start.endswith(ZSTANDARD) if header is None else header.compressed
    return PackedContents(fd, header) if compressed else PlainContents(fd, header)
