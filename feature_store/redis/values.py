"""The values under a customer's id: read together, and replaced where nobody replaced them meanwhile."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from hashlib import sha1

from feature_store.errors import StoreCorrupt, StoreUnavailable
from feature_store.redis.keys import Keys
from feature_store.redis.requests import Requests, ScriptCall, batches
from feature_store.redis.scripts import ERASE, MERGE, REPLACE, Command, Word
from feature_store.store import FeatureMerge

Stored = list[bytes | None]
"""Values of one customer, in the order of the kinds asked for; None where there is none."""

Compute = Callable[[str, Stored], list[bytes | None] | None]
"""From a customer's values to those that take their place, or None to leave all."""

Change = tuple[str, Stored, Stored]
"""A customer, its values as read and those to take their place."""

_ATTEMPTS = 200
"""Tries before a value that others keep replacing is given up; one of the writers succeeds each time."""

_PATIENCE = 3
_LONGEST_PAUSE_S = 0.005

_READS = 3
"""Tries to see values and their number at one instant before they are called damaged."""


def _nothing(_customer_ids: Sequence[str]) -> None:
    """What comes before and after by default."""


class Values:
    """The values under one prefix."""

    def __init__(self, requests: Requests, keys: Keys) -> None:
        self._requests = requests
        self._keys = keys

    def one(self, customer_id: str, kinds: bytes) -> list[bytes | None]:
        """One customer's values in one round trip. Raises StoreCorrupt where one is no string."""
        keys = self._keys.of(customer_id, kinds)
        for _ in range(_READS):
            values, count = self._requests.ask((("MGET", *keys), ("EXISTS", *keys)))
            if _is_all(values, count):
                return values  # type: ignore[return-value]  # MGET's reply
        raise self._wrong_type(customer_id)

    def read(self, customer_ids: Sequence[str], kinds: bytes) -> list[list[bytes | None]]:
        """The same of many customers, in as few round trips as it takes to send them."""
        commands: list[Command] = []
        for customer_id in customer_ids:
            keys = self._keys.of(customer_id, kinds)
            commands += (("MGET", *keys), ("EXISTS", *keys))
        replies = iter(self._requests.ask_many(commands))
        read = zip(customer_ids, replies, replies, strict=True)
        return [
            values if _is_all(values, count) else self.one(customer_id, kinds)  # type: ignore[misc]  # MGET's reply
            for customer_id, values, count in read
        ]

    def change(
        self,
        customer_ids: Sequence[str],
        kinds: bytes,
        compute: Compute,
        *,
        before: Callable[[Sequence[str]], None] = _nothing,
        after: Callable[[Sequence[str]], None] = _nothing,
    ) -> None:
        """Replaces each customer's values by what `compute` makes of them, atomically for each.

        `compute` runs for all before any is written, and again for those that another writer came to first.
        `before` and `after` get the customers about to be written, and those that were. Raises
        StoreUnavailable where one stays contended.
        """
        left = list(dict.fromkeys(customer_ids))
        for attempt in range(_ATTEMPTS):
            changes = self._changes(left, kinds, compute)
            if not changes:
                return
            before([name for name, _, _ in changes])
            done = self.replace(kinds, changes)
            after([name for (name, _, _), kept in zip(changes, done, strict=True) if kept])
            left = [name for (name, _, _), kept in zip(changes, done, strict=True) if not kept]
            if left and attempt >= _PATIENCE:
                _pause()
        raise self._contended(left[0])

    def _changes(self, names: Sequence[str], kinds: bytes, compute: Compute) -> list[Change]:
        """What is to be replaced of which customers, from what is stored now."""
        if not names:
            return []
        stored = zip(names, self.read(names, kinds), strict=True)
        computed = [(name, values, compute(name, values)) for name, values in stored]
        return [(name, old, new) for name, old, new in computed if new is not None and new != old]

    def replace(self, kinds: bytes, changes: Sequence[Change]) -> list[bool]:
        """For customers, values read and new: replaces them where they are still those read; whether so."""
        calls = [
            (self._keys.of(name, kinds), (*map(_digest, before), *map(_replacement, before, after)))
            for name, before, after in changes
        ]
        what = f"customer {changes[0][0]!r}" if len(changes) == 1 else ""
        return [reply == 1 for reply in self._requests.run(REPLACE, calls, what)]

    def merge(self, customer_ids: Sequence[str], merge: FeatureMerge) -> None:
        """Replaces the features of many customers by what `merge` makes of those stored, in bulk."""
        keys = [self._keys.of(customer_id, b"f")[0] for customer_id in customer_ids]
        left = list(range(len(keys)))
        for attempt in range(_ATTEMPTS):
            if not left:
                return
            left = [missed for places in batches(left) for missed in self._merged(keys, places, merge)]
            if left and attempt >= _PATIENCE:
                _pause()
        raise self._contended(customer_ids[left[0]])

    def _merged(self, keys: Sequence[bytes], places: Sequence[int], merge: FeatureMerge) -> list[int]:
        """Merges one batch; the places that another writer came to first."""
        stored = self._requests.values([keys[place] for place in places])
        rows = list(zip(places, stored, merge(places, stored), strict=True))
        parts = list(self._requests.parts(rows))
        calls = [_merge_call(keys, part) for part in parts]
        missed = zip(parts, self._requests.run(MERGE, calls), strict=True)
        return [part[n - 1][0] for part, reply in missed if isinstance(reply, list) for n in reply]

    def remove(self, customer_id: str, kinds: bytes, *, first: Callable[[str, bytes | None], None]) -> bool:
        """Removes all values of a customer, of whatever type; whether there were any.

        `first` gets the value of the first kind, and runs before, again where another writer changed that.
        """
        keys = self._keys.of(customer_id, kinds)
        for _ in range(_ATTEMPTS):
            try:
                (stored,) = self._requests.ask([("GET", keys[0])])
            except StoreCorrupt:
                stored = b""
            known = stored if isinstance(stored, bytes) else None
            first(customer_id, known)
            digest = "*" if known == b"" else _digest(known)
            (removed,) = self._requests.run(ERASE, [(keys, (digest,))])
            if isinstance(removed, int) and removed >= 0:
                return removed > 0
        raise self._contended(customer_id)

    def _contended(self, customer_id: str) -> StoreUnavailable:
        return StoreUnavailable(
            f"customer {customer_id!r}: others keep changing it, {_ATTEMPTS} tries came too late; try again"
        )

    def _wrong_type(self, customer_id: str) -> StoreCorrupt:
        return StoreCorrupt(
            f"stored values of customer {customer_id!r}: a key holds another data type; look who else writes "
            "under Arbiter's prefix, erase the customer and write it again from its sources"
        )


def _merge_call(keys: Sequence[bytes], rows: Sequence[tuple[int, bytes | None, bytes]]) -> ScriptCall:
    """Keys and arguments for values read and new, by the places of their keys."""
    named = tuple(keys[place] for place, _, _ in rows)
    return named, (*(_digest(old) for _, old, _ in rows), *(new for _, _, new in rows))


def _pause() -> None:
    """Lets the others finish."""
    time.sleep(random.uniform(0, _LONGEST_PAUSE_S))  # noqa: S311  # no secret


def _is_all(values: object, count: object) -> bool:
    """Whether MGET gave every value there is: for one that is no string it gives none."""
    return isinstance(values, list) and len(values) - values.count(None) == count


def _digest(value: bytes | None) -> str:
    """What the script compares: the SHA-1 of a value that was read."""
    return "" if value is None else sha1(value, usedforsecurity=False).hexdigest()


def _replacement(before: bytes | None, after: bytes | None) -> Word:
    if after == before:
        return b"="
    return b"-" if after is None else b"+" + after
