"""What is kept of a customer's contacts: each one once, in order of time, no older than a window.

Pure: a store decodes the history, calls `extended`, and encodes what comes back. Counting within windows
is the decision's work (`engine/core/contact.py`); an event ahead of `now` counts there, so none is
dropped here for being early.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from feature_store.state import ContactEvent

DAY_MS = 86_400_000
DEFAULT_HISTORY_MS = 400 * DAY_MS
"""A year's window and a month to spare; no contact policy may look back further than the store keeps."""

KEY_BYTES = 16
"""Length of a key's digest: keys are client-made and of any length."""


@dataclass(frozen=True, slots=True)
class ContactHistory:
    """Contacts in order of time, and for each the digest of the key it was counted under."""

    events: tuple[ContactEvent, ...] = ()
    keys: tuple[bytes, ...] = ()


def key_digest(key: str) -> bytes:
    """A fixed-size stand-in for an idempotency key."""
    return blake2b(key.encode(errors="surrogatepass"), digest_size=KEY_BYTES).digest()


def extended(
    history: ContactHistory, event: ContactEvent, *, key: str, now_ms: int, keep_ms: int
) -> ContactHistory | None:
    """The history with one more contact and without those that are too old; None if `key` is in it.

    Age is measured from the newest contact, but never from one ahead of `now_ms`: a single event with a
    wrong clock must not wipe out the contacts that caps count. A contact that is itself too old is
    accepted and forgotten: no window reaches it.
    """
    digest = key_digest(key)
    if digest in history.keys:
        return None
    rows = sorted(
        zip((*history.events, event), (*history.keys, digest), strict=True), key=lambda row: row[0].at_ms
    )
    oldest_ms = _horizon([e for e, _ in rows], now_ms) - keep_ms
    kept = [(e, k) for e, k in rows if e.at_ms > oldest_ms]
    return ContactHistory(tuple(e for e, _ in kept), tuple(k for _, k in kept))


def _horizon(events: Sequence[ContactEvent], now_ms: int) -> int:
    """The instant from which age is measured."""
    return min(now_ms, max(e.at_ms for e in events))
