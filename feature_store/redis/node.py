"""Connections to one server, shared by the threads of this process.

A connection is used by one thread at a time and given back only when every reply was read: one that failed
between send and read is closed, so no reply is ever taken for that of another call.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence

from hiredis import pack_command
from redis.exceptions import RedisError, ResponseError

from feature_store.errors import StoreUnavailable
from feature_store.redis import faults
from feature_store.redis.address import Place, place_text
from feature_store.redis.breaker import Breaker
from feature_store.redis.connecting import GREETING, AnyConnection, Door, check_server
from feature_store.redis.scripts import Command

_IDLE_TRUSTED_S = 0.05
"""Age from which an idle connection is looked at before use: the server may have closed it since."""


_QUICK_WORDS = 64
"""Words of the commands that the timeout is meant for: what a decision asks. More get more time."""

_WORDS_PER_S = 4000


class Node:
    """One server, or whichever is the primary now. Safe for threads; each process opens its own."""

    keys_together = 100  # each call of a script holds the server up for the others

    def __init__(self, door: Door, locate: Callable[[], Place], *, where: str, breaker: Breaker) -> None:
        self._door = door
        self._locate = locate
        self._where = where
        self._breaker = breaker
        self._idle: list[tuple[AnyConnection, float]] = []
        self._pid = os.getpid()
        self._closed = False

    def calls(self, commands: Sequence[Command]) -> list[object]:
        """The replies to commands sent together; what the server refused is among them as a ResponseError.

        Raises StoreUnavailable where no reply came; then it is not known what was done.
        """
        if self._closed:
            raise StoreUnavailable(f"{self._where}: this store was closed")
        if not self._breaker.admits():
            raise StoreUnavailable(
                f"{self._where}: calls are held back since several failed; the last: {self._breaker.cause}"
            )
        timeout_ms = round(self._door.timeout_s * 1000)
        try:
            replies = self._exchange(commands)
        except (RedisError, OSError) as error:
            self._breaker.failed(faults.call_cause(error, timeout_ms=timeout_ms))
            raise faults.call_fault(error, where=self._where, timeout_ms=timeout_ms) from error
        except StoreUnavailable as error:
            self._breaker.failed(str(error))
            raise
        self._breaker.succeeded()
        if any(faults.is_read_only(reply) for reply in replies if isinstance(reply, ResponseError)):
            self.drop_connections()
        return replies

    def _exchange(self, commands: Sequence[Command]) -> list[object]:
        connection, whole = self._taken(), False
        try:
            sent = commands if self._door.clustered else (GREETING, *commands)
            connection.send_packed_command([_packed(sent)], check_health=False)
            if not self._door.clustered:  # what became a replica since the last call may know old consents
                check_server(_reply(connection), clustered=False)
            words = sum(map(len, commands))
            if words <= _QUICK_WORDS:
                replies = [_reply(connection) for _ in commands]
            else:
                longer_s = self._door.timeout_s + words / _WORDS_PER_S
                replies = [_reply(connection, longer_s) for _ in commands]
            whole = True
        finally:
            if whole and not self._closed:
                self._idle.append((connection, time.monotonic()))
            else:
                connection.disconnect()
        return replies

    def _taken(self) -> AnyConnection:
        """An idle connection that still works, the latest used first, or a new one."""
        if self._pid != os.getpid():  # forked: its parent uses these
            self._pid, self._idle = os.getpid(), []
        while self._idle:
            try:
                connection, since_s = self._idle.pop()
            except IndexError:  # another thread took the last
                break
            if time.monotonic() - since_s < _IDLE_TRUSTED_S or _is_fresh(connection):
                return connection
            connection.disconnect()
        return self._door.open(self._locate())

    def each(self) -> Iterator[Node]:
        """Itself, the only one."""
        yield self

    def drop_connections(self) -> None:
        """Closes what is idle, so that the next calls find out anew where and what the server is."""
        idle, self._idle = self._idle, []
        for connection, _ in idle:
            connection.disconnect()

    def close(self) -> None:
        """Closes the connections that are idle; those in use are closed by their calls."""
        self._closed = True
        self.drop_connections()


def fixed(place: Place) -> Callable[[], Place]:
    """A place that does not move."""
    return lambda: place


def node_name(place: Place) -> str:
    """A server for people."""
    return f"Redis {place_text(place)}"


def _packed(commands: Sequence[Command]) -> bytes:
    """The commands as sent, in a third of the time that the connection's own packing takes."""
    return b"".join([pack_command(command) for command in commands])  # type: ignore[arg-type]  # stub: one word


def _reply(connection: AnyConnection, timeout_s: float | None = None) -> object:
    try:
        if timeout_s is None:
            return connection.read_response()
        return connection.read_response(timeout=timeout_s)
    except ResponseError as error:
        return error


def _is_fresh(connection: AnyConnection) -> bool:
    try:
        return not connection.can_read()
    except (RedisError, OSError):
        return False
