"""LightGBM to ONNX, exactly: one graph from float32 inputs to the margin and the calibrated probability.

onnxmltools rounds LightGBM's double thresholds to the nearest float32, which sends rows that lie on a
threshold to another leaf. The thresholds, and where NaN goes, are therefore set from `Trees`.
"""

from __future__ import annotations

import re
from typing import Final

import lightgbm as lgb
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType

from training.calibration import Isotonic, Platt
from training.dataset import Floats
from training.errors import ExportRefused
from training.links import LARGEST_UPLIFT, Clipped, Link
from training.trees import LEAF, Trees

_ADDING_UP: Final = re.compile(
    r"^objective=(binary sigmoid:1|regression|tweedie( tweedie_variance_power:[0-9.]+)?|gamma)\n",
    re.MULTILINE,
)
OPSET: Final = 17
ML_OPSET: Final = 3
IR_VERSION: Final = 8
"""Old enough for every onnxruntime that the project allows."""


def to_onnx(booster: lgb.Booster, *, trees: Trees, calibration: Link, name: str) -> bytes:
    """The model file. Input `input` float32 [n, inputs]; outputs `margin` and the score float32 [n, 1].

    `margin` is the sum of the trees, of a classifier the uncalibrated log-odds; its score is `probability`.
    Raises ExportRefused where the conversion holds other trees than `trees`.
    """
    ensemble = _converted_ensemble(booster)
    _set_exact_splits(ensemble, trees)
    ensemble.input[:] = ["input"]
    ensemble.output[:] = ["margin"]
    ensemble.name = name
    nodes, constants = _from_margin(calibration)
    graph = helper.make_graph(
        nodes=[
            ensemble,
            *nodes,
        ],
        name=name,
        inputs=[helper.make_tensor_value_info("input", TensorProto.FLOAT, [None, booster.num_feature()])],
        outputs=[
            helper.make_tensor_value_info(output, TensorProto.FLOAT, [None, 1])
            for output in ("margin", calibration.output)
        ],
        initializer=constants,
    )
    model = helper.make_model(
        graph,
        producer_name="arbiter-training",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)],
    )
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _from_margin(link: Link) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """The nodes from `margin` to the score, and their constants."""
    if isinstance(link, Platt):
        return _line(link)
    if isinstance(link, Isotonic):
        return _steps(link)
    if isinstance(link, Clipped):
        bounds = [_constant("least", -LARGEST_UPLIFT), _constant("most", LARGEST_UPLIFT)]
        return [helper.make_node("Clip", ["margin", "least", "most"], [link.output])], bounds
    return [helper.make_node("Exp", ["margin"], [link.output])], []


def _line(platt: Platt) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Margin to probability: the sigmoid of a line."""
    nodes = [
        helper.make_node("Mul", ["margin", "slope"], ["scaled"]),
        helper.make_node("Add", ["scaled", "intercept"], ["log_odds"]),
        helper.make_node("Sigmoid", ["log_odds"], ["probability"]),
    ]
    return nodes, [_constant("slope", platt.slope), _constant("intercept", platt.intercept)]


def _steps(isotonic: Isotonic) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Margin to probability: the knot at or below it, and the line from there to the next, never above it.

    Each step rounds a rising function, so a higher margin never gets a lower probability, in float32 too.
    """
    margins, heights = np.array(isotonic.margins), np.array(isotonic.probabilities)
    rises = np.append(np.diff(heights) / np.diff(margins), 0.0)
    nodes = [
        helper.make_node("Clip", ["margin", "lowest", "highest"], ["inside"]),
        helper.make_node("GreaterOrEqual", ["inside", "later_knots"], ["passed"]),
        helper.make_node("Cast", ["passed"], ["passed_counted"], to=TensorProto.INT64),
        helper.make_node("ReduceSum", ["passed_counted", "across"], ["knot"], keepdims=1),
        helper.make_node("Gather", ["knots", "knot"], ["from_margin"]),
        helper.make_node("Gather", ["heights", "knot"], ["from_height"]),
        helper.make_node("Gather", ["rises", "knot"], ["rise"]),
        helper.make_node("Gather", ["next_heights", "knot"], ["at_most"]),
        helper.make_node("Sub", ["inside", "from_margin"], ["beyond"]),
        helper.make_node("Mul", ["beyond", "rise"], ["added"]),
        helper.make_node("Add", ["from_height", "added"], ["unbounded"]),
        helper.make_node("Min", ["unbounded", "at_most"], ["probability"]),
    ]
    constants = [
        _constant("lowest", margins[0]),
        _constant("highest", margins[-1]),
        _constant("later_knots", margins[1:]),
        _constant("knots", margins),
        _constant("heights", heights),
        _constant("rises", rises),
        _constant("next_heights", np.append(heights[1:], heights[-1])),
        numpy_helper.from_array(np.array([1], dtype=np.int64), "across"),
    ]
    return nodes, constants


