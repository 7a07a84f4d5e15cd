"""Which customers are to be looked at again, and when: marks that a killed writer never loses.

Marks and customers are in different slots of a cluster, so no script changes both. An update therefore marks
first (never later than the customer is marked already), then replaces the values, then sets the mark to what
was written. Between the two it may be killed: the mark then is early, and the customer is looked at for
nothing. It may be overtaken: so each writer leaves a token with its mark, and does the last step only where
the token is still its own. The value `d` of the customer changes with every mark, so that of two updates that
set marks one fails and is made again, and the later one's mark stands.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping

from feature_store.redis.keys import DUE_SHARDS, Keys
from feature_store.redis.requests import Requests
from feature_store.redis.scripts import KEEP, MARK, Command, Script, Word

_TOKEN_BYTES = 8


def new_token() -> bytes:
    """What tells one writer from another."""
    return secrets.token_hex(_TOKEN_BYTES).encode()


class Marks:
    """The due marks of all customers."""

    def __init__(self, requests: Requests, keys: Keys) -> None:
        self._requests = requests
        self._keys = keys

    def announce(self, token: bytes, instants: Mapping[str, int]) -> None:
        """Marks customers before their values are written; 0 announces that a mark goes."""
        self._run(MARK, token, instants)

    def keep(self, token: bytes, instants: Mapping[str, int]) -> None:
        """Sets the marks to what was written, where nobody else has begun to."""
        self._run(KEEP, token, instants)

    def _run(self, script: Script, token: bytes, instants: Mapping[str, int]) -> None:
        by_shard: dict[int, list[Word]] = {}
        for customer_id, at_ms in instants.items():
            shard = self._keys.due_shard(customer_id)
            by_shard.setdefault(shard, []).extend((customer_id.encode(), at_ms))
        calls = [(self._keys.due(shard), (token, *words)) for shard, words in by_shard.items()]
        self._requests.run(script, calls)

    def due(self, *, now_ms: int, limit: int) -> list[str]:
        """Customers marked for an instant not after now, the longest due first."""
        commands: list[Command] = [
            ("ZRANGEBYSCORE", self._keys.due(shard)[0], "-inf", now_ms, "WITHSCORES", "LIMIT", 0, limit)
            for shard in range(DUE_SHARDS)
        ]
        found = [pair for reply in self._requests.ask(commands) for pair in _pairs(reply)]
        return [customer_id for _, customer_id in sorted(found)[:limit]]

    def drop(self, customer_id: str) -> bool:
        """Takes a customer's mark away; whether there was one."""
        at, by = self._keys.due(self._keys.due_shard(customer_id))
        name = customer_id.encode()
        removed, _ = self._requests.ask([("ZREM", at, name), ("HDEL", by, name)])
        return bool(removed)


def _pairs(reply: object) -> Iterable[tuple[float, str]]:
    """Instants and customers, from a reply with scores."""
    words = reply if isinstance(reply, list) else []
    return ((float(at), name.decode()) for name, at in zip(words[::2], words[1::2], strict=True))
