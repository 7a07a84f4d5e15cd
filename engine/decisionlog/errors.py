"""What can go wrong with the append-only files.

LogError
├── LogUnavailable       nothing was recorded; the caller must not act as if it were
│   └── LogFull          no space; recording goes on by itself when there is some again
├── LogCorrupt           bytes on disk are not what was written
├── UnreadableRecord     the bytes are whole, but this engine does not understand them
└── InvalidDecisionId    not a decision id at all (also a ValueError)
"""

from __future__ import annotations

from pathlib import Path


class LogError(Exception):
    """Base of everything the append-only files raise."""


class LogUnavailable(LogError):
    """A record could not be written, or not made durable. `advice` says what an operator can do."""

    def __init__(self, path: Path, cause: str, advice: str) -> None:
        super().__init__(f"{path}: not recorded: {cause}; {advice}")
        self.path = path
        self.cause = cause
        self.advice = advice


class LogFull(LogUnavailable):
    """There is no space for a record. `free_bytes` is what the file system still offers, if it says."""

    def __init__(self, path: Path, cause: str, free_bytes: int | None) -> None:
        left = "free bytes unknown" if free_bytes is None else f"{free_bytes} bytes free"
        advice = "free or add space, or raise the quota or file size limit; recording then goes on by itself"
        super().__init__(path, f"{cause} ({left})", advice)
        self.free_bytes = free_bytes


class LogCorrupt(LogError):
    """Bytes in the middle of a file are not what was written; `offset` is where that starts."""

    def __init__(self, path: Path, offset: int, cause: str) -> None:
        advice = "keep the file as evidence and restore it from a copy; records after the damage can be read"
        super().__init__(f"{path}: corrupt at byte {offset}: {cause}; {advice}")
        self.path = path
        self.offset = offset


class UnreadableRecord(LogError):
    """A record or segment that passed its checksum cannot be decoded, e.g. a newer engine wrote it."""


class InvalidDecisionId(LogError, ValueError):
    """The text cannot be a decision id; the message says why."""
