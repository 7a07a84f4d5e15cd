"""Budgets on LMDB: counted exactly, whichever way clocks go, at a cost that does not grow with them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from feature_store.embedded.budgets import DATABASES, Budgets
from feature_store.embedded.environment import Environment
from feature_store.state import Demand

DAY = Demand("calls", 4, 1_000)
WEEK = Demand("calls", 9, 7_000)
HOUR_MS = 3_600_000


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[Environment]:
    environment = Environment(tmp_path / "budgets", map_size_bytes=1 << 24, databases=DATABASES, sync=False)
    yield environment
    environment.close()


@pytest.fixture
def budgets(environment: Environment) -> Budgets:
    return Budgets(environment, environment.databases)


class _Reference:
    """The same by a plain list of what is held and spent."""

    def __init__(self) -> None:
        self.held: dict[str, int] = {}
        self.spent: list[int] = []

    def left(self, demand: Demand, now_ms: int) -> int:
        held = sum(until_ms > now_ms for until_ms in self.held.values())
        spent = sum(at_ms > now_ms - demand.window_ms for at_ms in self.spent)
        return max(0, demand.limit - held - spent)


@pytest.mark.parametrize("seed", range(8))
def test_units_are_counted_exactly(budgets: Budgets, seed: int) -> None:
    """With two windows, and instants that also go back, exactly what is left may be taken."""
    chance, reference, clock_ms = random.Random(seed), _Reference(), 10_000

    for i in range(400):
        clock_ms += chance.randrange(120)
        now_ms = clock_ms - chance.choice((0, 0, 30, 500))
        left = budgets.left([DAY, WEEK], now_ms=now_ms)
        until_ms = now_ms + chance.randrange(1, 900)
        refused = budgets.take([DAY, WEEK], key=f"k{i}", now_ms=now_ms, until_ms=until_ms)

        assert left == (reference.left(DAY, now_ms), reference.left(WEEK, now_ms))
        assert bool(refused) == (0 in left)
        if not refused:
            reference.held[f"k{i}"] = until_ms
        for key in [k for k, end in reference.held.items() if end > now_ms and chance.random() < 0.4]:
            spent = chance.random() < 0.7
            budgets.settle(["calls"], key=key, now_ms=now_ms, spent=spent)
            reference.spent += [now_ms] * spent
            del reference.held[key]


def test_units_that_no_window_reaches_are_dropped(budgets: Budgets, environment: Environment) -> None:
    """A budget in use for a long time keeps what its window and a wrong clock may reach, and no more."""
    demand = Demand("calls", 1_000, HOUR_MS)

    for i in range(2_000):
        now_ms = i * HOUR_MS // 50
        budgets.take([demand], key=str(i), now_ms=now_ms, until_ms=now_ms + 1_000)
        if i % 2:
            budgets.settle(["calls"], key=str(i), now_ms=now_ms, spent=True)

    units, times, counts = (
        environment.read(lambda txn, d=database: txn.stat(d)["entries"]) for database in environment.databases
    )
    assert units == times < 110
    assert counts == 2
    assert budgets.left([demand], now_ms=2_000 * HOUR_MS // 50) == (975,)


def test_longer_window_starts_with_what_the_shorter_held(budgets: Budgets) -> None:
    """A rule that now looks back further counts all that is still known."""
    for i in range(4):
        budgets.take([DAY], key=str(i), now_ms=i * 400, until_ms=9_000)
        budgets.settle(["calls"], key=str(i), now_ms=i * 400, spent=True)

    assert budgets.left([DAY, WEEK], now_ms=1_500) == (2, 5)


def test_budgets_are_counted_by_name(budgets: Budgets) -> None:
    """There are as many budgets as names that units were taken of."""
    for name in ("a", "b", "c"):
        for key in ("k1", "k2"):
            budgets.take([Demand(name, 9, 9)], key=key, now_ms=0, until_ms=5)

    assert budgets.names() == 3
