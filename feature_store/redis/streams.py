"""A Redis Stream that several processes read as one consumer group, and the stream of what they refused.

A connection of its own, as reads block; each call is one exchange. An entry is delivered to one consumer and
stays pending until it is settled, so what a dead consumer held is claimed by another one. Settling moves
refused entries to the second stream and acknowledges all of them in one script.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis.exceptions import MovedError, RedisError, ResponseError

from feature_store.errors import StoreError
from feature_store.redis import faults
from feature_store.redis.address import Address, Place, Topology
from feature_store.redis.connecting import AnyConnection, door_of, primary_of

FIELD: Final = b"event"
"""The field of an entry that holds the event as JSON."""
_GROUP_EXISTS: Final = "BUSYGROUP"
_PAGE: Final = 500
_SETTLE: Final = """
local group, count = ARGV[1], tonumber(ARGV[2])
local at = 3 + count
while ARGV[at] do
  local id, words = ARGV[at], tonumber(ARGV[at + 1])
  if #redis.call('XPENDING', KEYS[1], group, id, id, 1) == 1 then
    redis.call('XADD', KEYS[2], '*', unpack(ARGV, at + 2, at + 1 + words))
  end
  at = at + words + 2
end
if count > 0 then redis.call('XACK', KEYS[1], group, unpack(ARGV, 3, 2 + count)) end
"""
"""A script, so that an entry is never acknowledged whose letter could not be written, and has one letter
at most: what another consumer settled meanwhile is no longer pending."""
_REPLACE: Final = """
local at = 1
while ARGV[at] do
  local id, words = ARGV[at], tonumber(ARGV[at + 1])
  if redis.call('XDEL', KEYS[1], id) == 1 then
    redis.call('XADD', KEYS[1], '*', unpack(ARGV, at + 2, at + 1 + words))
  end
  at = at + words + 2
end
"""
"""A script, so that no letter is lost or there twice, and none comes back that was taken out meanwhile."""
_MOVES: Final = 5

Fields = Mapping[bytes, bytes]
_Reply = Any


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a stream. `deliveries` is how often it was handed out, where that was asked."""

    id: str
    fields: Fields
    deliveries: int = 1

    @property
    def added_ms(self) -> int:
        """When the server took it in: the same however often it is delivered."""
        return int(self.id.partition("-")[0])


class _Connected:
    """One connection to the server of a stream, opened by the first call. Not safe for threads."""

    def __init__(self, address: Address, *, name: str, timeout_s: float) -> None:
        self.name = name
        self._stream = name.encode()
        self._address = address
        self._timeout_s = timeout_s
        self._door = door_of(address, timeout_s=timeout_s)
        self._locate: Callable[[], Place] = lambda: address.places[0]
        if address.topology is Topology.SENTINEL:
            self._locate = primary_of(address, timeout_s=timeout_s)
        self._moved: Place | None = None
        self._connection: AnyConnection | None = None

    @property
    def place(self) -> str:
        """Where the server is, without secrets."""
        return self._address.shown

    def close(self) -> None:
        """Closes the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()

    def _call(self, *command: object, extra_s: float = 0.0) -> _Reply:
        return self._calls([command], extra_s=extra_s)[0]

    def _calls(self, commands: Sequence[tuple[object, ...]], *, extra_s: float = 0.0) -> list[_Reply]:
        """The replies to commands sent together. Raises StoreError for the first one that was refused."""
        for _ in range(_MOVES):
            replies = self._exchanged(commands, extra_s)
            moved = next((reply for reply in replies if isinstance(reply, MovedError)), None)
            if moved is None:
                break
            self.close()
            self._moved = (moved.host, moved.port)
        for reply in replies:
            if isinstance(reply, ResponseError):
                if faults.is_read_only(reply):
                    self.close()
                raise faults.reply_fault(reply, where=self._address.shown, what=self.name)
        return replies

    def _exchanged(self, commands: Sequence[tuple[object, ...]], extra_s: float) -> list[_Reply]:
        """Replies of whatever kind. A connection that failed is closed: no reply is taken for another's."""
        timeout_ms = round(self._timeout_s * 1000)
        try:
            if self._connection is None:
                self._connection = self._door.open(self._moved or self._locate())
            connection = self._connection
            connection.send_packed_command(connection.pack_commands(commands), check_health=False)
            return [_reply(connection, self._timeout_s + extra_s) for _ in commands]
        except (RedisError, OSError) as error:
            self.close()
            self._moved = None
            raise faults.call_fault(error, where=self._address.shown, timeout_ms=timeout_ms) from error
        except BaseException:  # interrupted between send and read
            self.close()
            raise


