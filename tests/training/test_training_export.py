from collections.abc import Callable, Mapping
from dataclasses import replace

import lightgbm as lgb
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.boosting import LEAF_STEP, contributions, log_odds
from training.candidate import Candidate
from training.errors import ExportRefused, GateFailed
from training.export import to_onnx
from training.parity import check_parity, parity_rows, run_onnx, split_rows
from training.publication import build_artefacts
from training.reference import golden_rows
from training.telco import Telco
from training.trees import LEAF, Trees, at_or_below, flatten


def test_the_export_answers_as_lightgbm_does_everywhere(candidate: Candidate) -> None:
    """On every split and its neighbours, on NaN and infinities, margins are equal to the bit."""
    model = to_onnx(candidate.booster, trees=candidate.trees, calibration=candidate.calibration, name="m")
    rows = parity_rows(candidate)

    margins, probabilities = run_onnx(model, rows)

    np.testing.assert_array_equal(margins, log_odds(candidate.booster, rows))
    np.testing.assert_array_equal(candidate.trees.margins(rows), log_odds(candidate.booster, rows))
    np.testing.assert_allclose(probabilities, candidate.score(rows), rtol=0, atol=1e-6)


def test_margins_do_not_depend_on_the_size_of_the_batch(candidate: Candidate) -> None:
    """One row at a time or all at once: float32 sums are exact, so their order does not show."""
    model = to_onnx(candidate.booster, trees=candidate.trees, calibration=candidate.calibration, name="m")
    rows = candidate.task.test.rows[:40]

    at_once, _ = run_onnx(model, rows)

    one_by_one = [run_onnx(model, rows[i : i + 1])[0][0] for i in range(0, 40, 8)]
    assert one_by_one == at_once[::8].tolist()


def test_the_gate_catches_thresholds_rounded_up(churn: Candidate) -> None:
    """A model whose thresholds are one float32 too high is refused, with the number of rows that differ."""
    inside = churn.trees.left != LEAF
    higher = np.where(inside, np.nextafter(churn.trees.threshold, np.float32(np.inf)), np.float32(0))
    model = to_onnx(
        churn.booster,
        trees=replace(churn.trees, threshold=higher.astype(np.float32)),
        calibration=churn.calibration,
        name="m",
    )

    with pytest.raises(GateFailed, match=r"\d+ of \d+ rows with another margin in ONNX"):
        check_parity(churn, model)


def test_the_gate_catches_nan_sent_the_other_way(churn: Candidate) -> None:
    """A model that sends missing values to the other child is refused."""
    other = replace(churn.trees, missing_left=~churn.trees.missing_left)
    model = to_onnx(churn.booster, trees=other, calibration=churn.calibration, name="m")

    with pytest.raises(GateFailed, match="another margin in ONNX"):
        check_parity(churn, model)


def test_every_split_is_reached_by_its_rows(churn: Candidate) -> None:
    """Moving a row over the threshold it stands on changes the leaf it ends in, for nearly every split."""
    rows = split_rows(churn.trees, like=churn.task.test.rows[0])
    splits = len(rows) // 6
    leaves = np.asarray(churn.booster.predict(rows, pred_leaf=True))

    at, above = leaves[:splits], leaves[2 * splits : 3 * splits]

    finite = np.isfinite(churn.trees.threshold[churn.trees.left != LEAF])
    assert (at != above).any(axis=1)[finite].all()


def test_the_graph_keeps_the_contract(candidate: Candidate) -> None:
    """Input and outputs have the names, types and shapes that scoring expects."""
    content = to_onnx(candidate.booster, trees=candidate.trees, calibration=candidate.calibration, name="m")

    graph = onnx.load_from_string(content).graph

    assert [value.name for value in graph.input] == ["input"]
    assert [value.name for value in graph.output] == ["margin", "probability"]
    assert graph.input[0].type.tensor_type.shape.dim[1].dim_value == len(candidate.task.inputs)


def test_leaves_are_multiples_of_the_step(candidate: Candidate) -> None:
    """Leaf values lie on the grid on which float32 sums are exact."""
    steps = candidate.trees.value / LEAF_STEP

    np.testing.assert_array_equal(steps, np.round(steps))


def test_training_twice_gives_the_same_bytes(
    few: Telco, candidate: Candidate, trainers: Mapping[str, Callable[[Telco], Candidate]]
) -> None:
    """Same data, same seed, same files."""
    again = build_artefacts(trainers[candidate.task.name](few))

    assert again.files == build_artefacts(candidate).files


def test_flat_trees_survive_their_file(candidate: Candidate) -> None:
    """trees.npz read back gives the same margins."""
    rows = candidate.task.test.rows

    read = Trees.from_npz(candidate.trees.to_npz())

    np.testing.assert_array_equal(read.margins(rows), candidate.trees.margins(rows))


def test_cover_counts_add_up_at_every_split(candidate: Candidate) -> None:
    """The rows at a split are those of its two children."""
    trees = candidate.trees
    splits = np.flatnonzero(trees.left != LEAF)

    below = trees.cover[trees.left[splits]] + trees.cover[trees.right[splits]]

    np.testing.assert_array_equal(below, trees.cover[splits])


def test_golden_contributions_add_up_to_the_margin(candidate: Candidate) -> None:
    """Shapley values and base sum to the margin on all 64 golden rows."""
    rows = golden_rows(candidate)

    sums = contributions(candidate.booster, rows).sum(axis=1)

    assert len(rows) == 64
    np.testing.assert_allclose(sums, log_odds(candidate.booster, rows), rtol=0, atol=1e-9)


def test_zero_as_missing_is_refused(churn: Candidate) -> None:
    """Trees that treat zero as missing cannot be held by flat trees."""
    seen = churn.task.seen
    booster = lgb.train(
        {"objective": "binary", "zero_as_missing": True, "verbose": -1, "num_threads": 1},
        lgb.Dataset(seen.rows, seen.labels),
        num_boost_round=2,
    )

    with pytest.raises(ExportRefused, match="zero_as_missing"):
        flatten(booster)


@given(
    threshold=st.floats(-1e38, 1e38, allow_nan=False),
    value=st.one_of(st.floats(width=32), st.none()),
)
def test_float32_thresholds_decide_as_doubles(threshold: float, value: float | None) -> None:
    """x <= the float32 threshold exactly where x <= the double one, for every float32 x."""
    x = np.float32(threshold if value is None else value)

    decided = bool(x <= at_or_below(threshold))

    assert decided == (float(x) <= threshold)
