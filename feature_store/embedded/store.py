"""The online store on LMDB: durable, crash-safe, shared by all processes of one machine.

Two environments live in the data directory:

- `state/` holds customers, consents, contacts, signals and identities, one named database each. Every
  commit is fsynced (LMDB's default flags), so what was acknowledged survives kill -9 and power loss, and
  every process sees it in its next read. Measured at about 0.2 ms a commit on a local SSD.
- `claims/` holds idempotency keys, which live for minutes and are taken on the decision path. It is not
  fsynced (about 10 us a claim): it survives kill -9, since the system keeps written pages, but not a
  power cut, after which LMDB without sync may be damaged. So it is emptied when the machine has booted
  since it was made; a request repeated across the reboot is then decided afresh.

Contacts are unique by (customer, key). Each process opens the directory itself, after spawn, never before
fork; within a process one store is shared by all threads.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from feature_store import layout
from feature_store.consents import prevailing
from feature_store.contacts import DEFAULT_HISTORY_MS, ContactHistory, extended
from feature_store.embedded.claims import Claims, open_claims
from feature_store.embedded.environment import DEFAULT_MAP_BYTES, MAX_KEY_BYTES, Environment
from feature_store.errors import StoreRefused, StoreUnavailable
from feature_store.state import (
    ConsentRecord,
    ConsentState,
    ContactEvent,
    CustomerState,
    FeatureVector,
    Identity,
    Signal,
)

if TYPE_CHECKING:
    from feature_store.embedded.environment import Database, Snapshot

_STATE = (
    (b"customers", False),
    (b"consents", False),
    (b"contacts", False),
    (b"signals", False),
    (b"identities", True),
)
_RECORDED = frozenset(
    {ConsentState.GRANTED, ConsentState.DENIED, ConsentState.WITHDRAWN, ConsentState.OBJECTED}
)
_PAGE_OF_IDS = 1000
_DIGEST_BYTES = 16


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


def open_embedded(
    data_dir: Path,
    *,
    map_size_bytes: int = DEFAULT_MAP_BYTES,
    contact_history_ms: int = DEFAULT_HISTORY_MS,
    clock: Callable[[], int] = _wall_clock_ms,
) -> EmbeddedStore:
    """Opens the store in a directory, made where it does not exist.

    `contact_history_ms` must cover the longest window of the contact policies. `clock` is only compared
    with contacts to find those too old to keep. Raises StoreUnavailable where the directory cannot be
    used or is open in this process, StoreCorrupt where it holds something else.
    """
    with _one_opener(data_dir):
        state = Environment(data_dir / "state", map_size_bytes=map_size_bytes, databases=_STATE, sync=True)
        try:
            claims = open_claims(data_dir / "claims", map_size_bytes=map_size_bytes)
        except BaseException:
            state.close()
            raise
    return EmbeddedStore(state, claims, contact_history_ms=contact_history_ms, clock=clock)


class EmbeddedStore:
    """Customer state on the local disk. Made by `open_embedded`."""

    def __init__(
        self, state: Environment, claims: Claims, *, contact_history_ms: int, clock: Callable[[], int]
    ) -> None:
        self._state = state
        self._claims = claims
        self._contact_history_ms = contact_history_ms
        self._clock = clock
        self._customers, self._consents, self._contacts, self._signals, self._identities = state.databases
        self._read_databases = state.databases[:4]

    def read(self, customer_id: str) -> CustomerState | None:
        """Everything a decision needs, from one snapshot. Raises StoreCorrupt for a damaged value."""
        try:
            key = _key(customer_id)
        except StoreRefused:
            return None  # no customer can have been kept under it
        features, consents, contacts, signals = self._state.get(key, self._read_databases)
        if features is None:
            return None
        return layout.decode_state(customer_id, features, consents, contacts, signals)

    def resolve(self, identity: Identity) -> tuple[str, ...]:
        """Ids of the customers that carry the identity, sorted."""
        digest = _identity_digest(identity)

        def values(txn: Snapshot) -> tuple[str, ...]:
            with txn.cursor(self._identities) as cursor:
                if not cursor.set_key(digest):
                    return ()
                return tuple(bytes(value).decode() for value in cursor.iternext_dup())

        return self._state.read(values)

    def customers(self) -> Iterator[str]:
        """Ids of all customers in order; sees a snapshot of a thousand at a time."""
        page = self._page_of_customers(b"")
        while page:
            yield from (key.decode() for key in page)
            page = self._page_of_customers(page[-1])

    def _page_of_customers(self, after: bytes) -> list[bytes]:
        return self._state.read(lambda txn: _keys_after(txn, self._customers, after))

    def put_customers(self, customers: Iterable[tuple[str, FeatureVector]]) -> int:
        """Creates customers or replaces their features, all of them or none; returns how many."""
        packed = [(_key(name), layout.encode_features(name, vector)) for name, vector in customers]

        def put(txn: Snapshot) -> None:
            for key, value in packed:
                txn.put(key, value, db=self._customers)

        self._state.write(put)
        return len({key for key, _ in packed})

    def link(self, links: Iterable[tuple[Identity, str]]) -> None:
        """Adds identities to customers, known or not yet known."""
        pairs = [(_identity_digest(identity), _key(customer_id)) for identity, customer_id in links]

        def put(txn: Snapshot) -> None:
            for digest, key in pairs:
                txn.put(digest, key, db=self._identities)

        self._state.write(put)

    def put_consents(self, records: Iterable[tuple[str, ConsentRecord]]) -> None:
        """Projects consents, of known customers or not yet known; the prevailing record is kept."""
        offered: dict[str, list[ConsentRecord]] = {}
        for customer_id, record in records:
            _check_recordable(customer_id, record)
            offered.setdefault(customer_id, []).append(record)

        def put(txn: Snapshot) -> None:
            for customer_id, new in offered.items():
                key = _key(customer_id)
                stored = txn.get(key, db=self._consents)
                current = layout.decode_consents(customer_id, stored) if stored is not None else ()
                merged = _merge_consents(current, new)
                txn.put(key, layout.encode_consents(customer_id, merged), db=self._consents)

        self._state.write(put)

    def put_signals(self, customer_id: str, signals: Iterable[Signal]) -> None:
        """Replaces the customer's signals of the same names."""
        key, new = _key(customer_id), {signal.name: signal for signal in signals}

        def put(txn: Snapshot) -> None:
            stored = txn.get(key, db=self._signals)
            current = layout.decode_signals(customer_id, stored) if stored is not None else ()
            merged = {signal.name: signal for signal in current} | new
            value = layout.encode_signals(customer_id, [merged[name] for name in sorted(merged)])
            txn.put(key, value, db=self._signals)

        self._state.write(put)

    def record_contact(self, customer_id: str, event: ContactEvent, *, key: str) -> bool:
        """Counts a contact once for each customer and `key`; on disk when it returns."""
        place, now_ms = _key(customer_id), self._clock()

        def put(txn: Snapshot) -> bool:
            stored = txn.get(place, db=self._contacts)
            history = layout.decode_contacts(customer_id, stored) if stored is not None else ContactHistory()
            longer = extended(history, event, key=key, now_ms=now_ms, keep_ms=self._contact_history_ms)
            if longer is None:
                return False
            txn.put(place, layout.encode_contacts(customer_id, longer), db=self._contacts)
            return True

        return self._state.write(put)

    def claim(self, key: str, value: bytes, *, now_ms: int, ttl_ms: int) -> bytes | None:
        """Takes an idempotency key until `now_ms + ttl_ms`, or returns the value that holds it."""
        return self._claims.claim(key, value, now_ms=now_ms, ttl_ms=ttl_ms)

    def release(self, key: str, value: bytes) -> None:
        """Removes a claim if it still holds `value`."""
        self._claims.release(key, value)

    def close(self) -> None:
        """Closes both environments; further calls raise StoreUnavailable."""
        self._claims.close()
        self._state.close()