def _constant(name: str, value: float | Floats) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(value, dtype=np.float32), name)


def _converted_ensemble(booster: lgb.Booster) -> onnx.NodeProto:
    """The TreeEnsembleRegressor node: as a regression, LightGBM's trees add up to the margin itself."""
    text = booster.model_to_string()
    objective = _ADDING_UP.search(text)
    if objective is None:
        raise ExportRefused(
            "objective is none whose trees add up to the margin: binary with sigmoid 1 (log-odds), "
            "regression, tweedie or gamma (logarithm)"
        )
    as_regression = lgb.Booster(model_str=text.replace(objective[0], "objective=regression\n"))
    converted = convert_lightgbm(
        as_regression,
        initial_types=[("input", FloatTensorType([None, booster.num_feature()]))],
        target_opset=15,
        zipmap=False,
    )
    ensembles: list[onnx.NodeProto] = [
        node for node in converted.graph.node if node.op_type == "TreeEnsembleRegressor"
    ]
    (ensemble,) = ensembles
    return ensemble


def converted_thresholds(booster: lgb.Booster) -> npt.NDArray[np.float32]:
    """The thresholds as onnxmltools leaves them, node by node in the order of `Trees`."""
    held = {attribute.name: attribute for attribute in _converted_ensemble(booster).attribute}
    return np.array(helper.get_attribute_value(held["nodes_values"]), dtype=np.float32)


def _set_exact_splits(ensemble: onnx.NodeProto, trees: Trees) -> None:
    """Replaces thresholds and ways of NaN by those of `trees`, after checking that the nodes are the same."""
    held = {attribute.name: helper.get_attribute_value(attribute) for attribute in ensemble.attribute}
    inside = trees.left != LEAF
    root = np.repeat(trees.roots, np.diff(np.append(trees.roots, len(trees.left))))
    leaves = trees.roots[np.array(held["target_treeids"])] + np.array(held["target_nodeids"])
    same = (
        len(held["nodes_values"]) == len(trees.left)
        and np.array_equal(np.array(held["nodes_featureids"]), trees.feature)
        and np.array_equal(np.array(held["nodes_truenodeids"])[inside], (trees.left - root)[inside])
        and np.array_equal(np.array(held["nodes_falsenodeids"])[inside], (trees.right - root)[inside])
        and np.array_equal(np.array([mode == b"BRANCH_LEQ" for mode in held["nodes_modes"]]), inside)
        and np.array_equal(np.sort(leaves), np.flatnonzero(~inside))
        and np.array_equal(np.array(held["target_weights"], dtype=np.float32), trees.value[leaves])
    )
    if not same:
        raise ExportRefused("onnxmltools converted to other trees than LightGBM has: check its version")
    _replace(ensemble, "nodes_values", trees.threshold.astype(float).tolist())
    _replace(ensemble, "nodes_missing_value_tracks_true", trees.missing_left.astype(int).tolist())


def _replace(node: onnx.NodeProto, name: str, values: list[float] | list[int]) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, values)])
