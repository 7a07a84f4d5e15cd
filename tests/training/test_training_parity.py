from __future__ import annotations

import lightgbm as lgb
import numpy as np
import numpy.typing as npt
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from training.boosting import Recipe, fit, log_odds
from training.boundaries import count_boundaries
from training.calibration import Isotonic, Platt
from training.candidate import Candidate
from training.dataset import Table
from training.export import to_onnx
from training.parity import TOLERANCE, run_onnx, split_rows
from training.trees import LEAF, Trees, flatten

Matrix = npt.NDArray[np.float32]

EXTREMES = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, -1.0, 7.0, -1e-35, 1e-45, 3e38], dtype=np.float32)
"""Missing, infinite, of either zero, category codes nobody trained on, and the ends of float32."""

COLUMNS = {
    "a constant": lambda rng, n: np.full(n, 3.0),
    "missing": lambda rng, n: np.full(n, np.nan),
    "half missing": lambda rng, n: np.where(rng.random(n) < 0.5, np.nan, rng.normal(size=n)),
    "a category": lambda rng, n: rng.integers(0, 4, n).astype(float),
    "prices": lambda rng, n: rng.integers(100, 140, n) / 20,
    "neighbours": lambda rng, n: (
        np.nextafter(np.float32(1), np.float32(2), dtype=np.float32) + rng.integers(0, 3, n) * 2.0**-23
    ),
    "tiny": lambda rng, n: rng.integers(-5, 5, n) * 1e-44,
    "huge": lambda rng, n: rng.normal(size=n) * 1e37,
    "infinite at times": lambda rng, n: np.where(rng.random(n) < 0.3, np.inf, rng.normal(size=n)),
    "far off zero": lambda rng, n: 16_777_216.0 + rng.integers(0, 8, n) * 2.0,
}


