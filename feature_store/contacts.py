"""What is kept of a customer's contacts: each one once, in order of time, no older than a window.

Pure: a store decodes the history, calls `extended` or `reserved`, and encodes what comes back. Counting
within windows is the decision's work (`engine/core/contact.py`); an event ahead of `now` counts there, so
none is dropped here for being early.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from hashlib import blake2b

from feature_store.state import ContactEvent, ContactHistory, OutcomeType, Reservation

DAY_MS = 86_400_000
DEFAULT_HISTORY_MS = 400 * DAY_MS
"""A year's window and a month to spare; no contact policy may look back further than the store keeps."""

KEY_BYTES = 16
"""Length of a key's digest: keys are client-made and of any length."""

ENDED_KEPT_MS = 3_600_000
"""How long an ended reservation is kept: longer than the clocks of two servers may differ."""

_Row = tuple[ContactEvent, bytes]


def key_digest(key: str) -> bytes:
    """A fixed-size stand-in for an idempotency key."""
    return blake2b(key.encode(errors="surrogatepass"), digest_size=KEY_BYTES).digest()


def extended(
    history: ContactHistory,
    event: ContactEvent,
    *,
    key: str,
    now_ms: int,
    keep_ms: int,
    settles: str | None = None,
) -> ContactHistory | None:
    """The history with one more contact and without what is too old; None if `key` was counted before.

    The contact takes the place of a reservation under the key `settles`, ended or not. Age is measured from
    the newest contact, but never from one ahead of `now_ms`: a single event with a wrong clock must not
    wipe out the contacts that caps count. A contact that is itself too old is accepted and forgotten: no
    window reaches it.
    """
    digest = key_digest(key)
    rows = _rows(history)
    if settles is not None:
        rows = _without_reservations(rows, {key_digest(settles)})
    if any(known == digest for _, known in rows):
        return None
    return _kept([*rows, (event, digest)], now_ms, keep_ms)


def reserved(
    history: ContactHistory, reservations: Iterable[Reservation], *, now_ms: int, keep_ms: int
) -> ContactHistory:
    """The history with reservations, each once, and without what is too old.

    A reservation made again replaces the earlier one under its key, so that it counts until the later end;
    what is already counted as a contact under its key stays as it is.
    """
    new = {key_digest(reservation.key): reservation.event for reservation in reservations}
    rows = _without_reservations(_rows(history), new)
    counted = {digest for _, digest in rows}
    rows += [(event, digest) for digest, event in new.items() if digest not in counted]
    return _kept(rows, now_ms, keep_ms)


def _rows(history: ContactHistory) -> list[_Row]:
    return list(zip(history.events, history.keys, strict=True))


def _without_reservations(rows: Iterable[_Row], digests: Container[bytes]) -> list[_Row]:
    return [row for row in rows if row[0].outcome is not OutcomeType.RESERVED or row[1] not in digests]


def _kept(rows: Sequence[_Row], now_ms: int, keep_ms: int) -> ContactHistory:
    """The rows in order of time, without contacts that are too old and reservations that ended long ago."""
    if not rows:
        return ContactHistory()
    horizon_ms = min(now_ms, max(event.at_ms for event, _ in rows))
    kept = sorted(
        (row for row in rows if row[0].at_ms > horizon_ms - keep_ms and not _long_ended(row[0], horizon_ms)),
        key=lambda row: row[0].at_ms,
    )
    return ContactHistory(tuple(event for event, _ in kept), tuple(digest for _, digest in kept))


def _long_ended(event: ContactEvent, horizon_ms: int) -> bool:
    """Whether a reservation ended so long ago that no clock takes it for a living one."""
    return event.until_ms is not None and event.until_ms + ENDED_KEPT_MS <= horizon_ms
