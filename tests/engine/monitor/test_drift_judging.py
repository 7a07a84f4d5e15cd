"""Alarms: none where nothing changed, one where something did, and soon."""

from __future__ import annotations

import numpy as np
import pytest
from drift_company import MODEL, Change, Rows, demo_customers
from hypothesis import given
from hypothesis import strategies as st

from engine.monitor.drift.chances import chi2_tail
from engine.monitor.drift.counts import BUCKETS, ChannelCounts, ScoreTally, WindowCounts
from engine.monitor.drift.distances import pooled, psi
from engine.monitor.drift.examining import BASELINE, PREVIOUS, TRAINING, References, examine, examine_window
from engine.monitor.drift.judging import (
    FALSE_ALARMS_A_DAY,
    FIRST_LOOK,
    Kind,
    Measure,
    Side,
    Variable,
    benjamini_hochberg,
    judge,
    level,
)

HOURS = 24


def no_drift_alarms(days: int, an_hour: int, *, seed: int) -> tuple[int, int]:
    """Features with an alarm, a day each, and how many there were of both; nothing changes."""
    customers, rng = demo_customers(), np.random.default_rng(seed)
    alarmed = features = 0
    for day in range(days):
        windows = [customers.window(rng, an_hour, hour=day * HOURS + hour) for hour in range(HOURS)]
        sections = examine(windows, customers.references, since_ms=0)
        alarmed += len({verdict.variable.name for section in sections for verdict in section.alarms})
        features += len(customers.reference.inputs)
    return alarmed, features


@pytest.mark.parametrize("an_hour", [150, 1_000])
def test_without_drift_there_is_hardly_an_alarm(an_hour: int) -> None:
    """At most one in a hundred days to a feature, all windows of a day and the day itself together."""
    alarmed, features = no_drift_alarms(4, an_hour, seed=11)

    assert alarmed <= 1
    assert features == 60


@pytest.mark.slow
@pytest.mark.parametrize("an_hour", [120, 300, 1_000, 4_000])
def test_without_drift_a_hundred_days_have_at_most_one_alarm_to_a_feature(an_hour: int) -> None:
    """The claim itself, for few and many decisions."""
    alarmed, features = no_drift_alarms(100, an_hour, seed=5)

    assert alarmed / features <= FALSE_ALARMS_A_DAY


@pytest.mark.parametrize("bins", [2, 4, 10])
def test_chances_are_what_they_say_they_are(bins: int) -> None:
    """Of histograms that differ by chance alone, one in a hundred has a chance below a hundredth."""
    rng = np.random.default_rng(3)
    shares = rng.dirichlet(np.full(bins, 3.0))
    low = 0
    for _ in range(4_000):
        reference = rng.multinomial(4_225, shares).astype(np.float64)
        now = rng.multinomial(300, shares).astype(np.float64)
        before, after = pooled(reference, now, ordered=True, fewest=10.0, at_most=10)
        low += chi2_tail(psi(before, after) / (1 / 4_225 + 1 / 300), len(before) - 1) < 0.01

    assert 0.004 <= low / 4_000 <= 0.018


def shifted(rows: Rows) -> None:
    """A feature moved by half a standard deviation."""
    customers = demo_customers()
    place = customers.place("monthly_charges")
    rows[:, place] += np.float32(np.nanstd(customers.values[:, place]) / 2)


