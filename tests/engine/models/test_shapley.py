from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from ensembles import arrays_of, train
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.models import shapley
from engine.models.shapley import TreeShapley, leaf_shares
from engine.models.trees import TreesInvalid, expected_margin, read_trees

ODD = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-30, 3e38, -3e38]


def explained(arrays, rows):
    """Contributions of every row."""
    count = rows.shape[1]
    kernel = TreeShapley(read_trees(arrays, input_count=count), input_count=count)
    return np.array([kernel.contributions(row) for row in rows])


def probes(rows, arrays):
    """Rows of the data, rows of odd values, and rows on and beside thresholds."""
    thresholds = arrays["threshold"][arrays["left"] >= 0][:20]
    beside = np.concatenate([thresholds, np.nextafter(thresholds, np.float32(np.inf))])
    odd = np.array([*ODD, *beside], dtype=np.float32)
    odd[np.abs(odd) < 1.1e-35] = 0.0  # LightGBM reads such numbers as 0, and we never meet them
    return np.concatenate([rows[:30], np.repeat(odd[:, None], rows.shape[1], axis=1)])


@st.composite
def datasets(draw):
    """Rows of few or many distinct values, some columns with missing ones; labels that depend on them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, width = draw(st.sampled_from([20, 80, 300])), draw(st.integers(1, 14))
    columns = [draw(st.sampled_from(["bool", "few", "many", "constant"])) for _ in range(width)]
    made = {
        "bool": lambda: rng.integers(0, 2, n),
        "few": lambda: rng.integers(-3, 4, n),
        "many": lambda: rng.normal(0, 100, n),
        "constant": lambda: np.full(n, 5.0),
    }
    rows = np.column_stack([made[kind]() for kind in columns]).astype(np.float32)
    rows[rng.random(rows.shape) < draw(st.sampled_from([0.0, 0.3]))] = np.nan
    score = np.nan_to_num(rows) @ rng.normal(0, 1, width)
    labels = (score + rng.normal(0, 1, n) * score.std() > np.median(score)).astype(np.int64)
    shape = {
        "num_leaves": draw(st.sampled_from([2, 5, 31])),
        "max_depth": draw(st.sampled_from([-1, 1, 4])),
        "rounds": draw(st.integers(1, 8)),
        "min_data_in_leaf": draw(st.sampled_from([1, 5, 1000])),
    }
    return rows, labels, shape


@pytest.mark.parametrize("tabulated", [0, 3, 10])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=datasets())
def test_contributions_are_those_of_lightgbm(tabulated, data):
    """Whatever the data and the shape of the trees, tabulated or integrated, each share is LightGBM's."""
    rows, labels, shape = data
    booster = train(rows, labels, **shape)
    arrays = arrays_of(booster)
    asked = probes(rows, arrays)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapley, "MAX_TABULATED", tabulated)
        found = explained(arrays, asked)

    expected = booster.predict(asked.astype(np.float64), pred_contrib=True)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("max_states", [1, 16, 4096])
def test_the_size_of_tables_does_not_change_the_answer(rows, churn_booster, monkeypatch, max_states):
    """One leaf a block or many: the sums are the same."""
    monkeypatch.setattr(shapley, "MAX_STATES", max_states)

    found = explained(arrays_of(churn_booster), rows[:50])

    expected = churn_booster.predict(rows[:50].astype(np.float64), pred_contrib=True)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_tables_beyond_their_limit_are_integrated_instead(rows, churn_booster, monkeypatch):
    """A limit on table rows costs speed, never exactness."""
    monkeypatch.setattr(shapley, "MAX_ROWS", 100)

    found = explained(arrays_of(churn_booster), rows[:50])

    expected = churn_booster.predict(rows[:50].astype(np.float64), pred_contrib=True)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_trees_of_a_single_leaf_contribute_to_the_base_only(rows):
    """A model that learnt nothing explains nothing; its margin is the base."""
    labels = np.arange(len(rows)) % 2
    booster = train(rows, labels, rounds=3, min_data_in_leaf=10_000)
    arrays = arrays_of(booster)

    found = explained(arrays, rows[:3])

    assert (found[:, :-1] == 0.0).all()
    np.testing.assert_allclose(found[:, -1], booster.predict(rows[:3], raw_score=True), atol=1e-12)


def test_the_base_is_the_expected_margin(rows, churn_booster):
    """The last column is the cover-weighted mean of the leaves, as LightGBM's is."""
    trees = read_trees(arrays_of(churn_booster), input_count=rows.shape[1])

    base = expected_margin(trees)

    assert base == pytest.approx(churn_booster.predict(rows[:1], pred_contrib=True)[0, -1], abs=1e-9)


@given(
    value=st.floats(-5, 5),
    inputs=st.lists(st.tuples(st.sampled_from([0.0, 0.25, 0.9, 1.0]), st.booleans()), min_size=1, max_size=6),
)
def test_a_leaf_is_shared_as_shapley_defined(value, inputs):
    """The integral equals the mean over all orders of the inputs, with covers of 0 and 1 too."""
    ratio = np.array([z for z, _ in inputs])
    inside = np.array([float(o) for _, o in inputs])
    orders = list(itertools.permutations(range(len(inputs))))
    expected = np.zeros(len(inputs))
    for order in orders:
        factors = ratio.copy()
        for i in order:
            before = math.prod(factors)
            factors[i] = inside[i]
            expected[i] += value * (math.prod(factors) - before) / len(orders)

    found = leaf_shares(np.array(value), ratio, inside)

    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("array", "place", "value", "cause"),
    [
        ("feature", 0, 99, "`feature` points outside"),
        ("left", 0, 10_000, "`left` points outside"),
        ("right", 0, -5, "`right` points outside"),
        ("roots", 0, 10_000, "`roots` points outside"),
        ("right", 0, 0, "two parents"),
        ("threshold", 0, np.nan, "threshold or leaf value"),
        ("cover", 0, -1.0, "cover is negative"),
        ("cover", 0, np.inf, "cover is negative or not"),
    ],
)
def test_arrays_that_are_no_trees_are_refused(rows, churn_booster, array, place, value, cause):
    """A pointer out of range, a loop, or a number that is none is found before anything is explained."""
    arrays = arrays_of(churn_booster)
    arrays[array][place] = value

    with pytest.raises(TreesInvalid, match=cause):
        read_trees(arrays, input_count=rows.shape[1])


def test_arrays_of_different_lengths_are_refused(rows, churn_booster):
    """A cut array is no tree."""
    arrays = arrays_of(churn_booster)

    with pytest.raises(TreesInvalid, match="different lengths"):
        read_trees({**arrays, "value": arrays["value"][:-1]}, input_count=rows.shape[1])
