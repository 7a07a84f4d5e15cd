"""LightGBM ensembles as the arrays of `trees.npz`, for tests: nothing of the training package is used."""

from __future__ import annotations

from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt

Arrays = dict[str, npt.NDArray[Any]]


def train(rows: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], **settings: Any) -> lightgbm.Booster:
    """A small binary classifier on one thread."""
    params = {
        "objective": "binary", "num_threads": 1, "verbose": -1, "seed": 1, "deterministic": True,
        "min_data_in_leaf": 3, "learning_rate": 0.3, **settings,
    }  # fmt: skip
    rounds = int(params.pop("rounds", 5))
    data = lightgbm.Dataset(rows.astype(np.float64), labels, params={"verbose": -1})
    return lightgbm.train(params, data, num_boost_round=rounds)


def arrays_of(booster: lightgbm.Booster) -> Arrays:
    """The arrays of `trees.npz`; thresholds are the largest float32 not above LightGBM's."""
    nodes: list[dict[str, Any]] = []
    roots = [_add(tree["tree_structure"], nodes) for tree in booster.dump_model()["tree_info"]]
    arrays: Arrays = {
        "feature": np.array([n["feature"] for n in nodes], dtype=np.int32),
        "threshold": np.array([n["threshold"] for n in nodes], dtype=np.float32),
        "left": np.array([n["left"] for n in nodes], dtype=np.int32),
        "right": np.array([n["right"] for n in nodes], dtype=np.int32),
        "missing_left": np.array([n["missing_left"] for n in nodes], dtype=bool),
        "cover": np.array([n["cover"] for n in nodes], dtype=np.float64),
        "value": np.array([n["value"] for n in nodes], dtype=np.float64),
        "roots": np.array(roots, dtype=np.int64),
    }
    arrays["base"] = np.array(0.0)  # LightGBM keeps its start in the first tree
    return arrays


def _add(node: dict[str, Any], nodes: list[dict[str, Any]]) -> int:
    place = len(nodes)
    if "split_feature" not in node:
        value, cover = node["leaf_value"], node.get("leaf_count", 0)
        nodes.append(_node(feature=0, threshold=0.0, missing_left=False, cover=cover, value=value))
        return place
    missing_left = node["default_left"] if node["missing_type"] == "NaN" else node["threshold"] >= 0.0
    nodes.append(
        _node(
            feature=node["split_feature"],
            threshold=_float32_floor(node["threshold"]),
            missing_left=missing_left,
            cover=node["internal_count"],
            value=0.0,
        )
    )
    nodes[place]["left"] = _add(node["left_child"], nodes)
    nodes[place]["right"] = _add(node["right_child"], nodes)
    return place


def _node(**values: Any) -> dict[str, Any]:
    return {"left": -1, "right": -1, **values}


def _float32_floor(threshold: float) -> np.float32:
    if threshold >= 1e300:  # LightGBM holds infinity and writes 1e300
        return np.float32(np.inf)
    nearest = np.float32(threshold)
    return nearest if float(nearest) <= threshold else np.nextafter(nearest, np.float32(-np.inf))