def mixed(rows: Rows) -> None:
    """A category's mix: a fifth of all now pay by electronic check."""
    rows[: len(rows) // 5, demo_customers().place("payment_method")] = 0


@pytest.mark.parametrize(
    ("feature", "change", "measure"),
    [("monthly_charges", shifted, Measure.PSI), ("payment_method", mixed, Measure.PSI)],
)
def test_a_planted_change_is_found_within_2000_decisions(
    feature: str, change: Change, measure: Measure
) -> None:
    """Every time, and nothing else is blamed."""
    customers = demo_customers()
    for seed in range(5):
        window = customers.window(np.random.default_rng(seed), 2_000, change=change)

        (section,) = examine_window(window, customers.references, before=[], windows_a_day=HOURS)

        assert [verdict.variable.name for verdict in section.alarms] == [feature]
        assert measure in section.alarms[0].alarms


def test_missing_values_that_double_are_found_within_2000_decisions() -> None:
    """From 4 % of a feature to 8 %, and only the share of missing values is blamed."""
    customers = demo_customers()
    place = customers.place("total_charges")

    def losing(share: float, seed: int) -> Change:
        def lose(rows: Rows) -> None:
            rows[np.random.default_rng([seed, 9]).random(len(rows)) < share, place] = np.nan

        return lose

    normal = customers.window(np.random.default_rng(1), 20_000, change=losing(0.04, 1))
    references = References(lambda _model: customers.reference, frozenset({"total_charges"}), normal)
    for seed in range(5):
        window = customers.window(np.random.default_rng(seed + 2), 2_000, change=losing(0.08, seed + 2))

        (section,) = examine_window(window, references, before=[], windows_a_day=HOURS)

        assert section.compared_with == (BASELINE, "")
        assert [(v.variable.name, v.alarms) for v in section.alarms] == [
            ("total_charges", (Measure.MISSING,))
        ]


def test_values_of_no_declared_category_are_found() -> None:
    """As after a loader with another code table."""
    customers = demo_customers()

    def strange(rows: Rows) -> None:
        rows[: len(rows) // 20, customers.place("payment_method")] = 9

    window = customers.window(np.random.default_rng(1), 2_000, change=strange)
    (section,) = examine_window(window, customers.references, before=[], windows_a_day=HOURS)

    assert [(v.variable.name, v.alarms) for v in section.alarms] == [("payment_method", (Measure.UNKNOWN,))]


def test_one_customer_alone_is_no_drift() -> None:
    """A test client that decides for itself thousands of times says nothing of the customers."""
    customers = demo_customers()
    rows = np.repeat(customers.values[:1], 3_000, axis=0)

    window = customers.counted(rows, [customers.names[0]] * 3_000)
    (section,) = examine_window(window, customers.references, before=[], windows_a_day=HOURS)

    assert section.effective == pytest.approx(1, abs=0.01)
    assert all(not verdict.measures for verdict in section.verdicts)


def side(*bins: float) -> Side:
    """A sample of as many customers as values."""
    return Side(np.array(bins), float(sum(bins)))


def test_a_large_sample_does_not_make_a_small_difference_matter() -> None:
    """However certain it is."""
    variable = Variable("x", Kind.INPUT, True, side(500_000, 500_000), side(510_000, 490_000))

    (verdict,) = judge([variable], level=0.01)

    assert verdict.measures[Measure.PSI].chance < 1e-20
    assert verdict.alarms == ()


def test_a_small_sample_does_not_make_a_large_difference_certain() -> None:
    """100 customers and ten bins: 0.1 of PSI is what chance does."""
    variable = Variable("x", Kind.INPUT, True, side(*[400.0] * 10), side(18, 4, 16, 5, 13, 7, 14, 6, 8, 12))

    (verdict,) = judge([variable], level=0.01)

    assert verdict.measures[Measure.PSI].value > 0.05
    assert verdict.measures[Measure.PSI].threshold > 0.1
    assert verdict.alarms == ()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(1e-6, 0.5))
def test_the_cutoff_is_between_bonferronis_and_the_level(chances: list[float], level: float) -> None:
    """So a variable that does not drift is blamed no more often than the level, whatever the others do."""
    cutoff = benjamini_hochberg(chances, level)

    assert level / len(chances) <= cutoff * (1 + 1e-12)
    assert cutoff <= level * (1 + 1e-12)


@given(st.integers(1, 1_440))
def test_the_looks_at_all_windows_of_a_day_spend_no_more_than_the_day_has(windows_a_day: int) -> None:
    """Each window is looked at as often as it doubles, and once more when it ends."""
    looks = [level(FIRST_LOOK * 2**k, windows_a_day=windows_a_day) for k in range(12)]

    assert (sum(looks) + looks[-1]) * (windows_a_day + 1) <= FALSE_ALARMS_A_DAY * (1 + 1e-9)


def window_of(hour: int, scores: ScoreTally | None, actions: dict[str, int]) -> WindowCounts:
    """A window with scores and actions, of many customers."""
    window = demo_customers().window(np.random.default_rng(hour), 1_000, hour=hour)
    if scores is not None:
        window.models[MODEL].scores["churn"] = scores
    many = np.full(BUCKETS, 1, dtype=np.int64)
    window.channels["web"] = ChannelCounts(sum(actions.values()), many, actions)
    return window


def scores_about(middle: int) -> ScoreTally:
    """A thousand scores about a hundredth."""
    bins = np.zeros(100, dtype=np.int64)
    bins[middle - 10 : middle + 10] = 50
    return ScoreTally(bins, 10.0 * middle)


def test_scores_and_actions_are_compared_with_the_windows_before() -> None:
    """The first window has none; a change of either is found in the first that has it."""
    usual = {"tv": 600, "phone": 300, "": 124}
    windows = [window_of(hour, scores_about(30), usual) for hour in range(3)]
    windows.append(window_of(3, scores_about(35), {"tv": 350, "phone": 550, "": 124}))

    sections = examine(windows, demo_customers().references, since_ms=0)

    by_hour = {(s.subject, s.from_ms // 3_600_000): s for s in sections if s.window == "hour"}
    assert by_hour[MODEL, 0].compared_with == (TRAINING, "")
    assert by_hour[MODEL, 1].compared_with == (TRAINING, PREVIOUS)
    assert [by_hour[MODEL, h].alarms for h in range(3)] == [(), (), ()]
    assert [v.variable.name for v in by_hour[MODEL, 3].alarms] == ["score churn"]
    assert [by_hour["channel web", h].alarms for h in range(3)] == [(), (), ()]
    assert [v.variable.name for v in by_hour["channel web", 3].alarms] == ["actions web"]


def test_a_model_without_a_reference_is_not_judged() -> None:
    """Its scores are, beside those of the windows before."""
    windows = [window_of(hour, scores_about(30), {"tv": 1}) for hour in range(2)]

    sections = examine(windows, References(lambda _model: None, frozenset()), since_ms=0)

    last = [s for s in sections if s.subject == MODEL and s.window == "hour"][-1]
    assert [v.variable.name for v in last.verdicts] == ["score churn"]
