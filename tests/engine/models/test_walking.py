"""One walk for all targets: the bits of onnxruntime, or no walk at all."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from ensembles import arrays_of, train
from hypothesis import given, settings
from hypothesis import strategies as st
from model_files import calibrate_nodes, ensemble_node, onnx_model
from structlog.testing import capture_logs

from engine.models import walking
from engine.models.onnx_parts import PartsUnclear, take_apart
from engine.models.scorer import build_scorer
from engine.models.session import MARGIN, OnnxLink, OnnxModel
from engine.models.walking import MAX_ASKERS, adds_up_exactly, walk_of

STEP = 2.0**-18
ODD = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-45, 3e38, -3e38], dtype=np.float32)


def rounded(arrays):
    """The trees with leaves that add up exactly, as training rounds them."""
    return {**arrays, "value": np.round(arrays["value"] / STEP) * STEP}


def grown(rng, *, inputs, rounds, leaves):
    """Trees over values of few and many kinds, some of them missing."""
    rows = rng.normal(0, 2, (200, inputs)).astype(np.float32)
    rows[:, ::2] = rows[:, ::2].round()
    rows[rng.random(rows.shape) < 0.1] = np.nan
    labels = (np.nan_to_num(rows).sum(axis=1) + rng.normal(0, 1, 200) > 0).astype(np.int64)
    return rounded(arrays_of(train(rows, labels, rounds=rounds, num_leaves=leaves)))


def content_of(arrays, inputs):
    """The ONNX file of trees, with a calibration."""
    model = onnx_model([ensemble_node(arrays), *calibrate_nodes()], input_count=inputs)
    content: bytes = model.SerializeToString()
    return content


def rows_beside(rng, arrays, *, count, inputs):
    """Rows of thresholds, their neighbours, and odd values."""
    thresholds = arrays["threshold"][arrays["left"] >= 0]
    neighbours = [np.nextafter(thresholds, np.float32(way)) for way in (-np.inf, np.inf)]
    values = np.concatenate([thresholds, *neighbours, ODD])
    return rng.choice(values, size=(count, inputs)).astype(np.float32)


def templates_of(rng, *, askers, inputs, own):
    """For each asker a column of its own, and some of the customer's that are hidden."""
    templates = np.zeros((askers, inputs), dtype=np.float32)
    said = np.array([0.0, 1.0, 2.5, np.nan], dtype=np.float32)
    templates[:, own:] = rng.choice(said, (askers, inputs - own))
    templates[:, :own][rng.random((askers, own)) < 0.2] = np.nan
    return templates


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), askers=st.sampled_from([1, 2, 30, MAX_ASKERS]))
def test_a_walk_says_what_onnxruntime_says_to_the_bit(seed, askers):
    """Margin and score of every asker, for values on and beside thresholds, missing and infinite."""
    rng = np.random.default_rng(seed)
    inputs = int(rng.integers(2, 12))
    own = int(rng.integers(1, inputs + 1))
    arrays = grown(rng, inputs=inputs, rounds=int(rng.integers(1, 6)), leaves=int(rng.choice([2, 8, 31])))
    content = content_of(arrays, inputs)
    templates = templates_of(rng, askers=askers, inputs=inputs, own=own)
    parts, session = take_apart(content, margin=MARGIN), OnnxModel(content, name="m", input_count=inputs)
    walk = walk_of(parts.ensemble, templates, own_columns=np.arange(own))
    link = OnnxLink(parts.rest, name="m")

    assert walk is not None
    for row in rows_beside(rng, arrays, count=12, inputs=inputs):
        row[own:] = 0.0
        asked = rng.random(askers) < 0.7
        asked[0] = True
        margins = walk.margins(row, asked)
        margin, score = session.margin_and_score((templates + row)[asked])
        np.testing.assert_array_equal(margins, margin)
        np.testing.assert_array_equal(link.scores(margins), score)


def test_nobody_who_asks_is_told_nothing():
    """A walk for no one is no walk."""
    arrays = grown(np.random.default_rng(3), inputs=3, rounds=2, leaves=4)
    ensemble = take_apart(content_of(arrays, 3), margin=MARGIN).ensemble
    walk = walk_of(ensemble, np.zeros((4, 3), dtype=np.float32), own_columns=np.arange(3))

    assert walk is not None
    assert walk.margins(np.zeros(3, dtype=np.float32), np.zeros(4, dtype=np.bool_)).shape == (0,)


@pytest.mark.parametrize("flaw", ["leaves that round", "too large a sum", "too many askers", "a deep tree"])
def test_trees_that_a_walk_could_get_wrong_are_left_to_onnxruntime(flaw):
    """No proof, no walk."""
    arrays = grown(np.random.default_rng(4), inputs=3, rounds=2, leaves=4)
    askers = MAX_ASKERS + 1 if flaw == "too many askers" else 1
    if flaw == "leaves that round":
        arrays["value"] += 1e-7
    if flaw == "too large a sum":
        arrays["value"] *= 1 << 10
    if flaw == "a deep tree":
        arrays = chain_of(300)

    ensemble = take_apart(content_of(arrays, 3), margin=MARGIN).ensemble

    templates = np.zeros((askers, 3), dtype=np.float32)
    assert walk_of(ensemble, templates, own_columns=np.arange(3)) is None
    assert adds_up_exactly(ensemble) == (flaw in ("too many askers", "a deep tree"))