@st.composite
def odd_models(draw: st.DrawFn) -> tuple[lgb.Booster, Matrix]:
    """A model of few trees on few odd columns, and the rows it learnt from."""
    kinds = draw(st.lists(st.sampled_from(sorted(COLUMNS)), min_size=1, max_size=4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(12, 120))
    with np.errstate(over="ignore"):
        rows = np.column_stack([COLUMNS[kind](rng, n) for kind in kinds]).astype(np.float32)
    known = np.nan_to_num(rows[:, 0].astype(np.float64), posinf=1.0, neginf=-1.0)
    labels = ((known > np.median(known)) ^ (rng.random(n) < 0.2)).astype(np.float64)
    labels[:2] = 0.0, 1.0
    parameters = {
        "num_leaves": draw(st.integers(2, 12)),
        "min_data_in_leaf": draw(st.integers(1, 5)),
        "min_data_in_bin": 1,
        "min_sum_hessian_in_leaf": 0.0,
        "learning_rate": draw(st.sampled_from([0.05, 0.3])),
        "use_missing": draw(st.booleans()),
        "feature_pre_filter": False,
    }
    recipe = Recipe(max_trees=draw(st.integers(1, 6)), patience=0, parameters=parameters)
    places = np.arange(n)
    table = Table(rows=rows, labels=labels, customers=places, targets=np.full(n, -1))
    return fit(train=table, recipe=recipe, seed=1), rows


def tried_rows(trees: Trees, rows: Matrix) -> Matrix:
    """The rows themselves, those at every split, and the extremes in each column and in all."""
    inputs = rows.shape[1]
    one_by_one = np.repeat(rows[:1], len(EXTREMES) * inputs, axis=0)
    for column in range(inputs):
        one_by_one[column * len(EXTREMES) : (column + 1) * len(EXTREMES), column] = EXTREMES
    everywhere = np.repeat(EXTREMES[:, None], inputs, axis=1)
    return np.vstack([rows, split_rows(trees, like=rows[0]), one_by_one, everywhere])


def leaves_of(trees: Trees, rows: Matrix) -> npt.NDArray[np.intp]:
    """Where each row ends in each flat tree, (n, trees)."""
    at = np.broadcast_to(trees.roots, (len(rows), len(trees.roots))).copy()
    line = np.arange(len(rows))[:, None]
    while (inside := trees.left[at] != LEAF).any():
        x = rows[line, trees.feature[at]]
        left = np.where(np.isnan(x), trees.missing_left[at], x <= trees.threshold[at])
        at = np.where(inside, np.where(left, trees.left[at], trees.right[at]), at)
    return at


def same_partition(ours: npt.NDArray[np.intp], theirs: npt.NDArray[np.intp]) -> bool:
    """Whether two numberings of leaves put the rows together alike, tree by tree."""
    return all(
        len(set(zip(a.tolist(), b.tolist(), strict=True))) == len(set(a.tolist())) == len(set(b.tolist()))
        for a, b in zip(ours.T, theirs.T, strict=True)
    )


CALIBRATIONS = st.one_of(
    st.builds(
        lambda slope, intercept: Platt(float(np.float32(slope)), float(np.float32(intercept))),
        st.floats(0.1, 3),
        st.floats(-2, 2),
    ),
    st.just(Isotonic(margins=(-2.0, -0.5, 0.25, 1.5), probabilities=(0.0625, 0.25, 0.25, 0.9375))),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(odd=odd_models(), calibration=CALIBRATIONS)
def test_odd_small_models_are_exported_without_a_mismatch(odd, calibration) -> None:
    """Same margin to the bit, same leaf in every tree, and probabilities within 1e-6, on every row tried."""
    booster, rows = odd
    trees = flatten(booster)
    tried = tried_rows(trees, rows)
    expected = log_odds(booster, tried)

    model = to_onnx(booster, trees=trees, calibration=calibration, name="odd")
    margins, probabilities = run_onnx(model, tried)

    np.testing.assert_array_equal(margins, expected)
    np.testing.assert_array_equal(trees.margins(tried), expected)
    assert np.abs(probabilities - calibration.probability(expected)).max() <= TOLERANCE
    theirs = np.asarray(booster.predict(tried, pred_leaf=True)).reshape(len(tried), -1)
    assert same_partition(leaves_of(trees, tried), theirs)


def test_values_that_lightgbm_takes_for_zero_are_taken_so() -> None:
    """It may split at -1e-35, and reads that very value as 0: the exported threshold lies just below."""
    rng = np.random.default_rng(24)
    rows = rng.normal(size=(60, 1)).astype(np.float32)
    rows[::3] = 0.0
    labels = (rows[:, 0] >= 0).astype(np.float64)
    places = np.arange(len(rows))
    table = Table(rows=rows, labels=labels, customers=places, targets=np.full(len(rows), -1))
    recipe = Recipe(max_trees=2, patience=0, parameters={"min_data_in_leaf": 1, "min_data_in_bin": 1})
    booster = fit(train=table, recipe=recipe, seed=1)
    at_zero = np.array(
        [[-1e-35], [np.nextafter(np.float32(-1e-35), np.float32(-1))], [0.0]], dtype=np.float32
    )

    margins = flatten(booster).margins(at_zero)

    thresholds = [tree["tree_structure"]["threshold"] for tree in booster.dump_model()["tree_info"]]
    assert -1.0000000180025095e-35 in thresholds
    np.testing.assert_array_equal(margins, log_odds(booster, at_zero))
    assert margins[0] == margins[2] != margins[1]


def test_without_exact_thresholds_rows_at_splits_end_elsewhere(churn: Candidate) -> None:
    """What the converter leaves sends some rows wrong; what the export sets sends none."""
    like = churn.task.test.rows[0]

    found = count_boundaries(churn.booster, calibration=churn.calibration, like=like)

    assert found.wrong_as_converted > 0
    assert found.wrong_as_exported == 0
