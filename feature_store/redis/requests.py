"""Commands to a server or a cluster, with what it refused as errors of the feature store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

from redis.exceptions import ResponseError

from feature_store.errors import StoreUnavailable
from feature_store.redis import faults
from feature_store.redis.node import Node
from feature_store.redis.scripts import Command, Script, Word

ScriptCall = tuple[tuple[bytes, ...], tuple[Word, ...]]
"""Keys and arguments of one run of a script."""

_BATCH = 500
"""Commands sent together: enough to forget the round trip, few enough for the memory of both sides."""

_SCAN_COUNT = 1000

Item = TypeVar("Item")


class Servers(Protocol):
    """One server or a cluster."""

    keys_together: int
    """How many keys of different customers one command may name."""

    def calls(self, commands: Sequence[Command]) -> list[object]:
        """The replies, those of type ResponseError included. Raises StoreUnavailable."""
        ...

    def each(self) -> Iterator[Node]:
        """Every primary."""
        ...

    def close(self) -> None:
        """Closes all connections."""
        ...


class Requests:
    """What the store asks of its servers."""

    def __init__(self, servers: Servers, *, where: str) -> None:
        self._servers = servers
        self._where = where

    def ask(self, commands: Sequence[Command], what: str = "") -> list[object]:
        """The replies to commands sent together. Raises the error for the first that was refused."""
        return self._whole(self._servers.calls(commands), what)

    def ask_many(self, commands: Sequence[Command], what: str = "") -> list[object]:
        """The same for any number, in batches."""
        return [reply for batch in batches(commands) for reply in self.ask(batch, what)]

    def values(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of any keys; one of another type than string shows as None."""
        parts: list[Command] = [("MGET", *part) for part in self.parts(keys)]
        replies = self.ask_many(parts)
        return [value for reply in replies if isinstance(reply, list) for value in reply]

    def parts(self, items: Sequence[Item]) -> Iterator[Sequence[Item]]:
        """Keys of different customers in groups that one command may name: one by one in a cluster."""
        size = self._servers.keys_together
        return (items[start : start + size] for start in range(0, len(items), size))

    def run(self, script: Script, calls: Sequence[ScriptCall], what: str = "") -> list[object]:
        """Runs a script once for each call; introduces it to servers that have not seen it."""
        return [reply for batch in batches(calls) for reply in self._run(script, batch, what)]

    def _run(self, script: Script, calls: Sequence[ScriptCall], what: str) -> list[object]:
        commands = [script.call(keys, arguments) for keys, arguments in calls]
        replies = self._servers.calls(commands)
        unseen = [number for number, reply in enumerate(replies) if faults.is_unknown_script(reply)]
        if unseen:
            again = self._servers.calls([script.introduced(commands[number]) for number in unseen])
            for number, reply in zip(unseen, again, strict=True):
                replies[number] = reply
        return self._whole(replies, what)

    def ask_each(self, command: Command) -> list[object]:
        """The reply of every primary to a command without a key; of those that answer, if any does."""
        replies: list[object] = []
        silent: list[StoreUnavailable] = []
        for node in self._servers.each():
            try:
                replies += node.calls([command])
            except StoreUnavailable as error:
                silent.append(error)
        if silent and not replies:
            raise silent[0]
        return self._whole(replies)

    def _whole(self, replies: list[object], what: str = "") -> list[object]:
        """The replies. Raises the error for the first that was refused."""
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise faults.reply_fault(reply, where=self._where, what=what)
        return replies

    def scan(self, pattern: bytes) -> Iterator[bytes]:
        """Keys that match a pattern, on every server; one may come twice."""
        for node in self._servers.each():
            cursor: Word = b"0"
            while True:
                scanned = node.calls([("SCAN", cursor, "MATCH", pattern, "COUNT", _SCAN_COUNT)])
                (reply,) = self._whole(scanned)
                cursor, keys = reply if isinstance(reply, list) else (b"0", [])
                yield from keys
                if cursor == b"0":
                    break

    def close(self) -> None:
        """Closes all connections; later calls raise StoreUnavailable."""
        self._servers.close()


def batches(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """The items in groups to send together."""
    return (items[start : start + _BATCH] for start in range(0, len(items), _BATCH))
