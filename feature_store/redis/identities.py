"""Identities in two directions: what a customer carries (its value `i`), and who carries an identity (a set).

The two are in different slots of a cluster. The customer's value is the truth; after each change of it the
set is brought in line, and looked at again until the value did not change meanwhile. A call that is killed in
between was not acknowledged, and made again it ends the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from feature_store import layout
from feature_store.errors import StoreCorrupt
from feature_store.keeping import customer_bytes, identity_order
from feature_store.redis.keys import Keys
from feature_store.redis.requests import Requests
from feature_store.redis.scripts import Command
from feature_store.redis.values import Stored, Values
from feature_store.state import Identity

Link = tuple[Identity, str]

_KIND = b"i"


class Carriers:
    """Who carries which identity."""

    def __init__(self, requests: Requests, keys: Keys, values: Values) -> None:
        self._requests = requests
        self._keys = keys
        self._values = values

    def resolve(self, identity: Identity) -> tuple[str, ...]:
        """Ids of the customers that carry the identity, sorted."""
        (reply,) = self._requests.ask([("SMEMBERS", self._keys.identity(identity))], "an identity")
        members = reply if isinstance(reply, (list, set)) else ()
        return tuple(sorted(member.decode() for member in members))

    def carried(self, customer_id: str) -> tuple[Identity, ...]:
        """What the customer carries, sorted."""
        ((stored,),) = self._values.read([customer_id], _KIND)
        return () if stored is None else layout.decode_identities(customer_id, stored)

    def change(self, links: Iterable[Link], *, add: bool) -> None:
        """Adds identities to customers, or takes them away."""
        wanted: dict[str, set[Identity]] = {}
        for identity, customer_id in links:
            customer_bytes(customer_id)
            wanted.setdefault(customer_id, set()).add(identity)

        def changed(customer_id: str, stored: Stored) -> Stored:
            before = set(_decoded(customer_id, stored[0]))
            after = before | wanted[customer_id] if add else before - wanted[customer_id]
            if after == before:
                return stored
            ordered = sorted(after, key=identity_order)
            return [layout.encode_identities(customer_id, ordered) if ordered else None]

        self._values.change(list(wanted), _KIND, changed)
        self._bring_in_line([(identity, name) for name, ones in wanted.items() for identity in ones])

    def _bring_in_line(self, links: Sequence[Link]) -> None:
        """Makes the sets say what the customers' values say, until those did not change meanwhile."""
        customers = list(dict.fromkeys(customer_id for _, customer_id in links))
        seen: dict[str, bytes | None] | None = None
        while True:
            read = self._values.read(customers, _KIND)
            now = {customer_id: stored for customer_id, (stored,) in zip(customers, read, strict=True)}
            if now == seen:
                return
            carried = {name: set(_decoded(name, stored)) for name, stored in now.items()}
            self._requests.ask_many(
                [
                    self._membership("SADD" if identity in carried[name] else "SREM", identity, name)
                    for identity, name in links
                    if seen is None or seen[name] != now[name]
                ]
            )
            seen = now

    def drop(self, customer_id: str, stored: bytes | None) -> None:
        """Takes the customer out of all sets; by a search where its own list is damaged."""
        try:
            carried = _decoded(customer_id, stored)
            commands = [self._membership("SREM", identity, customer_id) for identity in carried]
        except StoreCorrupt:
            places = self._requests.scan(self._keys.identities_pattern)
            commands = [("SREM", place, customer_id.encode()) for place in places]
        self._requests.ask_many(commands)

    def _membership(self, command: str, identity: Identity, customer_id: str) -> Command:
        return command, self._keys.identity(identity), customer_id.encode()


def _decoded(customer_id: str, stored: bytes | None) -> tuple[Identity, ...]:
    return () if stored is None else layout.decode_identities(customer_id, stored)
