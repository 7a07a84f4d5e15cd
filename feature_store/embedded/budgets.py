"""Units of budgets that all customers share: held for a while, then spent or free again. Counted exactly.

A unit is one entry in `units` by budget and key, and one in `unit_times`, in order of the instant it counts
by: the end of a hold, the time of a spending. A hold counts while that instant is after now, a spending
while it is after now less the window. How many that are is kept in `unit_counts` with the instant it holds
for, and moved on by the entries in between: a budget of a million units costs as much to take as one of ten.
Clocks of several processes may go back and forth; the count follows both ways.

What no window asked for so far reaches is dropped. So a window that is made longer starts with what the
shorter one still held.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

from feature_store.contacts import key_digest
from feature_store.state import Demand

if TYPE_CHECKING:
    from feature_store.embedded.environment import Database, Environment, Snapshot

DATABASES = ((b"units", False), (b"unit_times", False), (b"unit_counts", False))
_HELD, _SPENT = b"H", b"S"
_UNTIL_NOW_MS = 0
"""The window by which holds count: from their end on they do not."""

_CLOCK_MARGIN_MS = 3_600_000
"""How far a clock may go back and still find what no longer counted."""

_DROPPED_PER_TAKE = 8
_DIGEST_BYTES = 16
_SERIES_BYTES = _DIGEST_BYTES + 1
_INSTANT = struct.Struct(">Q")
_SIGN = 1 << 63
_COUNT = struct.Struct(">QQ")


@dataclass(frozen=True, slots=True)
class _Unit:
    """One unit as stored: of which budget, under which key, since or until when."""

    budget: bytes
    key: bytes
    state: bytes
    at_ms: int

    @property
    def series(self) -> bytes:
        return self.budget + self.state

    @property
    def place(self) -> bytes:
        """Its key among the times of its series."""
        return self.series + _instant(self.at_ms) + self.key

    def counts(self, window_ms: int, now_ms: int) -> bool:
        """Whether it is taken from the budget at `now_ms`."""
        return self.at_ms > now_ms - (window_ms if self.state == _SPENT else _UNTIL_NOW_MS)


class Budgets:
    """The budgets of one environment, whose databases are those of DATABASES."""

    def __init__(self, environment: Environment, databases: Sequence[Database]) -> None:
        self._environment = environment
        self._units, self._times, self._counts = databases

    def take(self, demands: Sequence[Demand], *, key: str, now_ms: int, until_ms: int) -> tuple[str, ...]:
        """Holds one unit of each budget under `key`, or none; names of those that had none left."""
        digest = key_digest(key)
        widest = {d.budget: d.window_ms for d in sorted(demands, key=lambda d: d.window_ms)}

        def hold(txn: Snapshot) -> tuple[str, ...]:
            held = {name for name, window in widest.items() if self._holds(txn, name, window, digest, now_ms)}
            wanted = [demand for demand in demands if demand.budget not in held]
            exhausted = [d.budget for d in wanted if self._taken(txn, d, now_ms, keep=True) >= d.limit]
            if not exhausted:
                for budget in {_budget_digest(demand.budget) for demand in wanted}:
                    self._remove(txn, self._unit(txn, budget, digest))
                    self._add(txn, _Unit(budget, digest, _HELD, until_ms))
                    self._drop_old(txn, budget)
            return tuple(dict.fromkeys(exhausted))

        return self._environment.write(hold)

    def settle(self, budgets: Sequence[str], *, key: str, now_ms: int, spent: bool) -> None:
        """Makes the units held under `key` spent, or gives them back; what is not held stays as it is."""
        digest = key_digest(key)

        def end(txn: Snapshot) -> None:
            for budget in {_budget_digest(name) for name in budgets}:
                unit = self._unit(txn, budget, digest)
                if unit is not None and unit.state == _HELD and unit.counts(_UNTIL_NOW_MS, now_ms):
                    self._remove(txn, unit)
                    if spent:
                        self._add(txn, _Unit(budget, digest, _SPENT, now_ms))

        self._environment.write(end)

    def left(self, demands: Sequence[Demand], *, now_ms: int) -> tuple[int, ...]:
        """Units left of each budget."""
        taken = self._environment.read(lambda txn: [self._taken(txn, d, now_ms, keep=False) for d in demands])
        return tuple(max(0, d.limit - count) for d, count in zip(demands, taken, strict=True))

    def names(self) -> int:
        """How many budgets have units, counting or not."""

        def count(txn: Snapshot) -> int:
            with txn.cursor(self._units) as cursor:
                found, after = 0, b""
                while cursor.set_range(after):
                    found += 1
                    after = bytes(cursor.key()[:_DIGEST_BYTES]) + b"\xff" * (_DIGEST_BYTES + 1)
                return found

        return self._environment.read(count)

    def _holds(self, txn: Snapshot, budget: str, window_ms: int, key: bytes, now_ms: int) -> bool:
        """Whether a unit under this key counts already."""
        unit = self._unit(txn, _budget_digest(budget), key)
        return unit is not None and unit.counts(window_ms, now_ms)

    def _unit(self, txn: Snapshot, budget: bytes, key: bytes) -> _Unit | None:
        stored = txn.get(budget + key, db=self._units)
        return None if stored is None else _Unit(budget, key, stored[:1], _read_instant(stored[1:]))

    def _taken(self, txn: Snapshot, demand: Demand, now_ms: int, *, keep: bool) -> int:
        """Units held and spent that count now; with `keep` the next count goes on from here."""
        budget = _budget_digest(demand.budget)
        held = self._counted(txn, budget + _HELD, now_ms, _UNTIL_NOW_MS, keep=keep)
        return held + self._counted(txn, budget + _SPENT, now_ms, demand.window_ms, keep=keep)

    def _counted(self, txn: Snapshot, series: bytes, now_ms: int, window_ms: int, *, keep: bool) -> int:
        """Entries of a series after the window's beginning."""
        place, beginning_ms = series + _INSTANT.pack(window_ms), now_ms - window_ms
        stored = txn.get(place, db=self._counts)
        if stored is None:
            count = sum(1 for _ in self._between(txn, series, beginning_ms, None))
        else:
            counted_from_ms, count = _read_count(stored)
            count -= sum(1 for _ in self._between(txn, series, counted_from_ms, beginning_ms))
            count += sum(1 for _ in self._between(txn, series, beginning_ms, counted_from_ms))
        if keep:
            txn.put(place, _pack_count(beginning_ms, count), db=self._counts)
        return count

    def _between(self, txn: Snapshot, series: bytes, after_ms: int, until_ms: int | None) -> Iterator[bytes]:
        """Places of the entries of a series after one instant, up to and with another."""
        if until_ms is not None and until_ms <= after_ms:
            return
        end = series + b"\xff" * 25 if until_ms is None else series + _instant(until_ms + 1)
        with txn.cursor(self._times) as cursor:
            if cursor.set_range(series + _instant(after_ms + 1)):
                for place in cursor.iternext(keys=True, values=False):
                    if place >= end:
                        return
                    yield bytes(place)

    def _add(self, txn: Snapshot, unit: _Unit) -> None:
        txn.put(unit.budget + unit.key, unit.state + _instant(unit.at_ms), db=self._units)
        txn.put(unit.place, b"", db=self._times)
        self._recount(txn, unit, 1)

    def _remove(self, txn: Snapshot, unit: _Unit | None) -> None:
        if unit is not None:
            txn.delete(unit.budget + unit.key, db=self._units)
            txn.delete(unit.place, db=self._times)
            self._recount(txn, unit, -1)

    def _recount(self, txn: Snapshot, unit: _Unit, change: int) -> None:
        """Brings the counts of a unit's series up to date, where they reach it."""
        for place, counted_from_ms, count in self._counts_of(txn, unit.series):
            if unit.at_ms > counted_from_ms:
                txn.put(place, _pack_count(counted_from_ms, count + change), db=self._counts)

    def _counts_of(self, txn: Snapshot, series: bytes) -> list[tuple[bytes, int, int]]:
        found = []
        with txn.cursor(self._counts) as cursor:
            if cursor.set_range(series):
                for place, stored in cursor:
                    if not place.startswith(series):
                        break
                    found.append((bytes(place), *_read_count(stored)))
        return found

    def _drop_old(self, txn: Snapshot, budget: bytes) -> None:
        """Forgets units that no window reaches, a bounded number, so that no call pays for many."""
        for series in (budget + _HELD, budget + _SPENT):
            reached = [counted_from_ms for _, counted_from_ms, _ in self._counts_of(txn, series)]
            if reached:
                until_ms = min(reached) - _CLOCK_MARGIN_MS
                old = self._between(txn, series, -_SIGN, until_ms)
                for place in [place for place, _ in zip(old, range(_DROPPED_PER_TAKE), strict=False)]:
                    txn.delete(place, db=self._times)
                    txn.delete(budget + place[_SERIES_BYTES + _INSTANT.size :], db=self._units)


def _budget_digest(name: str) -> bytes:
    return blake2b(name.encode(errors="surrogatepass"), digest_size=_DIGEST_BYTES).digest()


def _instant(at_ms: int) -> bytes:
    """An instant whose bytes sort as time does."""
    return _INSTANT.pack(at_ms + _SIGN)


def _read_instant(data: bytes) -> int:
    (shifted,) = _INSTANT.unpack(data)
    return int(shifted) - _SIGN


def _pack_count(counted_from_ms: int, count: int) -> bytes:
    return _COUNT.pack(counted_from_ms + _SIGN, count)


def _read_count(stored: bytes) -> tuple[int, int]:
    shifted, count = _COUNT.unpack(stored)
    return shifted - _SIGN, count
