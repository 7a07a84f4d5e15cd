"""Idempotency keys in an LMDB environment of their own, which end by themselves.

A claim is taken on the decision path, so commits are not fsynced. It survives kill -9, since the system keeps
written pages, but LMDB without sync may be damaged by a power cut: hence `open_claims` empties the
environment when the machine has booted since it was made.
"""

from __future__ import annotations

import shutil
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from feature_store.embedded.environment import Environment
from feature_store.errors import StoreUnavailable

if TYPE_CHECKING:
    from feature_store.embedded.environment import Snapshot

_DATABASES = ((b"claims", False), (b"expiries", False))
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_EXPIRED_PER_CLAIM = 8
"""Expired claims removed with each new one: more than one, so that the database shrinks back."""

_DIGEST_BYTES = 16
_INSTANT_BYTES = 8


def open_claims(path: Path, *, map_size_bytes: int) -> Claims:
    """Opens the claims in a directory. One process at a time may call it."""
    fsync = _forget_earlier_boot(path)
    return Claims(Environment(path, map_size_bytes=map_size_bytes, databases=_DATABASES, sync=fsync))


class Claims:
    """Claims by digest of their key, and an index by the instant they end."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._values, self._expiries = environment.databases

    def claim(self, key: str, value: bytes, *, now_ms: int, ttl_ms: int) -> bytes | None:
        """Takes an idempotency key for `ttl_ms`, or returns the value of the claim that holds it.

        With `ttl_ms` 0 it only looks: a claim that ends at once is not worth a write.
        """
        digest, now, expires = _digest(key), _instant(now_ms), _instant(now_ms + ttl_ms)
        if expires <= now:
            return self._environment.read(lambda txn: self._held(txn, digest, now))

        def take(txn: Snapshot) -> bytes | None:
            held = self._held(txn, digest, now)
            if held is None:
                self._drop_claim(txn, digest)
                txn.put(digest, expires + value, db=self._values)
                txn.put(expires + digest, b"", db=self._expiries)
                self._drop_expired(txn, now)
            return held

        return self._environment.write(take)

    def release(self, key: str, value: bytes) -> None:
        """Removes a claim if it still holds `value`."""
        digest = _digest(key)

        def drop(txn: Snapshot) -> None:
            stored = txn.get(digest, db=self._values)
            if stored is not None and stored[_INSTANT_BYTES:] == value:
                self._drop_claim(txn, digest)

        self._environment.write(drop)

    def close(self) -> None:
        """Closes the environment."""
        self._environment.close()

    def _held(self, txn: Snapshot, digest: bytes, now: bytes) -> bytes | None:
        """The value of an unexpired claim; a claim ends at its expiry, not after."""
        stored = txn.get(digest, db=self._values)
        return stored[_INSTANT_BYTES:] if stored is not None and stored[:_INSTANT_BYTES] > now else None

    def _drop_claim(self, txn: Snapshot, digest: bytes) -> None:
        stored = txn.pop(digest, db=self._values)
        if stored is not None:
            txn.delete(stored[:_INSTANT_BYTES] + digest, db=self._expiries)

    def _drop_expired(self, txn: Snapshot, now: bytes) -> None:
        """Removes the claims that ended first, a bounded number, so that no call pays for many."""
        with txn.cursor(self._expiries) as cursor:
            for _ in range(_EXPIRED_PER_CLAIM):
                if not cursor.first() or cursor.key()[:_INSTANT_BYTES] > now:
                    return
                txn.delete(cursor.key()[_INSTANT_BYTES:], db=self._values)
                cursor.delete()


def _digest(key: str) -> bytes:
    return blake2b(key.encode(errors="surrogatepass"), digest_size=_DIGEST_BYTES).digest()


def _instant(at_ms: int) -> bytes:
    """An instant whose bytes sort as time does."""
    return max(at_ms, 0).to_bytes(_INSTANT_BYTES, "big")


def _forget_earlier_boot(path: Path) -> bool:
    """Empties the claims that a power cut may have damaged; whether claims need fsync.

    They do where the system does not tell one boot from the next.
    """
    try:
        boot = _BOOT_ID.read_bytes().strip()
    except OSError:
        return True
    made_in = path.with_suffix(".boot")
    try:
        if made_in.exists() and made_in.read_bytes() == boot:
            return False
        if path.exists():
            shutil.rmtree(path)
        made_in.write_bytes(boot)
    except OSError as error:
        raise StoreUnavailable(f"{path}: cannot be emptied after a reboot: {error}; remove it") from error
    return False
