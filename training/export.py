"""LightGBM to ONNX, exactly: one graph from float32 inputs to the margin and the calibrated probability.

onnxmltools rounds LightGBM's double thresholds to the nearest float32, which sends rows that lie on a
threshold to another leaf. The thresholds, and where NaN goes, are therefore set from `Trees`.
"""

from __future__ import annotations

from typing import Final

import lightgbm as lgb
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType

from training.calibration import Platt
from training.errors import ExportRefused
from training.trees import LEAF, Trees

OPSET: Final = 17
ML_OPSET: Final = 3
IR_VERSION: Final = 8
"""Old enough for every onnxruntime that the project allows."""


def to_onnx(booster: lgb.Booster, *, trees: Trees, platt: Platt, name: str) -> bytes:
    """The model file. Input `input` float32 [n, inputs]; outputs `margin` and `probability` float32 [n, 1].

    `margin` is the uncalibrated log-odds. Raises ExportRefused where the conversion holds other trees
    than `trees`.
    """
    ensemble = _converted_ensemble(booster)
    _set_exact_splits(ensemble, trees)
    ensemble.input[:] = ["input"]
    ensemble.output[:] = ["margin"]
    ensemble.name = name
    graph = helper.make_graph(
        nodes=[
            ensemble,
            helper.make_node("Mul", ["margin", "slope"], ["scaled"]),
            helper.make_node("Add", ["scaled", "intercept"], ["log_odds"]),
            helper.make_node("Sigmoid", ["log_odds"], ["probability"]),
        ],
        name=name,
        inputs=[helper.make_tensor_value_info("input", TensorProto.FLOAT, [None, booster.num_feature()])],
        outputs=[
            helper.make_tensor_value_info(output, TensorProto.FLOAT, [None, 1])
            for output in ("margin", "probability")
        ],
        initializer=[
            numpy_helper.from_array(np.array(platt.slope, dtype=np.float32), "slope"),
            numpy_helper.from_array(np.array(platt.intercept, dtype=np.float32), "intercept"),
        ],
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


def _converted_ensemble(booster: lgb.Booster) -> onnx.NodeProto:
    """The TreeEnsembleRegressor node: as a regression, LightGBM's trees add up to the margin itself."""
    text = booster.model_to_string()
    if "objective=binary sigmoid:1\n" not in text:
        raise ExportRefused("objective is not binary with sigmoid 1: the margin would not be in log-odds")
    as_regression = lgb.Booster(
        model_str=text.replace("objective=binary sigmoid:1\n", "objective=regression\n")
    )
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
