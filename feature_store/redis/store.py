"""The online store on Redis or Valkey: shared by all machines that serve.

Values are the bytes of feature_store/layout.py, the same as in every store, one key for each kind and all of
a customer in one slot (keys.py). A decision reads them with one MGET, accompanied by EXISTS: MGET shows a key
of another type as absent, and an objection must never be absent by accident. Whoever changes a value replaces
it by a script only if it is still the one it read (values.py). Marks, budgets and identities have modules of
their own.

Timeouts are short and nothing is retried: a call that got no answer raises StoreUnavailable, and may or may
not have been done, which every caller's keys make harmless. How durable an acknowledged write is, is a matter
of the server's settings; docs/redis.md says which it needs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from feature_store import layout
from feature_store.contacts import DAY_MS, DEFAULT_HISTORY_MS, extended, reserved
from feature_store.errors import StoreRefused
from feature_store.keeping import check_recordable, customer_bytes, merged_signals
from feature_store.merging import said_together
from feature_store.oversight import StoreCondition, StoreStats
from feature_store.redis import keys as kinds
from feature_store.redis.address import NOBODY, Address, Credentials, Tls, Topology, parse_address
from feature_store.redis.breaker import Breaker
from feature_store.redis.budgets import Budgets
from feature_store.redis.cluster import Cluster
from feature_store.redis.connecting import door_of, primary_of
from feature_store.redis.identities import Carriers
from feature_store.redis.keys import Keys
from feature_store.redis.marks import Marks, new_token
from feature_store.redis.node import Node, fixed
from feature_store.redis.oversight import check_eviction, condition_of, sampled_stats
from feature_store.redis.requests import Requests, Servers
from feature_store.redis.scripts import CLAIM, RELEASE
from feature_store.redis.values import Stored, Values
from feature_store.state import (
    ConsentRecord,
    ContactEvent,
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

DEFAULT_PREFIX = "arbiter"
DEFAULT_TIMEOUT_MS = 30
"""For connecting and for each answer: thirty times what a healthy server in the same network needs."""

_CLAIM_MARGIN_MS = 60_000
"""Kept beyond its end, so that a server whose clock is behind still finds a claim that holds for it."""


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


def open_redis(
    url: str,
    *,
    prefix: str = DEFAULT_PREFIX,
    credentials: Credentials = NOBODY,
    tls: Tls | None = None,
    timeout_ms: int = DEFAULT_TIMEOUT_MS,
    contact_history_ms: int = DEFAULT_HISTORY_MS,
    clock: Callable[[], int] = _wall_clock_ms,
) -> RedisStore:
    """Opens the store at a URL (see address.py); each process opens its own, after spawn.

    `credentials` are used where the URL has none. `contact_history_ms` must cover the longest window of the
    contact policies. `clock` is only compared with contacts to find those too old to keep. Raises
    StoreRefused for a URL or prefix that cannot work, StoreUnavailable for a server that cannot.
    """
    address = parse_address(url, credentials=credentials, tls=tls)
    keys = Keys(prefix)
    requests = Requests(_servers(address, timeout_ms / 1000), where=address.shown)
    try:
        check_eviction(requests, where=address.shown)
    except BaseException:
        requests.close()
        raise
    return RedisStore(requests, keys, place=address.shown, contact_history_ms=contact_history_ms, clock=clock)


def _servers(address: Address, timeout_s: float) -> Servers:
    door = door_of(address, timeout_s=timeout_s)
    if address.topology is Topology.CLUSTER:
        return Cluster(door, address, breaker=Breaker)
    by_sentinel = address.topology is Topology.SENTINEL
    locate = primary_of(address, timeout_s=timeout_s) if by_sentinel else fixed(address.places[0])
    return Node(door, locate, where=address.shown, breaker=Breaker())


class RedisStore:
    """Customer state in Redis. Made by `open_redis`."""

    def __init__(
        self,
        requests: Requests,
        keys: Keys,
        *,
        place: str,
        contact_history_ms: int,
        clock: Callable[[], int],
    ) -> None:
        self._requests = requests
        self._keys = keys
        self._place = place
        self._values = Values(requests, keys)
        self._marks = Marks(requests, keys)
        self._budgets = Budgets(requests, keys)
        self._carriers = Carriers(requests, keys, self._values)
        self._contact_history_ms = contact_history_ms
        self._clock = clock

    def read(self, customer_id: str) -> CustomerState | None:
        """Everything a decision needs, in one round trip. Raises StoreCorrupt for a damaged value."""
        if not _is_keepable(customer_id):
            return None
        return _state(customer_id, self._values.one(customer_id, kinds.DECIDED))

    def read_many(self, customer_ids: Sequence[str]) -> list[CustomerState | None]:
        """`read` of many customers; each is consistent in itself."""
        known = [customer_id for customer_id in customer_ids if _is_keepable(customer_id)]
        read = iter(self._values.read(known, kinds.DECIDED))
        return [_state(name, next(read)) if _is_keepable(name) else None for name in customer_ids]

    def update(self, customer_ids: Sequence[str], change: Update) -> None:
        """Replaces what `change` returns for each customer; a mark is set before what it is for."""
        token = new_token()
        marked: dict[str, int] = {}

        def computed(customer_id: str, stored: Stored) -> Stored | None:
            changed = change(customer_id, _record(customer_id, stored))
            marked.pop(customer_id, None)
            if changed is None:
                return None
            if changed.due_at_ms is not None:
                marked[customer_id] = changed.due_at_ms
            return _encoded(customer_id, stored, changed, token)

        def marks_of(names: Sequence[str]) -> dict[str, int]:
            return {name: marked[name] for name in names if name in marked}

        self._values.change(
            customer_ids,
            kinds.UPDATED,
            computed,
            before=lambda names: self._marks.announce(token, marks_of(names)),
            after=lambda names: self._marks.keep(token, marks_of(names)),
        )

    def due(self, *, now_ms: int, limit: int) -> list[str]:
        """Customers marked for an instant not after now, the longest due first."""
        return self._marks.due(now_ms=now_ms, limit=limit)

    def reserve(self, state: CustomerState, reservations: Sequence[Reservation]) -> bool:
        """Adds reservations where the stored contacts are still those of `state`; whether they were."""
        customer_id, seen = state.customer_id, list(layout.read_contacts_token(state.contacts_token))
        new = seen
        if reservations:
            history = layout.decode_all_contacts(customer_id, *seen)
            longer = reserved(history, reservations, now_ms=self._clock(), keep_ms=self._contact_history_ms)
            new = list(layout.changed_contacts(customer_id, longer, *seen))
        (kept,) = self._values.replace(b"hm", [(customer_id, seen, new)])
        return kept

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
        return self._carriers.resolve(identity)

    def customers(self) -> Iterator[str]:
        """Ids of all customers in order; they are all found before the first is given."""
        found = {self._keys.customer_of(key) for key in self._requests.scan(self._keys.customers_pattern)}
        yield from sorted(found)

    def put_customers(self, customers: Iterable[tuple[str, FeatureVector]]) -> int:
        """Creates customers or replaces their features; returns how many.

        All are packed before the first is sent, so one that cannot be kept keeps all out. Each is replaced
        whole; a load that breaks off midway is to be made again.
        """
        packed = {name: layout.encode_features(name, vector) for name, vector in customers}
        names, values = list(packed), list(packed.values())
        self.merge_features(names, lambda places, _stored: [values[place] for place in places])
        return len(packed)

    def merge_features(self, customer_ids: Sequence[str], merge: FeatureMerge) -> None:
        """Replaces the packed features of many customers by what `merge` makes of those stored now."""

        def reloaded(places: Sequence[int], stored: Sequence[bytes | None]) -> list[bytes]:
            names = [customer_ids[place] for place in places]
            merged = merge(places, layout.loaded_features(names, stored))
            return layout.reloaded_features(names, stored, merged)

        self._values.merge(customer_ids, reloaded)

    def link(self, links: Iterable[tuple[Identity, str]]) -> None:
        """Adds identities to customers, known or not yet known."""
        self._carriers.change(links, add=True)

    def unlink(self, links: Iterable[tuple[Identity, str]]) -> None:
        """Takes identities away from customers."""
        self._carriers.change(links, add=False)

    def identities(self, customer_id: str) -> tuple[Identity, ...]:
        """What the customer carries, sorted by type, then value."""
        return self._carriers.carried(customer_id) if _is_keepable(customer_id) else ()

    def put_consents(self, records: Iterable[tuple[str, ConsentRecord]]) -> None:
        """Projects consents, of known customers or not yet known; the prevailing record is kept."""
        offered: dict[str, list[ConsentRecord]] = {}
        for customer_id, record in records:
            check_recordable(customer_id, record)
            offered.setdefault(customer_id, []).append(record)

        def merged(customer_id: str, stored: Stored) -> Stored:
            consents, parts = stored
            current = () if consents is None else layout.decode_consents(customer_id, consents)
            merged_at_ms = layout.latest_merge_ms(customer_id, parts)
            for record in offered[customer_id]:
                current = said_together(current, record, merged_at_ms=merged_at_ms)
            return [layout.encode_consents(customer_id, current), parts]

        self._values.change(list(offered), b"cm", merged)

    def put_signals(self, customer_id: str, signals: Iterable[Signal]) -> None:
        """Replaces the customer's signals of the same names."""
        new = tuple(signals)

        def merged(customer_id: str, stored: Stored) -> Stored:
            current = () if stored[0] is None else layout.decode_signals(customer_id, stored[0])
            return [layout.encode_signals(customer_id, merged_signals(current, new))]

        self._values.change([customer_id], b"s", merged)

    def record_contact(
        self, customer_id: str, event: ContactEvent, *, key: str, settles: str | None = None
    ) -> bool:
        """Counts a contact once for each customer and `key`; False where it was counted before."""
        now_ms, counted = self._clock(), True

        def longer(customer_id: str, stored: Stored) -> Stored | None:
            nonlocal counted
            current = layout.decode_all_contacts(customer_id, *stored)
            keep_ms = self._contact_history_ms
            history = extended(current, event, key=key, now_ms=now_ms, keep_ms=keep_ms, settles=settles)
            counted = history is not None
            if history is None:
                return None
            return list(layout.changed_contacts(customer_id, history, *stored))

        self._values.change([customer_id], b"hm", longer)
        return counted

    def claim(self, key: str, value: bytes, *, now_ms: int, ttl_ms: int) -> bytes | None:
        """Takes an idempotency key until `now_ms + ttl_ms`, or returns the value that holds it."""
        arguments = (value, now_ms, now_ms + ttl_ms, max(ttl_ms, 0) + _CLAIM_MARGIN_MS)
        (held,) = self._requests.run(CLAIM, [((self._keys.claim(key),), arguments)])
        return held if isinstance(held, bytes) else None

    def release(self, key: str, value: bytes) -> None:
        """Removes a claim if it still holds `value`."""
        self._requests.run(RELEASE, [((self._keys.claim(key),), (value,))])

    def erase(self, customer_id: str) -> bool:
        """Removes everything kept of a customer, damaged values too; False where there was nothing."""
        if not _is_keepable(customer_id):
            return False
        marked = self._marks.drop(customer_id)
        return self._values.remove(customer_id, kinds.ALL, first=self._carriers.drop) or marked

    def put_schema(self, digest: str, text: str) -> None:
        """Keeps the text of a feature schema under its digest."""
        self._requests.ask([("HSET", self._keys.schemas, digest, text)], "the feature schemas")

    def schemas(self) -> Mapping[str, str]:
        """Texts of the schemas kept, by digest."""
        (reply,) = self._requests.ask([("HGETALL", self._keys.schemas)], "the feature schemas")
        words = [word.decode() for word in reply] if isinstance(reply, list) else []
        return dict(zip(words[::2], words[1::2], strict=True))

    def stats(self) -> StoreStats:
        """What the store holds, by a sample where there is much."""
        return sampled_stats(self._requests, self._keys)

    def condition(self) -> StoreCondition:
        """The server's version, memory and persistence."""
        return condition_of(
            self._requests, place=self._place, history_days=self._contact_history_ms // DAY_MS
        )

    def close(self) -> None:
        """Closes the connections; further calls raise StoreUnavailable."""
        self._requests.close()


def _is_keepable(customer_id: str) -> bool:
    """Whether a customer can be kept under this id at all."""
    try:
        customer_bytes(customer_id)
    except StoreRefused:
        return False
    return True


def _state(customer_id: str, stored: Stored) -> CustomerState | None:
    features, consents, contacts, signals, parts = stored
    if features is None:
        return None
    return layout.decode_state(customer_id, features, consents, contacts, signals, parts)


def _record(customer_id: str, stored: Stored) -> CustomerRecord:
    """What an update may look at: all its kinds but the last, which is about the mark."""
    return layout.decode_record(customer_id, *stored[:-1])


def _encoded(customer_id: str, stored: Stored, change: CustomerChange, token: bytes) -> Stored:
    """The values after a change, in the order of the kinds that an update has."""
    *values, marked_by = stored
    after = layout.encode_change(customer_id, change, values)
    return [*after, marked_by if change.due_at_ms is None else token]
