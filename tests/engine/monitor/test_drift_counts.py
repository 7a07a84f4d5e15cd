"""Counts: what is in which bin, and that parts add up to the whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from drift_company import HOUR_MS, MODEL, demo_customers
from hypothesis import given
from hypothesis import strategies as st

from engine.monitor.drift.binning import InputBinning, count_scores, read_reference
from engine.monitor.drift.counts import BUCKETS, ChannelCounts, WindowCounts, added_up, buckets_of, effective
from engine.monitor.drift.windows import by_day, encode_window


@given(st.integers(1, 400), st.integers(0, 400), st.integers(0, 2**32))
def test_counts_of_two_streams_add_up_to_those_of_the_merged_stream(
    first: int, second: int, seed: int
) -> None:
    """However the decisions are shared out over processes."""
    customers = demo_customers()
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, len(customers.values), first + second)
    rows, names = customers.values[chosen], [customers.names[i] for i in chosen]

    parts = [customers.counted(rows[:first], names[:first]), customers.counted(rows[first:], names[first:])]

    assert encode_window(parts[0] + parts[1]) == encode_window(customers.counted(rows, names))


def test_every_value_is_in_its_bin_missing_or_unknown() -> None:
    """As numpy.searchsorted puts them, edges belonging to the bin above."""
    customers = demo_customers()
    rows = customers.values[:6].copy()
    tenure, contract, paperless = (
        customers.place(n) for n in ("tenure_months", "contract", "paperless_billing")
    )
    rows[:, tenure] = [0, 1.9, 2.0, 6.0, 1000, np.nan]
    rows[:, contract] = [0, 2, 3, -1, 0.5, np.nan]
    rows[:, paperless] = [0, 1, 2, 1, np.inf, 0]

    inputs = customers.counted(rows, ["a"] * 6).models[MODEL].inputs

    assert inputs["tenure_months"].bins.tolist() == [2, 1, 1, 0, 0, 0, 0, 0, 0, 1]
    assert (inputs["tenure_months"].missing, inputs["tenure_months"].unknown) == (1, 0)
    assert (inputs["contract"].bins.tolist(), inputs["contract"].missing) == ([1, 0, 1], 1)
    assert (inputs["contract"].unknown, inputs["paperless_billing"].unknown) == (3, 2)
    assert all(tally.asked == 6 for tally in inputs.values())


def test_what_another_schema_could_not_tell_is_unknown() -> None:
    """Not merely missing: it was there and nobody could read it."""
    customers = demo_customers()
    rows = customers.values[:3].copy()
    place = customers.place("tenure_months")
    rows[:2, place] = np.nan
    unread = np.zeros(rows.shape, dtype=np.bool_)
    unread[0, place] = True

    binning = InputBinning({MODEL: customers.reference}, customers.schema)
    tally = binning.count(rows, {MODEL: np.ones(3, dtype=np.bool_)}, unread)[MODEL]["tenure_months"]

    assert (tally.missing, tally.unknown, int(tally.bins.sum())) == (1, 1, 1)


def test_each_model_counts_what_it_read() -> None:
    """Two models over the same vectors, of which each scored some."""
    customers = demo_customers()
    binning = InputBinning({"a/1": customers.reference, "b/2": customers.reference}, customers.schema)
    read = {"a/1": np.array([True, True, False]), "b/2": np.array([False, True, False])}

    found = binning.count(customers.values[:3], read)

    assert {t.asked for t in found["a/1"].values()} == {2}
    assert {t.asked for t in found["b/2"].values()} == {1}


def test_scores_are_counted_by_hundredths_with_their_sum() -> None:
    """1 is in the last bin; targets without a score are left out."""
    found = count_scores(np.array([0, 0, 1]), np.array([0.004, 1.0, 0.5]), ("tv", "phone", "none"))

    assert set(found) == {"tv", "phone"}
    assert (found["tv"].bins[0], found["tv"].bins[99], found["tv"].total) == (1, 1, 1.004)
    assert found["phone"].bins[50] == 1


@pytest.mark.parametrize("decisions", [500, 2_000, 20_000])
def test_decisions_of_the_same_customers_are_worth_fewer(decisions: int) -> None:
    """n draws from N customers are worth n / (1 + n / N), which the buckets tell without a single id."""
    names = [f"C{i:05}" for i in range(5_000)]
    rng = np.random.default_rng(7)
    chosen = [names[i] for i in rng.integers(0, len(names), decisions)]

    worth = effective(decisions, np.bincount(buckets_of(chosen), minlength=BUCKETS))

    assert worth == pytest.approx(decisions / (1 + decisions / len(names)), rel=0.15)


def test_decisions_of_one_customer_are_worth_one() -> None:
    """And none are worth none."""
    assert effective(1_000, np.bincount(buckets_of(["C1"] * 1_000), minlength=BUCKETS)) == pytest.approx(
        1, abs=0.01
    )
    assert effective(0, np.zeros(BUCKETS, dtype=np.int64)) == 0


def test_counts_over_other_bins_do_not_add_up() -> None:
    """As when a version was trained anew under its old number."""
    one = demo_customers().window(np.random.default_rng(1), 10)
    other = demo_customers().window(np.random.default_rng(1), 10)
    tally = other.models[MODEL].inputs["tenure_months"]
    other.models[MODEL].inputs["tenure_months"] = replace(tally, bins=np.zeros(3, dtype=np.int64))

    with pytest.raises(ValueError, match="over 10 and over 3 bins"):
        one + other


def test_a_day_is_the_sum_of_its_windows() -> None:
    """From midnight to midnight, actions of channels too."""
    windows = [
        WindowCounts(h * HOUR_MS, (h + 1) * HOUR_MS, {}, {"web": ChannelCounts(2, actions={"a": 1, "": 1})})
        for h in (22, 23, 24)
    ]

    first, second = by_day(windows)

    assert (first.from_ms, first.until_ms, second.from_ms) == (0, 24 * HOUR_MS, 24 * HOUR_MS)
    assert first.channels["web"].actions == {"a": 2, "": 2}
    assert added_up([]) is None


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"{}", "no reference"),
        (b'{"format": 2, "rows": 1, "inputs": {}}', "format 2"),
        (
            b'{"format": 1, "rows": 1, "inputs": {"a": {"edges": [2, 1], "counts": [1, 1, 1]}}}',
            "rise",
        ),
        (b'{"format": 1, "rows": 1, "inputs": {"a": {"edges": [1], "counts": [1], "missing": 0}}}', "counts"),
    ],
)
def test_a_reference_that_is_none_is_refused(content: bytes, told: str) -> None:
    """With what is wrong."""
    with pytest.raises(ValueError, match=told):
        read_reference(content)
