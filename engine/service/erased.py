"""Who was erased, so that nobody comes back unasked: a chained register that holds no id, only keyed digests.

The key lies beside the register, readable by its owner only. Who has both can ask whether an id they know was
erased, and learn nothing else. Without the key nothing can be told of anybody, so its loss is an error.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final

from engine.decisionlog.errors import LogUnavailable
from engine.decisionlog.journal import MAX_SEGMENT_BYTES
from engine.decisionlog.ledger import Ledger, journal_of

_KEY_FILE: Final = "key"
_KEY_BYTES: Final = 32
_CHANGES_FILE: Final = "changes"
"""Grows by a byte after each entry, so that one call of the system tells whether there is a new one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasedEntry:
    """That somebody was erased, or with `readmitted` may be a customer again: when, by whom and why."""

    subject: str
    actor: str
    reason: str
    received_at_ms: int
    readmitted: bool = False


def nobody(_customer_id: str) -> ErasedEntry | None:
    """The entry of a customer in an empty register."""
    return None


class ErasedCustomers:
    """The register of a data directory. Processes that look see at once what another one adds."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._changes_path = directory / _CHANGES_FILE
        self._changes_name = str(self._changes_path)
        self._lock = threading.Lock()
        self._seen: int | None = None
        self._entry: Callable[[str], ErasedEntry | None] = nobody

    def entry(self, customer_id: str) -> ErasedEntry | None:
        """The erasure of a customer who was not readmitted since, else None. Raises LogError."""
        return self.now()(customer_id)

    def now(self) -> Callable[[str], ErasedEntry | None]:
        """`entry` as the register is now, for many customers. The same object while nobody is added.

        Raises LogError.
        """
        changes = self._changes()
        with self._lock:
            if changes != self._seen:
                self._entry = self._read()
                self._seen = changes
            return self._entry

    def add(
        self, customer_id: str, *, actor: str, reason: str, now_ms: int, readmitted: bool = False
    ) -> None:
        """Notes an erasure or a readmission; on disk when it returns. `actor` and `reason` name nobody."""
        with self._opened() as register:
            register.append(
                ErasedEntry(
                    subject=_subject(customer_id, self._key()),
                    actor=actor,
                    reason=reason,
                    received_at_ms=now_ms,
                    readmitted=readmitted,
                )
            )
        self.announce()

    def announce(self) -> None:
        """Makes every process look at the register again. Raises LogUnavailable."""
        try:
            with self._changes_path.open("ab") as file:
                file.write(b".")
        except OSError as error:
            path = self._changes_path
            raise LogUnavailable(path, f"cannot be written: {error.strerror}", "make room for it") from error

    def _changes(self) -> int:
        """How often somebody was added; -1 for never."""
        try:
            return os.stat(self._changes_name).st_size  # noqa: PTH116  # twice for each decision
        except OSError:
            return -1

    def _read(self) -> Callable[[str], ErasedEntry | None]:
        """The register as it is, from its files."""
        if not self._directory.is_dir():
            return nobody
        last = {entry.subject: entry for entry in self._register().replay()}
        if not last:
            return nobody
        key = self._key()

        def entry(customer_id: str) -> ErasedEntry | None:
            found = last.get(_subject(customer_id, key))
            return None if found is None or found.readmitted else found

        return entry

    @contextmanager
    def _opened(self) -> Iterator[Ledger[ErasedEntry]]:
        with self._register() as register:
            self._make_key()
            yield register

    def _register(self) -> Ledger[ErasedEntry]:
        return Ledger(journal_of(self._directory, 0, MAX_SEGMENT_BYTES, None), ErasedEntry)

    def _key(self) -> bytes:
        path = self._directory / _KEY_FILE
        try:
            return path.read_bytes()
        except OSError as error:
            raise LogUnavailable(
                path, f"the key of the register of erased customers: {error.strerror}", "restore it"
            ) from error

    def _make_key(self) -> None:
        """Makes the key with the register, never beside one that has entries."""
        path = self._directory / _KEY_FILE
        if path.exists() or any(self._register().replay()):
            return
        waiting = path.with_name(f"{_KEY_FILE}.{os.getpid()}")
        waiting.touch(mode=0o600)
        waiting.write_bytes(secrets.token_bytes(_KEY_BYTES))
        try:
            os.link(waiting, path)  # whole or not at all, and the first of two processes wins
        except FileExistsError:
            pass
        finally:
            waiting.unlink()


def _subject(customer_id: str, key: bytes) -> str:
    encoded = customer_id.encode(errors="surrogatepass")
    return blake2b(encoded, key=key, digest_size=16).hexdigest()
