"""Whole model versions for tests: files made by hand from a booster, manifests that fit the telco schema."""

from __future__ import annotations

import io
from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt
import onnx
from ensembles import Arrays, arrays_of
from onnx import TensorProto, helper, numpy_helper

SLOPE, INTERCEPT = 1.25, -0.5
FEATURES = (
    "contract",
    "tenure_months",
    "monthly_charges",
    "total_charges",
    "online_security",
    "tech_support",
)
TARGETS = ("online_security", "tech_support")


def npz(arrays: Arrays) -> bytes:
    """The bytes of an npz file."""
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    return content.getvalue()


def ensemble_node(arrays: Arrays) -> onnx.NodeProto:
    """A TreeEnsembleRegressor of the trees: `input` to `margin`."""
    tree = np.searchsorted(arrays["roots"], np.arange(len(arrays["left"])), side="right") - 1
    root = arrays["roots"][tree]
    leaf = arrays["left"] < 0
    child = {side: np.where(leaf, 0, arrays[side] - root) for side in ("left", "right")}
    return helper.make_node(
        "TreeEnsembleRegressor", ["input"], ["margin"], domain="ai.onnx.ml", n_targets=1,
        nodes_treeids=tree, nodes_nodeids=np.arange(len(leaf)) - root,
        nodes_featureids=arrays["feature"], nodes_values=arrays["threshold"].astype(float),
        nodes_modes=["LEAF" if is_leaf else "BRANCH_LEQ" for is_leaf in leaf],
        nodes_truenodeids=child["left"], nodes_falsenodeids=child["right"],
        nodes_missing_value_tracks_true=arrays["missing_left"].astype(int),
        target_treeids=tree[leaf], target_nodeids=(np.arange(len(leaf)) - root)[leaf],
        target_ids=np.zeros(int(leaf.sum()), int), target_weights=arrays["value"][leaf],
    )  # fmt: skip


def calibrate_nodes() -> list[onnx.NodeProto]:
    """`margin` to `probability`."""
    return [
        helper.make_node("Mul", ["margin", "slope"], ["scaled"]),
        helper.make_node("Add", ["scaled", "intercept"], ["log_odds"]),
        helper.make_node("Sigmoid", ["log_odds"], ["probability"]),
    ]


def onnx_model(nodes: list[onnx.NodeProto], *, input_count: int, **changes: Any) -> onnx.ModelProto:
    """A model of the nodes. `changes`: `outputs`, `input_name`, `input_type`, `opsets`, `slope`."""
    slope = changes.get("slope", SLOPE)
    graph = helper.make_graph(
        nodes,
        "test",
        [
            helper.make_tensor_value_info(
                changes.get("input_name", "input"),
                changes.get("input_type", TensorProto.FLOAT),
                changes.get("input_shape", [None, input_count]),
            )
        ],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1])
            for name in changes.get("outputs", ("margin", "probability"))
        ],
        [
            numpy_helper.from_array(np.array(slope, np.float32), "slope"),
            numpy_helper.from_array(np.array(INTERCEPT, np.float32), "intercept"),
        ],
    )
    opsets = changes.get("opsets", {"": 17, "ai.onnx.ml": 3})
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def golden_of(booster: lightgbm.Booster, rows: npt.NDArray[np.float32]) -> Arrays:
    """What LightGBM itself says of the rows."""
    wide = rows.astype(np.float64)
    margin = np.asarray(booster.predict(wide, raw_score=True))
    return {
        "rows": rows,
        "margin": margin,
        "probability": 1 / (1 + np.exp(-(SLOPE * margin + INTERCEPT))),
        "contributions": np.asarray(booster.predict(wide, pred_contrib=True)),
    }


def version_files(booster: lightgbm.Booster, rows: npt.NDArray[np.float32]) -> dict[str, bytes]:
    """The files of a version whose golden rows are `rows`."""
    arrays = arrays_of(booster)
    model = onnx_model([ensemble_node(arrays), *calibrate_nodes()], input_count=rows.shape[1])
    return {
        "model.onnx": model.SerializeToString(),
        "trees.npz": npz(arrays),
        "golden.npz": npz(golden_of(booster, rows)),
    }


def manifest_of(kind: str) -> dict[str, Any]:
    """A manifest over FEATURES, and for propensity over TARGETS, as a training run offers it."""
    propensity = kind == "propensity"
    asked = [f"target.{target}" for target in TARGETS] if propensity else []
    silent = [{"name": "target", "inputs": asked, "reason_raises": "", "reason_lowers": ""}]
    return {
        "name": kind,
        "kind": kind,
        "created": "2026-01-15",
        "intended_use": "tests",
        "feature_schema": "telco",
        "inputs": [
            *({"name": name, "source": "feature"} for name in FEATURES),
            *({"name": name, "source": "target"} for name in asked),
        ],
        "targets": list(TARGETS) if propensity else [],
        "hidden": {target: [target] for target in TARGETS} if propensity else {},
        "typical": {"contract": 0.0, "tenure_months": 29.0, "monthly_charges": 70.35, "online_security": 0.0},
        "concepts": [
            _concept("COMMITMENT", "contract"),
            _concept("LOYALTY", "tenure_months"),
            _concept("PRICE", "monthly_charges", "total_charges"),
            _concept("PROTECTION", "online_security", "tech_support"),
            *(silent if propensity else []),
        ],
        "calibration": {"slope": SLOPE, "intercept": INTERCEPT},
        "metrics": {},
        "training_data": {},
    }


def _concept(code: str, *inputs: str) -> dict[str, Any]:
    return {
        "name": code.lower(),
        "inputs": inputs,
        "reason_raises": f"{code}_RAISES",
        "reason_lowers": f"{code}_LOWERS",
    }
