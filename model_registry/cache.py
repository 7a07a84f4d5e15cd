"""Copies of remote files by their digest: a server that starts again need not fetch what it has.

The copies need not be trusted: each is checked against its digest whenever it is read, and one that does not
fit is fetched anew. The folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from model_registry.disk import replace_durably


@dataclass(frozen=True, slots=True)
class FileCache:
    """A folder of copies, each named by its digest."""

    folder: Path

    @classmethod
    def of_this_user(cls) -> Self:
        """`arbiter/models` in the user's cache folder, which XDG_CACHE_HOME names, else ~/.cache."""
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return cls(Path(home) / "arbiter" / "models")

    def find(self, digest: str, *, max_bytes: int) -> bytes | None:
        """The copy with that digest; None where there is none that is whole."""
        path = self._path(digest)
        try:
            if path.stat().st_size > max_bytes:
                return None
            content = path.read_bytes()
        except OSError:
            return None
        return content if _has(digest, content) else None

    def keep(self, digest: str, content: bytes) -> None:
        """Keeps a copy where its digest is right; without a writable folder nothing is kept."""
        if not _has(digest, content):
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            replace_durably(self._path(digest), content)
        except OSError:
            return  # a cache that cannot be written only costs time

    def _path(self, digest: str) -> Path:
        return self.folder / digest.removeprefix("sha256:")


def _has(digest: str, content: bytes) -> bool:
    return digest == "sha256:" + hashlib.sha256(content).hexdigest()
