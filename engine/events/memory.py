"""What ingestion remembers of a customer, and its form in bytes.

Ids of applied events are kept by the quarter of a day they were received in, as digests of 8 bytes, for as
long as a copy of an event could still be accepted. When a quarter is dropped, `floor_ms` rises to its end:
every event whose id was dropped happened before the floor, and what happened before the floor is refused.
So no event is ever applied twice, and none is refused that is not late. Of a customer with more events than
anybody makes by hand, older quarters are dropped early: late events of that one are then refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from engine.events.checking import DIGEST_BYTES
from engine.signals.patterns import Value
from feature_store.errors import StoreCorrupt, StoreRefused
from feature_store.merging import united_tallies
from feature_store.state import CustomerRecord
from feature_store.streaming import Tallies

FORMAT: Final = 1
DAY_MS: Final = 86_400_000
SLOT_MS: Final = DAY_MS // 4
LONGEST_WAIT_MS: Final = 30 * DAY_MS
"""How long an event may have waited in a queue, beyond how late it may be: an older one is refused, whatever
is remembered. So ids that are older go by time alone, of customers too to whom nothing happens any more."""
MAX_IDS: Final = 20_000
"""Ids of one customer, 160 kB, beyond those of the current quarter of a day."""


class KeptEvent(msgspec.Struct, array_like=True, frozen=True):
    """An event that a signal may still be made of, with the attributes that patterns ask for."""

    type: str
    at_ms: int
    digest: bytes
    attributes: dict[str, Value]


class Memory(msgspec.Struct, array_like=True):
    """Changed in place while events are applied. Instants are 0 where there is none.

    `watermark_ms` is the latest instant at which an event was received, `looked_ms` that of the last look.
    `signals_due_ms` is when signals are to be evaluated again; `set_at` when features were set, by name.
    """

    format: int = FORMAT
    watermark_ms: int = 0
    looked_ms: int = 0
    floor_ms: int = 0
    signals_due_ms: int = 0
    ids: dict[int, bytes] = {}
    tallies: Tallies = {}
    events: list[KeptEvent] = []
    set_at: dict[str, tuple[int, bytes]] = {}

    def knows(self, digest: bytes) -> bool:
        """Whether an event was applied."""
        return any(_holds(slot, digest) for slot in self.ids.values())

    def note(self, digest: bytes, *, received_ms: int) -> None:
        """Remembers an event as applied."""
        self.watermark_ms = max(self.watermark_ms, received_ms)
        slot = self.watermark_ms // SLOT_MS
        self.ids[slot] = self.ids.get(slot, b"") + digest

    def forget_ids(self, *, horizon_ms: int, now_ms: int) -> None:
        """Drops quarters that ended longer ago than an event may be late, and more where there are many.

        Longer ago than the last event was received, or by time alone with what an event may wait besides.
        """
        self._drop_ended(too_old_ms(horizon_ms=horizon_ms, now_ms=now_ms) - SLOT_MS)  # clocks differ
        oldest = (self.watermark_ms - horizon_ms) // SLOT_MS
        while len(self.ids) > 1 and (min(self.ids) + 1 <= oldest or self._is_full):
            slot = min(self.ids)
            del self.ids[slot]
            self.floor_ms = max(self.floor_ms, (slot + 1) * SLOT_MS)

    def _drop_ended(self, before_ms: int) -> None:
        """Drops quarters that ended before an instant; no floor is needed for what all refuse."""
        for slot in [slot for slot in self.ids if (slot + 1) * SLOT_MS <= before_ms]:
            del self.ids[slot]
        if not self.ids:
            self.watermark_ms = 0
        if self.floor_ms <= before_ms:
            self.floor_ms = 0

    def ids_go_ms(self, *, horizon_ms: int) -> int | None:
        """When the last quarter may be dropped by time alone; None where there is none."""
        if not self.ids:
            return None
        return (max(self.ids) + 2) * SLOT_MS + horizon_ms + LONGEST_WAIT_MS

    @property
    def is_idle(self) -> bool:
        """Whether nothing is remembered but when the customer was looked at."""
        events = self.ids or self.tallies or self.events or self.set_at
        return not (events or self.signals_due_ms or self.floor_ms)

    @property
    def held(self) -> int:
        """How many ids, tallies and events are remembered."""
        ids = sum(map(len, self.ids.values())) // DIGEST_BYTES
        return ids + len(self.tallies) + len(self.events)

    @property
    def _is_full(self) -> bool:
        return sum(map(len, self.ids.values())) > MAX_IDS * DIGEST_BYTES


def too_old_ms(*, horizon_ms: int, now_ms: int) -> int:
    """What happened before this instant is refused for its age alone, as its id may have gone."""
    return now_ms - horizon_ms - LONGEST_WAIT_MS


@dataclass(frozen=True, slots=True)
class Earlier:
    """What is remembered of customers who were merged into one; of the events before that."""

    memories: tuple[Memory, ...] = ()

    @property
    def floor_ms(self) -> int:
        """Before this instant ids were dropped."""
        return max((memory.floor_ms for memory in self.memories), default=0)

    def knows(self, digest: bytes) -> bool:
        """Whether an event was applied to any of them."""
        return any(memory.knows(digest) for memory in self.memories)

    def tallies_with(self, own: Memory) -> Tallies:
        """What was tallied of the customer and of all who were merged into it."""
        return united_tallies(own.tallies, (memory.tallies for memory in self.memories))

    def events_with(self, own: Memory) -> list[KeptEvent]:
        """The events of the customer and of all who were merged into it, each once."""
        events = (*own.events, *(event for memory in self.memories for event in memory.events))
        return list({event.digest: event for event in events}.values())


def read_earlier(record: CustomerRecord) -> Earlier:
    """What is remembered of those merged into a customer. Raises StoreCorrupt."""
    return Earlier(tuple(read_memory(part.stream) for part in record.parts if part.stream))


def _holds(ids: bytes, digest: bytes) -> bool:
    place = ids.find(digest)
    while place >= 0 and place % DIGEST_BYTES:
        place = ids.find(digest, place + 1)
    return place >= 0


_decoder = msgspec.msgpack.Decoder(Memory)
_encoder = msgspec.msgpack.Encoder()


def read_memory(data: bytes) -> Memory:
    """What was remembered; nothing where the store holds nothing. Raises StoreCorrupt."""
    if not data:
        return Memory()
    try:
        memory = _decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise StoreCorrupt(f"what ingestion remembers does not have the declared layout: {error}") from error
    if memory.format != FORMAT:
        raise StoreCorrupt(
            f"what ingestion remembers has format {memory.format}, this version reads {FORMAT}"
        )
    return memory


def write_memory(memory: Memory) -> bytes:
    """The bytes to store. Raises StoreRefused where a sum has outgrown 64 bits."""
    try:
        return _encoder.encode(memory)
    except OverflowError as error:
        raise StoreRefused(f"a sum over events has outgrown 64 bits: {error}") from error
