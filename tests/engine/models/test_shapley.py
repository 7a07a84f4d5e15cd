"""Exact Shapley values: LightGBM's own, by machine code and without it, within time and memory."""

from __future__ import annotations

import io
import itertools
import math
import threading
import time
import tracemalloc

import numpy as np
import pytest
from chains import chain, grown, ladder
from ensembles import arrays_of, train
from hypothesis import given, settings
from hypothesis import strategies as st
from model_files import npz
from structlog.testing import capture_logs

from engine.models import machine_code
from engine.models.shapley import TreeShapley
from engine.models.trees import TreesInvalid, expected_margin, read_trees

ODD = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-30, 3e38, -3e38]


def kernel_of(arrays, count, *, compiled=True):
    """The explanation of the trees of such arrays."""
    return TreeShapley(read_trees(arrays, input_count=count), input_count=count, compiled=compiled)


def explained(arrays, rows, *, compiled=True):
    """Contributions of every row."""
    return kernel_of(arrays, rows.shape[1], compiled=compiled).contributions_of_many(rows)


def probes(rows, arrays):
    """Rows of the data, rows of odd values, and rows on and beside thresholds."""
    thresholds = arrays["threshold"][arrays["left"] >= 0][:20]
    beside = np.concatenate([thresholds, np.nextafter(thresholds, np.float32(np.inf))])
    odd = np.array([*ODD, *beside], dtype=np.float32)
    odd[np.abs(odd) < 1.1e-35] = 0.0  # LightGBM reads such numbers as 0, and we never meet them
    return np.concatenate([rows[:30], np.repeat(odd[:, None], rows.shape[1], axis=1)])


def random_rows(count, inputs, *, seed=0):
    """Rows over the thresholds of grown trees, one value in ten missing."""
    rng = np.random.default_rng(seed)
    rows = rng.random((count, inputs), dtype=np.float32)
    rows[rng.random(rows.shape) < 0.1] = np.nan
    return rows


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


@settings(max_examples=40, deadline=None)
@given(data=datasets())
def test_contributions_are_those_of_lightgbm(data):
    """Whatever the data and the shape of the trees, each share is LightGBM's, by machine code or not."""
    rows, labels, shape = data
    booster = train(rows, labels, **shape)
    arrays = arrays_of(booster)
    asked = probes(rows, arrays)

    compiled, plain = explained(arrays, asked), explained(arrays, asked, compiled=False)

    expected = booster.predict(asked.astype(np.float64), pred_contrib=True)
    np.testing.assert_allclose(compiled, expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(compiled, plain)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    trees=st.integers(1, 11),
    leaves=st.sampled_from([2, 3, 31, 80]),
    inputs=st.sampled_from([1, 2, 9, 40]),
    empty=st.sampled_from([0.0, 0.3]),
)
def test_machine_code_and_numpy_give_the_same_bits(seed, trees, leaves, inputs, empty):
    """So a decision is replayed to the byte on machines of both kinds, and alone as with others."""
    arrays = grown(trees=trees, leaves=leaves, inputs=inputs, seed=seed, empty=empty)
    rows = random_rows(40, inputs, seed=seed)
    kernel = kernel_of(arrays, inputs)

    found = kernel.contributions_of_many(rows)

    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found, explained(arrays, rows, compiled=False))
    np.testing.assert_array_equal(found, [kernel.contributions(row) for row in rows])
    np.testing.assert_allclose(found.sum(axis=1), margins(arrays, rows), rtol=0, atol=1e-12)


def margins(arrays, rows):
    """The margins of rows, by walking each tree."""
    found = np.full(len(rows), float(arrays["base"]))
    for number, row in enumerate(rows):
        for root in arrays["roots"]:
            node = root
            while arrays["left"][node] >= 0:
                value = row[arrays["feature"][node]]
                missing = np.isnan(value) and arrays["missing_left"][node]
                left = missing or value <= arrays["threshold"][node]
                node = arrays["left" if left else "right"][node]
            found[number] += arrays["value"][node]
    return found


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    leaves=st.integers(2, 12),
    inputs=st.integers(1, 5),
    empty=st.sampled_from([0.0, 0.3]),
)
def test_a_tree_is_shared_as_shapley_defined(seed, leaves, inputs, empty):
    """The mean over all orders in which inputs become known, where unknown ones follow the covers."""
    arrays = grown(trees=1, leaves=leaves, inputs=inputs, seed=seed, empty=empty)
    row = random_rows(1, inputs, seed=seed)[0]
    expected = np.zeros(inputs)
    for order in itertools.permutations(range(inputs)):
        for place, each in enumerate(order):
            gain = known(arrays, row, order[: place + 1]) - known(arrays, row, order[:place])
            expected[each] += gain / math.factorial(inputs)

    found = explained(arrays, row[None])[0]

    np.testing.assert_allclose(found[:-1], expected, rtol=0, atol=1e-12)
    assert found[-1] == pytest.approx(known(arrays, row, ()) + 0.25, abs=1e-12)


