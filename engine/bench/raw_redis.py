"""redis-py alone: what a read of the same keys costs without a store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import cast

import redis


class RawRedis:
    """redis-py's client as it comes, with hiredis. Made by `raw_redis`."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def values(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """MGET."""
        return cast("list[bytes | None]", self._client.mget(keys))


@contextmanager
def raw_redis(url: str) -> Iterator[RawRedis]:
    """A client of the server at a URL."""
    with closing(redis.Redis.from_url(url)) as client:
        yield RawRedis(client)
