"""The benchmark of holding decides on all three sides, and what it holds is held."""

from __future__ import annotations

from engine.bench.holding import measure


def test_every_side_is_timed_against_the_one_that_holds_nothing() -> None:
    """Microseconds of each, and the two ratios that are claimed."""
    figures = measure(decisions=8)

    assert set(figures) == {
        "hold_counted_us", "hold_reserved_us", "hold_budget_us",
        "reserved_over_counted", "budget_over_counted",
    }  # fmt: skip
    assert all(value > 0 for value in figures.values())
    assert figures["reserved_over_counted"] == figures["hold_reserved_us"] / figures["hold_counted_us"]