def known(arrays, row, inputs):
    """What a tree says where some inputs are known: the others go both ways, as the training rows did."""

    def below(node):
        left, right = int(arrays["left"][node]), int(arrays["right"][node])
        if left < 0:
            return arrays["value"][node]
        feature, value = arrays["feature"][node], row[arrays["feature"][node]]
        if feature in inputs:
            missing = np.isnan(value) and arrays["missing_left"][node]
            return below(left if missing or value <= arrays["threshold"][node] else right)
        cover = arrays["cover"]
        if cover[node] == 0:
            return 0.0
        return sum(cover[child] / cover[node] * below(child) for child in (left, right))

    return below(int(arrays["roots"][0]))


@pytest.mark.parametrize(("depth", "growth"), [(8, 1.05), (9, 1.05), (20, 1.1), (64, 1.3)])
def test_long_chains_are_exact(depth, growth):
    """A way of up to 64 inputs is shared as LightGBM shares it, and the shares add up."""
    booster, ends = chain(depth, growth=growth)
    mixed = np.random.default_rng(1).integers(0, 2, (30, depth)).astype(np.float32)
    rows = np.concatenate([ends, mixed])

    found = explained(arrays_of(booster), rows)

    expected = booster.predict(rows.astype(np.float64), pred_contrib=True)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), booster.predict(rows, raw_score=True), rtol=0, atol=1e-12)


def test_long_chains_add_up_where_lightgbm_does_not():
    """Where leaves 64 inputs down matter, LightGBM's own sums are off by more than 1e-4; ours are not."""
    booster, rows = chain(64, growth=1.15)

    found = explained(arrays_of(booster), rows)

    margin = booster.predict(rows, raw_score=True)
    assert np.abs(booster.predict(rows, pred_contrib=True).sum(axis=1) - margin).max() > 1e-4
    np.testing.assert_allclose(found.sum(axis=1), margin, rtol=0, atol=1e-12)


def test_rows_may_be_read_only_and_of_any_layout(rows, churn_booster):
    """A row out of a stored vector explains as its copy does."""
    kernel = kernel_of(arrays_of(churn_booster), rows.shape[1])
    stored = np.frombuffer(rows[3].tobytes(), dtype=np.float32)
    turned = np.asfortranarray(rows[:20])

    assert not stored.flags.writeable
    np.testing.assert_array_equal(kernel.contributions(stored), kernel.contributions(rows[3]))
    np.testing.assert_array_equal(
        kernel.contributions_of_many(turned), kernel.contributions_of_many(rows[:20])
    )


@pytest.mark.parametrize("shape", [(3,), (2, 5), (2, 7), (1, 2, 6)])
def test_rows_that_do_not_fit_are_refused(rows, churn_booster, shape):
    """Machine code reads what it is given: so nothing else is given."""
    kernel = kernel_of(arrays_of(churn_booster), rows.shape[1])

    with pytest.raises(ValueError, match=r"the model reads \(n, 6\)"):
        kernel.contributions_of_many(np.zeros(shape, dtype=np.float32))


@pytest.mark.parametrize("compiled", [True, False])
def test_no_rows_have_no_contributions(rows, churn_booster, compiled):
    """An empty batch is a batch."""
    kernel = kernel_of(arrays_of(churn_booster), rows.shape[1], compiled=compiled)

    found = kernel.contributions_of_many(rows[:0])

    assert found.shape == (0, rows.shape[1] + 1)


