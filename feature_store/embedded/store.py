"""The online store on LMDB: durable, crash-safe, shared by all processes of one machine.

Two environments live in the data directory:

- `state/` holds one named database for each kind of value under a customer's id, and others for
  identities, due marks, the units of budgets and the texts of feature schemas. Every commit is fsynced
  (LMDB's default flags), so what was acknowledged survives kill -9 and power loss, and every process sees
  it in its next read. Measured at about 0.2 ms a commit on a local SSD.
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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from feature_store import layout
from feature_store.contacts import DAY_MS, DEFAULT_HISTORY_MS, extended, reserved
from feature_store.embedded import budgets
from feature_store.embedded.budgets import Budgets
from feature_store.embedded.claims import Claims, open_claims
from feature_store.embedded.environment import (
    DEFAULT_MAP_BYTES,
    LMDB_VERSION,
    LOW_DISK_BYTES,
    MAX_MAP_BYTES,
    MAX_READERS,
    Environment,
)
from feature_store.errors import StoreCorrupt, StoreRefused, StoreUnavailable
from feature_store.keeping import (
    check_recordable,
    customer_bytes,
    identity_digest,
    identity_order,
    merged_signals,
)
from feature_store.merging import said_together
from feature_store.oversight import KindStats, StoreCondition, StoreStats, mebibytes
from feature_store.state import (
    ConsentRecord,
    ContactEvent,
    ContactHistory,
    CustomerChange,
    CustomerRecord,
    CustomerState,
    Demand,
    FeatureVector,
    Identity,
    Reservation,
    Signal,
)
from feature_store.store import FeatureMerge, Update

if TYPE_CHECKING:
    from feature_store.embedded.environment import Database, Snapshot

_KINDS = (b"customers", b"consents", b"contacts", b"signals", b"merged", b"stream", b"carried")
"""One value for each customer: what decisions read, then what only updates read, then the rest."""

_READ_KINDS, _UPDATED_KINDS = 5, 6
_STATE = (
    *((name, False) for name in _KINDS),
    (b"identities", True),
    (b"due", True),
    (b"due_at", False),
    (b"schemas", False),
    *budgets.DATABASES,
)
_PAGE_OF_IDS = 1000
_MERGED_AT_ONCE = 2048
"""Customers merged in one transaction: about 20 ms in which no other process writes."""


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
        self._kinds, others = state.databases[: len(_KINDS)], state.databases[len(_KINDS) :]
        self._read_databases = self._kinds[:_READ_KINDS]
        self._customers, self._consents, self._contacts, self._signals, self._parts, _, self._carried = (
            self._kinds
        )
        self._identities, self._due, self._due_at, self._schemas = others[:4]
        self._budgets = Budgets(state, others[4:])

    def read(self, customer_id: str) -> CustomerState | None:
        """Everything a decision needs, from one snapshot. Raises StoreCorrupt for a damaged value."""
        try:
            key = customer_bytes(customer_id)
        except StoreRefused:
            return None  # no customer can have been kept under it
        return _decoded_state(customer_id, self._state.get(key, self._read_databases))

    def read_many(self, customer_ids: Sequence[str]) -> list[CustomerState | None]:
        """`read` of many customers, all from one snapshot."""
        keys = [_key_or_none(customer_id) for customer_id in customer_ids]

        def get(txn: Snapshot) -> list[list[bytes | None]]:
            return [[txn.get(key, db=database) for database in self._read_databases] for key in keys if key]

        stored = iter(self._state.read(get))
        return [
            _decoded_state(customer_id, next(stored)) if key else None
            for customer_id, key in zip(customer_ids, keys, strict=True)
        ]

    def update(self, customer_ids: Sequence[str], change: Update) -> None:
        """Replaces what `change` returns, for all customers in one transaction; on disk when it returns."""
        keys = {customer_id: customer_bytes(customer_id) for customer_id in customer_ids}

        def put(txn: Snapshot) -> None:
            changes = [(c, key, change(c, self._record(txn, c, key))) for c, key in keys.items()]
            for customer_id, key, changed in changes:
                if changed is not None:
                    self._apply(txn, customer_id, key, changed)

        self._state.write(put)

    def _stored(self, txn: Snapshot, key: bytes) -> list[bytes | None]:
        return [txn.get(key, db=database) for database in self._kinds[:_UPDATED_KINDS]]

    def _record(self, txn: Snapshot, customer_id: str, key: bytes) -> CustomerRecord:
        return layout.decode_record(customer_id, *self._stored(txn, key))

    def _apply(self, txn: Snapshot, customer_id: str, key: bytes, change: CustomerChange) -> None:
        before = self._stored(txn, key)
        after = layout.encode_change(customer_id, change, before)
        for database, old, new in zip(self._kinds, before, after, strict=False):
            if new != old:
                _put_or_delete(txn, database, key, new)
        if change.due_at_ms is not None:
            self._mark_due(txn, key, change.due_at_ms)

    def _put_contacts(self, txn: Snapshot, customer_id: str, key: bytes, history: ContactHistory) -> None:
        """Keeps a history of a customer and of all merged into it, each contact with whose it is."""
        contacts, parts = txn.get(key, db=self._contacts), txn.get(key, db=self._parts)
        new_contacts, new_parts = layout.changed_contacts(customer_id, history, contacts, parts)
        _put_or_delete(txn, self._contacts, key, new_contacts)
        if new_parts != parts:
            _put_or_delete(txn, self._parts, key, new_parts)

    def _mark_due(self, txn: Snapshot, key: bytes, at_ms: int) -> None:
        """Sets when the customer is to be looked at again; 0 for never."""
        former = txn.pop(key, db=self._due_at)
        if former is not None:
            txn.delete(former, key, db=self._due)
        if at_ms:
            txn.put(key, _instant(at_ms), db=self._due_at)
            txn.put(_instant(at_ms), key, db=self._due)

    def due(self, *, now_ms: int, limit: int) -> list[str]:
        """Customers marked for an instant not after now, the longest due first."""
        end = _instant(now_ms + 1)

        def marked(txn: Snapshot) -> list[str]:
            found: list[str] = []
            with txn.cursor(self._due) as cursor:
                for instant, key in cursor:
                    if instant >= end or len(found) >= limit:
                        break
                    found.append(key.decode())
            return found

        return self._state.read(marked)

    def reserve(self, state: CustomerState, reservations: Sequence[Reservation]) -> bool:
        """Adds reservations where the stored contacts are still those of `state`; on disk when it returns."""
        key, now_ms = customer_bytes(state.customer_id), self._clock()

        def put(txn: Snapshot) -> bool:
            stored, parts = txn.get(key, db=self._contacts), txn.get(key, db=self._parts)
            if layout.contacts_token(stored, parts) != state.contacts_token:
                return False
            if reservations:
                history = reserved(
                    layout.decode_all_contacts(state.customer_id, stored, parts),
                    reservations,
                    now_ms=now_ms,
                    keep_ms=self._contact_history_ms,
                )
                self._put_contacts(txn, state.customer_id, key, history)
            return True

        return self._state.write(put)

    def take(self, demands: Sequence[Demand], *, key: str, now_ms: int, until_ms: int) -> tuple[str, ...]:
        """Holds one unit of each budget under `key`, or none; names of those that had none left."""
        return self._budgets.take(demands, key=key, now_ms=now_ms, until_ms=until_ms)

    def settle(self, budgets: Sequence[str], *, key: str, now_ms: int, spent: bool) -> None:
        """Makes the units held under `key` spent, or gives them back."""
        self._budgets.settle(budgets, key=key, now_ms=now_ms, spent=spent)

    def left(self, demands: Sequence[Demand], *, now_ms: int) -> tuple[int, ...]:
        """Units left of each budget."""
        return self._budgets.left(demands, now_ms=now_ms)

    def resolve(self, identity: Identity) -> tuple[str, ...]:
        """Ids of the customers that carry the identity, sorted."""
        digest = identity_digest(identity)

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
        packed = {name: layout.encode_features(name, vector) for name, vector in customers}

        def put(txn: Snapshot) -> None:
            for customer_id, value in packed.items():
                key = customer_bytes(customer_id)
                stored = [txn.get(key, db=self._customers)]
                (kept,) = layout.reloaded_features([customer_id], stored, [value])
                txn.put(key, kept, db=self._customers)

        self._state.write(put)
        return len(packed)

    def merge_features(self, customer_ids: Sequence[str], merge: FeatureMerge) -> None:
        """Replaces the packed features of many customers, some at a time so that other writers get in."""
        keys = [customer_bytes(customer_id) for customer_id in customer_ids]
        for start in range(0, len(keys), _MERGED_AT_ONCE):
            places = range(start, min(start + _MERGED_AT_ONCE, len(keys)))
            self._merge_part(places, customer_ids, keys, merge)

    def _merge_part(
        self, places: Sequence[int], customer_ids: Sequence[str], keys: Sequence[bytes], merge: FeatureMerge
    ) -> None:
        names = [customer_ids[place] for place in places]

        def put(txn: Snapshot) -> None:
            stored = [txn.get(keys[place], db=self._customers) for place in places]
            merged = merge(places, layout.loaded_features(names, stored))
            values = layout.reloaded_features(names, stored, merged)
            with txn.cursor(self._customers) as cursor:
                cursor.putmulti(zip((keys[place] for place in places), values, strict=True))

        self._state.write(put)

    def link(self, links: Iterable[tuple[Identity, str]]) -> None:
        """Adds identities to customers, known or not yet known."""
        self._change_carried(links, lambda carried, identity: carried | {identity})

    def unlink(self, links: Iterable[tuple[Identity, str]]) -> None:
        """Takes identities away from customers."""
        self._change_carried(links, lambda carried, identity: carried - {identity})

    def identities(self, customer_id: str) -> tuple[Identity, ...]:
        """What the customer carries, sorted by type, then value."""
        key = _key_or_none(customer_id)
        if key is None:
            return ()
        stored = self._state.read(lambda txn: txn.get(key, db=self._carried))
        return () if stored is None else layout.decode_identities(customer_id, stored)

    def _change_carried(
        self,
        links: Iterable[tuple[Identity, str]],
        change: Callable[[frozenset[Identity], Identity], frozenset[Identity]],
    ) -> None:
        """Applies each link to what its customer carries, in both directions, all in one transaction."""
        named = [(identity, customer_id, customer_bytes(customer_id)) for identity, customer_id in links]

        def put(txn: Snapshot) -> None:
            for identity, customer_id, key in named:
                stored = txn.get(key, db=self._carried)
                before = frozenset(layout.decode_identities(customer_id, stored) if stored else ())
                after = change(before, identity)
                value = (
                    layout.encode_identities(customer_id, sorted(after, key=identity_order))
                    if after
                    else None
                )
                _put_or_delete(txn, self._carried, key, value)
                if identity in after:
                    txn.put(identity_digest(identity), key, db=self._identities)
                else:
                    txn.delete(identity_digest(identity), key, db=self._identities)

        self._state.write(put)

    def put_consents(self, records: Iterable[tuple[str, ConsentRecord]]) -> None:
        """Projects consents, of known customers or not yet known; the prevailing record is kept."""
        offered: dict[str, list[ConsentRecord]] = {}
        for customer_id, record in records:
            check_recordable(customer_id, record)
            offered.setdefault(customer_id, []).append(record)

        def put(txn: Snapshot) -> None:
            for customer_id, new in offered.items():
                key = customer_bytes(customer_id)
                stored = txn.get(key, db=self._consents)
                current = layout.decode_consents(customer_id, stored) if stored is not None else ()
                merged_at_ms = layout.latest_merge_ms(customer_id, txn.get(key, db=self._parts))
                for record in new:
                    current = said_together(current, record, merged_at_ms=merged_at_ms)
                txn.put(key, layout.encode_consents(customer_id, current), db=self._consents)

        self._state.write(put)

    def put_signals(self, customer_id: str, signals: Iterable[Signal]) -> None:
        """Replaces the customer's signals of the same names."""
        key, new = customer_bytes(customer_id), tuple(signals)

        def put(txn: Snapshot) -> None:
            stored = txn.get(key, db=self._signals)
            current = layout.decode_signals(customer_id, stored) if stored is not None else ()
            value = layout.encode_signals(customer_id, merged_signals(current, new))
            txn.put(key, value, db=self._signals)

        self._state.write(put)

    def record_contact(
        self, customer_id: str, event: ContactEvent, *, key: str, settles: str | None = None
    ) -> bool:
        """Counts a contact once for each customer and `key`; on disk when it returns."""
        place, now_ms = customer_bytes(customer_id), self._clock()

        def put(txn: Snapshot) -> bool:
            contacts, parts = txn.get(place, db=self._contacts), txn.get(place, db=self._parts)
            longer = extended(
                layout.decode_all_contacts(customer_id, contacts, parts),
                event,
                key=key,
                now_ms=now_ms,
                keep_ms=self._contact_history_ms,
                settles=settles,
            )
            if longer is None:
                return False
            self._put_contacts(txn, customer_id, place, longer)
            return True

        return self._state.write(put)

    def claim(self, key: str, value: bytes, *, now_ms: int, ttl_ms: int) -> bytes | None:
        """Takes an idempotency key until `now_ms + ttl_ms`, or returns the value that holds it."""
        return self._claims.claim(key, value, now_ms=now_ms, ttl_ms=ttl_ms)

    def release(self, key: str, value: bytes) -> None:
        """Removes a claim if it still holds `value`."""
        self._claims.release(key, value)

    def erase(self, customer_id: str) -> bool:
        """Removes everything kept of a customer, damaged values too; False where there was nothing."""
        key = _key_or_none(customer_id)
        if key is None:
            return False

        def drop(txn: Snapshot) -> bool:
            for digest in self._carried_digests(txn, customer_id, key):
                txn.delete(digest, key, db=self._identities)
            marked = txn.get(key, db=self._due_at) is not None
            self._mark_due(txn, key, 0)
            dropped = sum(txn.delete(key, db=database) for database in self._kinds)
            return marked or dropped > 0

        return self._state.write(drop)

    def _carried_digests(self, txn: Snapshot, customer_id: str, key: bytes) -> list[bytes]:
        """Where the customer stands among the identities; found by a search where its own list is damaged."""
        stored = txn.get(key, db=self._carried)
        try:
            carried = layout.decode_identities(customer_id, stored) if stored is not None else ()
        except StoreCorrupt:
            with txn.cursor(self._identities) as cursor:
                return [bytes(digest) for digest, carrier in cursor if carrier == key]
        return [identity_digest(identity) for identity in carried]

    def put_schema(self, digest: str, text: str) -> None:
        """Keeps the text of a feature schema under its digest."""
        name, value = digest.encode(), text.encode()
        self._state.write(lambda txn: txn.put(name, value, db=self._schemas))

    def schemas(self) -> Mapping[str, str]:
        """Texts of the schemas kept, by digest."""

        def texts(txn: Snapshot) -> dict[str, str]:
            with txn.cursor(self._schemas) as cursor:
                return {digest.decode(): text.decode() for digest, text in cursor}

        return self._state.read(texts)

    def stats(self) -> StoreStats:
        """What the store holds; bytes are those of whole pages."""
        databases = [*self._kinds, self._identities]
        *kinds, links = self._state.read(lambda txn: [_size(txn, database) for database in databases])
        names = ("features", "consents", "contacts", "signals", "parts", "stream", "identities")
        return StoreStats(
            customers=kinds[0].count,
            kinds=dict(zip(names, kinds, strict=True)),
            identities=links.count,
            budgets=self._budgets.names(),
        )

    def condition(self) -> StoreCondition:
        """Room and readers, and how writes are kept."""
        room = self._state.room()
        warnings = []
        if room.disk_free_bytes < max(LOW_DISK_BYTES, room.used_bytes // 10):
            warnings.append(
                f"the disk has {mebibytes(room.disk_free_bytes)} left: free space before writes are refused"
            )
        if room.used_bytes > MAX_MAP_BYTES // 2:
            warnings.append("more than half of the largest map is used: split the customers over stores")
        if room.readers > MAX_READERS * 9 // 10:
            warnings.append(f"{room.readers} of {MAX_READERS} reader slots are taken: run fewer processes")
        return StoreCondition(
            engine="embedded (LMDB)",
            version=LMDB_VERSION,
            place=str(self._state.path.parent),
            facts={
                "writes": "every commit of customer state is fsynced; idempotency keys are not",
                "used": mebibytes(room.used_bytes),
                "map": f"{mebibytes(room.map_bytes)}, doubled when full",
                "disk free": mebibytes(room.disk_free_bytes),
                "reader slots": f"{room.readers} of {MAX_READERS}",
                "contact history": f"{self._contact_history_ms // DAY_MS} days",
            },
            warnings=tuple(warnings),
        )

    def close(self) -> None:
        """Closes both environments; further calls raise StoreUnavailable."""
        self._claims.close()
        self._state.close()


def _key_or_none(customer_id: str) -> bytes | None:
    """The key of an id, None where no customer can have been kept under it."""
    try:
        return customer_bytes(customer_id)
    except StoreRefused:
        return None


def _decoded_state(customer_id: str, stored: Sequence[bytes | None]) -> CustomerState | None:
    features, consents, contacts, signals, parts = stored
    if features is None:
        return None
    return layout.decode_state(customer_id, features, consents, contacts, signals, parts)


def _put_or_delete(txn: Snapshot, database: Database, key: bytes, value: bytes | None) -> None:
    """Stores a value; None is no value."""
    if value is None:
        txn.delete(key, db=database)
    else:
        txn.put(key, value, db=database)


def _size(txn: Snapshot, database: Database) -> KindStats:
    stat = txn.stat(database)
    pages = stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
    return KindStats(stat["entries"], pages * stat["psize"])


def _instant(at_ms: int) -> bytes:
    """An instant whose bytes sort as time does."""
    return (at_ms + (1 << 63)).to_bytes(8, "big")


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
