"""Units of budgets that all customers share: two sorted sets for each, counted by the server.

A held unit is its key by the instant its hold ends, a spent one by the instant it was spent. A script takes
from all budgets or none, in one step, so what is held and spent never exceeds a limit. The caller's clock
decides what counts; what no longer does is kept for a margin, so that a clock that is behind still finds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from feature_store.contacts import DAY_MS, DEFAULT_HISTORY_MS, key_digest
from feature_store.redis.keys import Keys
from feature_store.redis.requests import Requests
from feature_store.redis.scripts import SETTLE, TAKE, Command, Word
from feature_store.state import Demand

CLOCK_MARGIN_MS: Final = 3_600_000
"""How far the clocks of two servers may differ."""

_HELD_MARGIN_MS: Final = DAY_MS
_SPENT_LIVES_MS: Final = 2 * DEFAULT_HISTORY_MS
"""After this long without a spending a budget's units are forgotten; no window is as long."""


class Budgets:
    """The budgets under one prefix."""

    def __init__(self, requests: Requests, keys: Keys) -> None:
        self._requests = requests
        self._keys = keys

    def take(self, demands: Sequence[Demand], *, key: str, now_ms: int, until_ms: int) -> tuple[str, ...]:
        """Holds one unit of each budget under `key`, or none; names of those that had none left."""
        if not demands:
            return ()
        widest: dict[str, int] = {}
        for demand in demands:
            widest[demand.budget] = max(demand.window_ms, widest.get(demand.budget, 0))
        keys = tuple(k for demand in demands for k in self._keys.budget(demand.budget))
        lives_ms = max(until_ms - now_ms, 0) + _HELD_MARGIN_MS
        arguments: list[Word] = [key_digest(key), now_ms, until_ms, lives_ms, CLOCK_MARGIN_MS]
        for demand in demands:
            arguments += (demand.limit, demand.window_ms, widest[demand.budget])
        (reply,) = self._requests.run(TAKE, [(keys, tuple(arguments))])
        numbers = reply if isinstance(reply, list) else []
        return tuple(dict.fromkeys(demands[number - 1].budget for number in numbers))

    def settle(self, budgets: Sequence[str], *, key: str, now_ms: int, spent: bool) -> None:
        """Makes the units held under `key` spent, or gives them back; what is not held stays as it is."""
        if not budgets:
            return
        keys = tuple(k for name in budgets for k in self._keys.budget(name))
        arguments = (key_digest(key), now_ms, int(spent), _SPENT_LIVES_MS)
        self._requests.run(SETTLE, [(keys, arguments)])

    def left(self, demands: Sequence[Demand], *, now_ms: int) -> tuple[int, ...]:
        """Units left of each budget."""
        if not demands:
            return ()
        commands: list[Command] = []
        for demand in demands:
            held, spent = self._keys.budget(demand.budget)
            commands.append(("ZCOUNT", held, f"({now_ms}", "+inf"))
            commands.append(("ZCOUNT", spent, f"({now_ms - demand.window_ms}", "+inf"))
        counts = [count if isinstance(count, int) else 0 for count in self._requests.ask_many(commands)]
        taken = zip(counts[::2], counts[1::2], strict=True)
        return tuple(max(0, d.limit - held - spent) for d, (held, spent) in zip(demands, taken, strict=True))