def test_threads_explain_at_once(rows, churn_booster):
    """Batches, which let other threads run, have nothing in common but what never changes."""
    kernel = kernel_of(arrays_of(churn_booster), rows.shape[1])
    expected = kernel.contributions_of_many(rows)
    found = []

    def explain():
        found.extend(np.array_equal(kernel.contributions_of_many(rows), expected) for _ in range(20))

    threads = [threading.Thread(target=explain) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == [True] * 80


def test_trees_of_a_single_leaf_contribute_to_the_base_only(rows):
    """A model that learnt nothing explains nothing; its margin is the base."""
    labels = np.arange(len(rows)) % 2
    booster = train(rows, labels, rounds=3, min_data_in_leaf=10_000)

    found = explained(arrays_of(booster), rows[:3])

    assert (found[:, :-1] == 0.0).all()
    np.testing.assert_allclose(found[:, -1], booster.predict(rows[:3], raw_score=True), atol=1e-12)


def test_the_base_is_the_expected_margin(rows, churn_booster):
    """The last column is the cover-weighted mean of the leaves, as LightGBM's is."""
    trees = read_trees(arrays_of(churn_booster), input_count=rows.shape[1])

    base = expected_margin(trees)

    assert base == pytest.approx(churn_booster.predict(rows[:1], pred_contrib=True)[0, -1], abs=1e-9)
    assert TreeShapley(trees, input_count=rows.shape[1]).base == base


@pytest.mark.parametrize(
    "arrays",
    [
        grown(trees=200, leaves=31, inputs=40, seed=1),
        grown(trees=200, leaves=62, inputs=40, seed=2),
        ladder(trees=200, leaves=31, inputs=40),
    ],
    ids=["31 leaves", "62 leaves", "one long way"],
)
def test_a_model_loads_fast_and_stays_small(arrays):
    """200 trees over 40 inputs are ready in under 2 s of the processor and 20 MB, from their file on."""
    content = npz(arrays)
    machine_code.machine_code()  # made once a process
    tracemalloc.start()

    started = time.process_time()
    kernel = kernel_of(dict(np.load(io.BytesIO(content))), 40)
    kernel.contributions(random_rows(1, 40)[0])
    took_s = time.process_time() - started
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert took_s < 2.0
    assert held < 20e6
    assert peak < 60e6
    assert kernel.size_bytes < held


@pytest.mark.parametrize(("leaves", "inputs"), [(31, 40), (65, 64), (200, 7), (100, 100)])
def test_long_ways_add_up_and_are_the_same_without_machine_code(leaves, inputs):
    """Up to hundreds of inputs, or the same ones again and again."""
    arrays = ladder(trees=3, leaves=leaves, inputs=inputs)
    rows = random_rows(20, inputs)

    found = explained(arrays, rows)

    np.testing.assert_array_equal(found, explained(arrays, rows, compiled=False))
    np.testing.assert_allclose(found.sum(axis=1), margins(arrays, rows), rtol=0, atol=1e-12)


def test_ways_that_no_model_has_are_refused():
    """Before their quadrature takes minutes and gigabytes."""
    with pytest.raises(TreesInvalid, match="a leaf reads 1025 different inputs, at most 1024"):
        kernel_of(ladder(trees=1, leaves=1026, inputs=2000), 2000)


@pytest.mark.parametrize("seed", range(4))
def test_damaged_arrays_are_refused_or_explained_without_harm(seed):
    """Whatever numbers a file holds: machine code must never read what is not there."""
    rng = np.random.default_rng(seed)
    sound = grown(trees=4, leaves=9, inputs=5, seed=seed)
    rows = random_rows(3, 5)
    wild = [-(2**40), -2, -1, 0, 1, 3, 17, 2**31, 2**62, 0.5, 1e-320, 1e300, -1e300, np.inf, np.nan]
    refused = 0

    for _ in range(300):
        name = str(rng.choice([n for n in sound if n != "base"]))
        damaged = sound[name].astype(np.float64)
        damaged[rng.integers(len(damaged), size=rng.integers(1, 4))] = rng.choice(wild)
        try:
            with np.errstate(all="ignore"):  # as when models are loaded
                kernel_of({**sound, name: damaged}, 5).contributions_of_many(rows)
        except TreesInvalid:
            refused += 1

    assert 0 < refused < 300


@pytest.fixture
def fresh_code():
    """Machine code is made anew in the test and after it."""
    machine_code.machine_code.cache_clear()
    yield
    machine_code.machine_code.cache_clear()


@pytest.mark.parametrize("refusal", ["no llvmlite", "hardened"])
def test_without_machine_code_it_explains_the_same_and_says_so(
    rows, churn_booster, monkeypatch, fresh_code, refusal
):
    """A machine that refuses new code, or lacks the wheel, is slower, warned of, and as exact."""

    def absent():
        raise ImportError("no module named llvmlite")

    if refusal == "hardened":
        monkeypatch.setattr(machine_code, "_may_run_new_code", lambda: False)
    else:
        monkeypatch.setattr(machine_code, "_compile", absent)
    expected = explained(arrays_of(churn_booster), rows[:50], compiled=False)

    with capture_logs() as logs:
        found = explained(arrays_of(churn_booster), rows[:50])

    np.testing.assert_array_equal(found, expected)
    assert [(log["event"], log["log_level"]) for log in logs] == [("explanations.slow", "warning")]
    assert ("refuses" if refusal == "hardened" else "llvmlite") in logs[0]["cause"]


def test_this_machine_has_machine_code():
    """The tests above compare two kernels, not one with itself."""
    assert machine_code.machine_code() is not None


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
        ("cover", -1, np.inf, "cover is negative or not"),
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