def chain_of(depth):
    """One tree that splits the same input again and again."""
    splits = np.arange(0, 2 * depth, 2)
    nodes = 2 * depth + 1
    arrays = {
        "feature": np.zeros(nodes, np.int32),
        "threshold": np.zeros(nodes, np.float32),
        "left": np.full(nodes, -1, np.int32),
        "right": np.full(nodes, -1, np.int32),
        "missing_left": np.zeros(nodes, bool),
        "value": np.where(np.arange(nodes) % 2, STEP, 0.0),
        "roots": np.zeros(1, np.int64),
    }
    arrays["threshold"][splits] = np.arange(depth)
    arrays["left"][splits], arrays["right"][splits] = splits + 1, splits + 2
    return arrays


def test_a_row_of_another_shape_is_refused():
    """Machine code reads what it is given, so that is looked at first."""
    arrays = grown(np.random.default_rng(5), inputs=3, rounds=1, leaves=2)
    ensemble = take_apart(content_of(arrays, 3), margin=MARGIN).ensemble
    walk = walk_of(ensemble, np.zeros((1, 3), dtype=np.float32), own_columns=np.arange(3))

    assert walk is not None
    with pytest.raises(ValueError, match=r"the model reads \(3,\)"):
        walk.margins(np.zeros(4, dtype=np.float32))
    with pytest.raises(ValueError, match="the row is float64"):
        walk.margins(np.zeros(3))


def test_a_value_of_the_askers_in_a_column_of_the_customers_is_left_to_onnxruntime():
    """The walk takes one of the two, where a row is the sum of both."""
    arrays = grown(np.random.default_rng(6), inputs=3, rounds=1, leaves=2)
    ensemble = take_apart(content_of(arrays, 3), margin=MARGIN).ensemble

    assert walk_of(ensemble, np.ones((1, 3), dtype=np.float32), own_columns=np.arange(3)) is None


CHANGES = {
    "post_transform": ("post_transform", "LOGISTIC", "do not just add up"),
    "aggregate_function": ("aggregate_function", "AVERAGE", "do not just add up"),
    "base values": ("base_values", [1.0], "its trees have base_values"),
    "other outputs": ("target_ids", None, "other outputs than the margin"),
    "other branches": ("nodes_modes", None, "branch in another way"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_trees_that_are_not_understood_are_left_to_onnxruntime(change):
    """What is written in a way that is not known here has no parts."""
    name, value, cause = CHANGES[change]
    arrays = grown(np.random.default_rng(7), inputs=3, rounds=2, leaves=4)
    node = ensemble_node(arrays)
    held = {attribute.name: attribute for attribute in node.attribute}
    if name == "target_ids":
        held[name].ints[0] = 1
    elif name == "nodes_modes":
        held[name].strings[:] = [s.replace(b"LEQ", b"LT") for s in held[name].strings]
    else:
        node.attribute.append(onnx.helper.make_attribute(name, value))
    content = onnx_model([node, *calibrate_nodes()], input_count=3).SerializeToString()

    with pytest.raises(PartsUnclear, match=cause):
        take_apart(content, margin=MARGIN)


@pytest.mark.parametrize("content", [b"", b"\x3a", b"\x3a\x02\x0a", b"\x3b", b"\x38\x01", b"\x3a\x00"])
def test_bytes_that_are_no_model_have_no_parts(content):
    """Files are checked before, and still nothing else escapes."""
    with pytest.raises(PartsUnclear):
        take_apart(content, margin=MARGIN)


def test_a_published_model_walks_only_where_its_leaves_add_up(registry, schema, actions):
    """The models of these tests are not rounded, so onnxruntime scores them, and nothing needs to be said."""
    with capture_logs() as logs:
        scorer = build_scorer(registry_root=registry, schema=schema, actions=actions)

    vector = np.zeros(len(schema.feature), dtype=np.float32)
    assert np.isfinite(scorer.propensity(vector, np.array([0, 2]))).all()
    assert [log for log in logs if log["event"] == "models.not_walked"] == []


def test_where_no_machine_code_runs_nothing_walks(monkeypatch):
    """A hardened system scores with onnxruntime, the same."""
    arrays = grown(np.random.default_rng(8), inputs=3, rounds=2, leaves=4)
    ensemble = take_apart(content_of(arrays, 3), margin=MARGIN).ensemble
    monkeypatch.setattr(walking, "machine_code", lambda: None)

    assert walk_of(ensemble, np.zeros((1, 3), dtype=np.float32), own_columns=np.arange(3)) is None