class EventStream(_Connected):
    """One stream, its group, and its dead letters `<stream>:dead`. Not safe for threads.

    Every method raises StoreError where the server cannot be reached or refuses; entries handed out then
    stay pending.
    """

    def __init__(self, address: Address, *, name: str, group: str, consumer: str, timeout_s: float) -> None:
        super().__init__(address, name=name, timeout_s=timeout_s)
        self._dead = f"{name}:dead".encode()
        self._group, self._consumer = group.encode(), consumer.encode()

    def prepare(self) -> None:
        """Makes the stream and its group where they are missing; the group begins with the first entry."""
        try:
            self._call("XGROUP", "CREATE", self._stream, self._group, "0", "MKSTREAM")
        except StoreError as error:
            if _GROUP_EXISTS not in str(error):
                raise

    def read(self, *, count: int, block_ms: int) -> list[Entry]:
        """Entries that nobody was handed yet, waiting for the first; none where none came in time."""
        reply = self._call(
            "XREADGROUP", "GROUP", self._group, self._consumer, "COUNT", count, "BLOCK", block_ms,
            "STREAMS", self._stream, ">", extra_s=block_ms / 1000,
        )  # fmt: skip
        return _entries(reply[0][1]) if reply else []

    def claim(self, *, idle_ms: int, count: int) -> list[Entry]:
        """Takes over entries that a consumer holds since `idle_ms` without settling them, oldest first."""
        reply = self._call(
            "XAUTOCLAIM", self._stream, self._group, self._consumer, idle_ms, "0-0", "COUNT", count
        )
        entries = [e for e in _entries(reply[1]) if e.fields]
        if not entries:
            return []
        told = self._call(
            "XPENDING", self._stream, self._group, entries[0].id, entries[-1].id, count, self._consumer
        )
        times = {row[0].decode(): int(row[3]) for row in told}
        return [Entry(e.id, e.fields, times.get(e.id, 1)) for e in entries]

    def settle(self, ids: Sequence[str], refused: Mapping[str, Fields]) -> None:
        """Acknowledges entries; those refused, by id, become dead letters first: all of it or nothing."""
        words: list[object] = [self._group, len(ids), *ids]
        for entry_id, fields in refused.items():
            flat = [word for pair in fields.items() for word in pair]
            words += [entry_id, len(flat), *flat]
        self._call("EVAL", _SETTLE, 2, self._stream, self._dead, *words)

    def trim(self, *, older_than_ms: int) -> None:
        """Removes entries added before an instant, but none that a group has not read or not settled."""
        oldest = (older_than_ms, 0)
        for row in _rows(self._call("XINFO", "GROUPS", self._stream)):
            oldest = min(oldest, _place(row[b"last-delivered-id"]))
            if row[b"pending"]:
                pending = self._call("XPENDING", self._stream, row[b"name"])
                oldest = min(oldest, _place(pending[1]))
        at_ms, number = oldest
        self._call("XTRIM", self._stream, "MINID", f"{at_ms}-{number}")

    def add(self, events: Sequence[bytes], *, late: bool = False) -> None:
        """Adds events as JSON. `late` marks what is to be applied however late it is."""
        extra: tuple[object, ...] = ("late", "1") if late else ()
        for start in range(0, len(events), _PAGE):
            page = events[start : start + _PAGE]
            self._calls([("XADD", self._stream, "*", FIELD, event, *extra) for event in page])

    def letters(self) -> Iterator[Entry]:
        """Every dead letter, the oldest first."""
        start = "-"
        while page := _entries(self._call("XRANGE", self._dead, start, "+", "COUNT", _PAGE)):
            yield from page
            start = f"({page[-1].id}"

    def remove_letters(self, ids: Sequence[str]) -> None:
        """Takes letters out."""
        if ids:
            self._call("XDEL", self._dead, *ids)

    def replace_letters(self, letters: Mapping[str, Fields]) -> None:
        """Keeps others, at the end, in the place of letters by id; those that are out stay out."""
        for start in range(0, len(letters), _PAGE):
            words: list[object] = []
            for letter_id, fields in list(letters.items())[start : start + _PAGE]:
                words += [letter_id, 2 * len(fields)]
                words += [word for pair in fields.items() for word in pair]
            self._call("EVAL", _REPLACE, 1, self._dead, *words)

    def waiting(self) -> tuple[int, int]:
        """Entries pending and entries in the stream, settled ones included until they are trimmed."""
        pending = self._call("XPENDING", self._stream, self._group)
        return int(pending[0]), int(self._call("XLEN", self._stream))

    def is_settled(self) -> bool:
        """Whether the group has read every entry and holds none."""
        newest = _entries(self._call("XREVRANGE", self._stream, "+", "-", "COUNT", 1))
        groups = _rows(self._call("XINFO", "GROUPS", self._stream))
        own = next(row for row in groups if row[b"name"] == self._group)
        read = not newest or _place(own[b"last-delivered-id"]) >= _place(newest[0].id.encode())
        return read and not own[b"pending"]

    def leave(self) -> None:
        """Takes this consumer out of the group where it holds nothing; for a stop in good order."""
        held = self._call("XPENDING", self._stream, self._group, "-", "+", 1, self._consumer)
        if not held:
            self._call("XGROUP", "DELCONSUMER", self._stream, self._group, self._consumer)


class OutboundStream(_Connected):
    """A stream that others read and that is only added to. Not safe for threads.

    Every method raises StoreError where the server cannot be reached or refuses; then some of the entries may
    be there.
    """

    def append(self, entries: Sequence[Fields], *, max_length: int | None = None) -> None:
        """Adds entries in their order; with `max_length` the oldest go, read or not, when there are more."""
        bound = () if max_length is None else ("MAXLEN", "~", max_length)
        for start in range(0, len(entries), _PAGE):
            self._calls(
                [
                    ("XADD", self._stream, *bound, "*", *(word for pair in fields.items() for word in pair))
                    for fields in entries[start : start + _PAGE]
                ]
            )

    def length(self) -> int:
        """Entries in the stream."""
        return int(self._call("XLEN", self._stream))


def _reply(connection: AnyConnection, timeout_s: float) -> _Reply:
    try:
        return connection.read_response(timeout=timeout_s)
    except ResponseError as error:
        return error


def _entries(reply: _Reply) -> list[Entry]:
    """Entries of a reply; one that was deleted while it was pending has no fields."""
    return [Entry(row[0].decode(), {} if row[1] is None else _named(row[1])) for row in reply]


def _named(flat: Sequence[bytes]) -> Fields:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _rows(reply: _Reply) -> list[dict[bytes, Any]]:
    return [dict(zip(row[::2], row[1::2], strict=True)) for row in reply]


def _place(entry_id: bytes) -> tuple[int, int]:
    """An entry's id as numbers, which go by age."""
    at_ms, _, number = entry_id.partition(b"-")
    return int(at_ms), int(number or 0)
