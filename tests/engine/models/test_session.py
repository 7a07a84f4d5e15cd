from __future__ import annotations

import numpy as np
import onnx
import pytest
from ensembles import arrays_of
from hypothesis import given
from hypothesis import strategies as st
from model_files import calibrate_nodes, ensemble_node, onnx_model
from onnx import TensorProto, helper

from engine.core.scoring import ScoringError
from engine.models.errors import ModelRefused
from engine.models.onnx_format import FormatRefused, check_model
from engine.models.session import OnnxModel


def refused(content: bytes, count: int) -> str:
    """The text of the refusal."""
    with pytest.raises(ModelRefused) as caught:
        OnnxModel(content, name="churn", input_count=count)
    return str(caught.value)


def test_scores_are_those_of_lightgbm(churn_booster, churn_files, rows):
    """Margin and probability of each row, one number a row, whatever the batch."""
    model = OnnxModel(churn_files["model.onnx"], name="churn", input_count=rows.shape[1])

    margin, probability = model.margin_and_score(rows)

    expected = churn_booster.predict(rows.astype(np.float64), raw_score=True)
    np.testing.assert_allclose(margin, expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(model.probability(rows), probability)
    assert probability.shape == (len(rows),)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"input_name": "x"}, "one named 'input' is expected"),
        ({"input_type": TensorProto.DOUBLE}, "its input is tensor(double)"),
        ({"input_shape": [1, 6]}, "float32 (any, 6) is expected"),
        ({"outputs": ("margin",)}, "no output 'probability', only ['margin']"),
        ({"opsets": {"": 17, "ai.onnx.ml": 99}}, "needs operator set ai.onnx.ml 99"),
        ({"opsets": {"": 17, "ai.onnx.ml": 3, "evil.ops": 1}}, "custom operator domain 'evil.ops'"),
        ({"opsets": {"": 17, "ai.onnx.ml": 3, "com.microsoft": 1}}, "domain 'com.microsoft'"),
    ],
)
def test_a_model_that_is_not_as_expected_is_refused(churn_booster, changes, cause):
    """Names, types, shapes and operator sets are checked, and the refusal says which."""
    nodes = [ensemble_node(arrays_of(churn_booster)), *calibrate_nodes()]
    nodes[0].input[0] = changes.get("input_name", "input")

    text = refused(onnx_model(nodes, input_count=6, **changes).SerializeToString(), 6)

    assert cause in text
    assert "promote one that loads" in text


def test_another_number_of_inputs_than_the_manifest_lists_is_refused(churn_files):
    """A model of six inputs does not serve seven."""
    text = refused(churn_files["model.onnx"], 7)

    assert "float32 (any, 7) is expected, as the manifest lists that many inputs" in text


def test_data_in_another_file_is_refused_before_the_runtime_opens_it(churn_booster):
    """External data could point to any path of the machine."""
    model = onnx_model([ensemble_node(arrays_of(churn_booster)), *calibrate_nodes()], input_count=6)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")

    text = refused(model.SerializeToString(), 6)

    assert "keeps data in another file" in text


@pytest.mark.parametrize("kind", ["node domain", "subgraph", "function", "sparse", "tensor attribute"])
def test_what_no_tree_model_needs_is_refused(churn_booster, kind):
    """Custom nodes, nested graphs, functions, sparse and external tensors do not reach the runtime."""
    model = onnx_model([ensemble_node(arrays_of(churn_booster)), *calibrate_nodes()], input_count=6)
    if kind == "node domain":
        model.graph.node[1].domain = "evil.ops"
    elif kind == "subgraph":
        model.graph.node[1].attribute.append(helper.make_attribute("body", onnx.GraphProto(name="x")))
    elif kind == "function":
        model.functions.add(name="f", domain="f")
    elif kind == "sparse":
        model.graph.sparse_initializer.add()
    else:
        hidden = TensorProto(name="t", data_location=TensorProto.EXTERNAL)
        model.graph.node[1].attribute.append(helper.make_attribute("value", hidden))

    with pytest.raises(FormatRefused):
        check_model(model.SerializeToString())


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x00" * 64, b"\xff" * 64])
def test_bytes_that_are_no_model_are_refused(content):
    """Garbage is a refusal with a sentence, not a crash of the runtime."""
    text = refused(content, 6)

    assert text.startswith("model churn refused: model.onnx: ")


@given(cut=st.floats(0, 0.999))
def test_a_model_cut_anywhere_is_refused(churn_files, cut):
    """No prefix of a model serves."""
    content = churn_files["model.onnx"]

    text = refused(content[: int(len(content) * cut)], 6)

    assert "\n" not in text


def test_a_graph_the_runtime_cannot_build_is_refused():
    """An unknown operator is a refusal that carries the runtime's own words, in one line."""
    nodes = [helper.make_node("NoSuchOperator", ["input"], ["margin"]), *calibrate_nodes()]

    text = refused(onnx_model(nodes, input_count=6).SerializeToString(), 6)

    assert "NoSuchOperator" in text
    assert "\n" not in text


@pytest.mark.parametrize("slope", [np.nan, np.inf, -np.inf])
def test_an_output_that_is_no_number_is_a_scoring_error(churn_booster, rows, slope):
    """NaN never becomes a probability."""
    nodes = [ensemble_node(arrays_of(churn_booster)), *calibrate_nodes()[:2]]
    nodes.append(helper.make_node("Identity", ["log_odds"], ["probability"]))
    model = OnnxModel(
        onnx_model(nodes, input_count=6, slope=slope).SerializeToString(), name="churn", input_count=6
    )

    with pytest.raises(ScoringError, match="probability is not a finite number") as caught:
        model.probability(rows[:5])

    assert caught.value.model == "churn"


@pytest.mark.parametrize("shape", [(3, 5), (6,)])
def test_rows_that_do_not_fit_are_a_scoring_error(churn_files, shape):
    """The wrong shape is told in our words."""
    model = OnnxModel(churn_files["model.onnx"], name="churn", input_count=6)

    with pytest.raises(ScoringError, match=r"not float32 \(n, 6\)"):
        model.probability(np.zeros(shape, dtype=np.float32))
