"""The benchmark of ways to serve gRPC measures each of them on the real handler."""

from __future__ import annotations

import pytest

from engine.bench.stack import WAYS, Work, measure, table
from engine.bench.whole_shape import Size

FIGURES = ("per_s", "crowded_per_s", "cpu_us", "p50_ms", "p99_ms")
SMALL = Work(size=Size(candidates=6, rules=6, customers=30, trees=5), turns=1, seconds=0.2)


@pytest.mark.slow
def test_every_way_answers() -> None:
    """Threads, the event loop, and threads behind the event loop."""
    ways = {name: WAYS[name] for name in ("threads_4", "aio", "aio_pool_2")}

    figures = measure(SMALL, ways)

    names = {f"stack_{way}_{figure}" for way in ways for figure in FIGURES}
    assert set(figures) == {*names, "aio_over_threads_cpu"}
    assert all(value > 0 for value in figures.values())


def test_table_has_a_row_for_each_way() -> None:
    """With rounded figures, in the order that the ways are named."""
    figures = {f"stack_{way}_{figure}": 1234.567 for way in WAYS for figure in FIGURES}

    rows = table(figures).splitlines()[2:]

    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == list(WAYS)
    assert rows[0] == "| threads_1 | 1235 | 1235 | 1235 | 1234.57 | 1234.57 |"