def _key(customer_id: str) -> bytes:
    try:
        key = customer_id.encode()
    except UnicodeEncodeError as error:
        raise StoreRefused(f"customer id {customer_id!r} is not valid Unicode") from error
    if not 1 <= len(key) <= MAX_KEY_BYTES:
        raise StoreRefused(f"customer id of {len(key)} bytes; it must have 1 to {MAX_KEY_BYTES} in UTF-8")
    return key


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=_DIGEST_BYTES).digest()


def _identity_digest(identity: Identity) -> bytes:
    # A digest: values are of any length, and a phone number has no place in a file's keys.
    kind = identity.type.encode(errors="surrogatepass")
    return _digest(len(kind).to_bytes(4, "big") + kind + identity.value.encode(errors="surrogatepass"))


def _check_recordable(customer_id: str, record: ConsentRecord) -> None:
    _key(customer_id)
    if record.state not in _RECORDED:
        raise StoreRefused(
            f"customer {customer_id!r}: consent for {record.purpose} cannot be recorded as {record.state}; "
            "that state is derived when reading"
        )


def _merge_consents(current: Iterable[ConsentRecord], new: Iterable[ConsentRecord]) -> list[ConsentRecord]:
    kept = {(record.purpose, record.channel): record for record in current}
    for record in new:
        place = (record.purpose, record.channel)
        kept[place] = prevailing(kept[place], record) if place in kept else record
    return [kept[place] for place in sorted(kept)]


def _keys_after(txn: Snapshot, database: Database, after: bytes) -> list[bytes]:
    with txn.cursor(database) as cursor:
        if not (cursor.set_range(after) if after else cursor.first()):
            return []
        if cursor.key() == after and not cursor.next():
            return []
        keys = cursor.iternext(keys=True, values=False)
        return [bytes(key) for key, _ in zip(keys, range(_PAGE_OF_IDS), strict=False)]


@contextmanager
def _one_opener(data_dir: Path) -> Iterator[None]:
    """Lets one process at a time look at the directory and open it."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (data_dir / "open.lock").open("ab")
    except OSError as error:
        raise StoreUnavailable(
            f"{data_dir}: cannot be opened: {error.strerror}; it must be a directory this user may write to"
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
