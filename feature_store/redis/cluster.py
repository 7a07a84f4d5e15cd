"""A Redis Cluster: which node has which slot, and one `Node` for each primary.

The map of slots is read from any node, again when a node says a slot has moved, and again after a node did
not answer, as its replica may have taken over. A key's slot follows from its hash tag, so all values of a
customer are on one node, and a decision reads them in one round trip.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

from redis.crc import key_slot
from redis.exceptions import AskError, MovedError, ResponseError

from feature_store.errors import StoreUnavailable
from feature_store.redis.address import Address, Place
from feature_store.redis.breaker import Breaker
from feature_store.redis.connecting import Door
from feature_store.redis.node import Node, fixed, node_name
from feature_store.redis.scripts import Command

_SLOTS = 16384
_REDIRECTIONS = 4
"""How often one call follows a slot that has moved."""

_MAP_EVERY_S = 0.2
"""Time between readings of the map after failures, so that an outage is not answered by a storm of them."""

_SCRIPT_CALLS = ("EVALSHA", "EVAL")


class Cluster:
    """All primaries of a cluster. Safe for threads."""

    keys_together = 1  # they lie in different slots

    def __init__(self, door: Door, address: Address, *, breaker: Callable[[], Breaker]) -> None:
        """`breaker` makes one for each node. Raises StoreUnavailable where no node gives the map."""
        self._door = door
        self._address = address
        self._breaker = breaker
        self._lock = threading.Lock()
        self._nodes: dict[Place, Node] = {}
        self._places: list[Place | None] = [None] * _SLOTS
        self._mapped_at_s = 0.0
        self._stale = False
        self._closed = False
        self._read_map()

    def calls(self, commands: Sequence[Command]) -> list[object]:
        """The replies to commands, in their order, from the nodes that have their keys."""
        if self._closed:
            raise StoreUnavailable(f"{self._address.shown}: this store was closed")
        if self._stale and time.monotonic() - self._mapped_at_s >= _MAP_EVERY_S:
            self._read_map()
        replies: list[object] = [None] * len(commands)
        left = list(range(len(commands)))
        for _ in range(_REDIRECTIONS):
            left = self._sent(commands, left, replies)
            if not left:
                return replies
        return replies

    def _sent(self, commands: Sequence[Command], numbers: list[int], replies: list[object]) -> list[int]:
        """Sends commands to their nodes, and fills in the replies; numbers of those to send again."""
        moved = []
        by_node: dict[Place, list[int]] = {}
        for number in numbers:
            by_node.setdefault(self._place_of(commands[number]), []).append(number)
        for place, group in by_node.items():
            for number, reply in zip(group, self._asked(place, [commands[n] for n in group]), strict=True):
                replies[number] = reply
                if isinstance(reply, MovedError):
                    self._follow(reply)
                    moved.append(number)
                elif isinstance(reply, AskError):  # the slot is on its way: this once, ask there
                    there = (reply.host, reply.port)
                    replies[number] = self._asked(there, [("ASKING",), commands[number]])[1]
        return moved

    def _follow(self, moved: MovedError) -> None:
        """Learns where slots are now; what the node said counts where the map does not say it yet."""
        place = (moved.host, moved.port)
        if self._places[moved.slot_id] != place:
            self._read_map()
            self._places[moved.slot_id] = place

    def _asked(self, place: Place, commands: Sequence[Command]) -> list[object]:
        try:
            return self._node(place).calls(commands)
        except StoreUnavailable:
            self._stale = True
            raise

    def _place_of(self, command: Command) -> Place:
        key = command[3] if command[0] in _SCRIPT_CALLS else command[1]
        slot = key_slot(key if isinstance(key, bytes) else str(key).encode())
        place = self._places[slot]
        if place is None:
            self._stale = True
            raise StoreUnavailable(f"{self._address.shown}: nobody serves slot {slot}; look at the cluster")
        return place

    def _node(self, place: Place) -> Node:
        node = self._nodes.get(place)
        if node is None:
            with self._lock:
                node = self._nodes.setdefault(
                    place,
                    Node(self._door, fixed(place), where=node_name(place), breaker=self._breaker()),
                )
        return node

    def _read_map(self) -> None:
        """Asks the known nodes for the map until one gives it. Raises StoreUnavailable."""
        self._mapped_at_s = time.monotonic()
        problems = []
        for place in dict.fromkeys((*self._nodes, *self._address.places)):
            try:
                (reply,) = self._node(place).calls([("CLUSTER", "SLOTS")])
            except StoreUnavailable as error:
                problems.append(str(error))
                continue
            if isinstance(reply, ResponseError):
                problems.append(f"{node_name(place)}: {reply}")
                continue
            self._places = _places(reply, asked=place)
            self._stale = False
            return
        self._stale = True
        raise StoreUnavailable(f"{self._address.shown}: no node gives the slots: {'; '.join(problems)}")

    def each(self) -> Iterator[Node]:
        """Every primary."""
        for place in dict.fromkeys(place for place in self._places if place is not None):
            yield self._node(place)

    def close(self) -> None:
        """Closes all connections."""
        self._closed = True
        for node in self._nodes.values():
            node.close()


def _places(reply: object, *, asked: Place) -> list[Place | None]:
    """The primary of each slot, from the reply to CLUSTER SLOTS; an empty host is the one that was asked."""
    places: list[Place | None] = [None] * _SLOTS
    for first, last, primary, *_ in reply if isinstance(reply, list) else ():
        host = primary[0].decode() if primary[0] else asked[0]
        places[first : last + 1] = [(host, int(primary[1]))] * (last + 1 - first)
    return places
