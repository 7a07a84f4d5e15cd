"""Ensembles for tests that no training makes: chains of a wanted depth, and trees grown at random."""

from __future__ import annotations

from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt
from ensembles import Arrays, train


def chain(depth: int, *, growth: float) -> tuple[lightgbm.Booster, npt.NDArray[np.float32]]:
    """Two trees that ask one input after the other, `depth` of them, and rows that end at each leaf.

    Each leaf is `growth` times the next: near 1 the leaves far down matter as much as those near the root.
    """
    rows = np.repeat(np.eye(depth + 1, depth, dtype=np.float32), 8, axis=0)
    labels = np.repeat(10.0 * growth ** -np.arange(depth + 1), 8)
    booster = train(
        rows, labels, rounds=2, objective="regression", num_leaves=depth + 1, min_data_in_leaf=1,
        min_sum_hessian_in_leaf=0.0, min_data_in_bin=1, boost_from_average=False, enable_bundle=False,
    )  # fmt: skip
    return booster, rows[::8]


def ladder(*, trees: int, leaves: int, inputs: int) -> Arrays:
    """Trees that are one long way each: every split has one leaf, and asks the input after the last one's."""
    size, steps = 2 * leaves - 1, np.arange(leaves - 1)
    tree: Arrays = {name: np.zeros(size, dtype=np.int64) for name in ("feature", "left", "right")}
    tree["feature"][2 * steps] = steps % inputs
    tree["left"][:], tree["right"][:] = -1, -1
    tree["left"][2 * steps], tree["right"][2 * steps] = 2 * steps + 1, 2 * steps + 2
    roots = np.arange(trees) * size
    arrays = {name: np.tile(values, trees) for name, values in tree.items()}
    for side in ("left", "right"):
        arrays[side] = np.where(arrays[side] < 0, -1, arrays[side] + np.repeat(roots, size))
    place = np.tile(np.arange(size), trees)
    cover = 1000.0 * 0.9 ** ((place + 1) // 2)
    arrays["cover"] = np.where((place % 2 == 1), cover / 9.0, cover)
    arrays["value"] = np.where(arrays["left"] < 0, np.sin(np.arange(len(place))) / 20.0, 0.0)
    arrays["threshold"] = np.full(len(place), 0.5, dtype=np.float32)
    arrays["missing_left"] = place % 4 == 0
    return {**arrays, "roots": roots, "base": np.array(0.25)}


def grown(
    *, trees: int, leaves: int, inputs: int, seed: int, thresholds: int = 200, empty: float = 0.0
) -> Arrays:
    """Trees whose splits are drawn, each at a leaf drawn from all; a share of them sends nobody right."""
    rng = np.random.default_rng(seed)
    nodes: list[dict[str, Any]] = []
    roots = [_grow(nodes, rng, leaves, inputs, thresholds, empty) for _ in range(trees)]
    arrays = {name: np.array([node[name] for node in nodes]) for name in nodes[0]}
    return {
        **arrays,
        "threshold": arrays["threshold"].astype(np.float32),
        "roots": np.array(roots),
        "base": np.array(0.25),
    }


def _grow(
    nodes: list[dict[str, Any]],
    rng: np.random.Generator,
    leaves: int,
    inputs: int,
    thresholds: int,
    empty: float,
) -> int:
    root = len(nodes)
    nodes.append(_leaf(rng, 10_000.0))
    ends = [root]
    while len(ends) < leaves:
        split = ends.pop(int(rng.integers(len(ends))))
        share = 0.0 if rng.random() < empty else rng.uniform(0.05, 0.95)
        cover = nodes[split]["cover"]
        nodes[split] |= {
            "feature": int(rng.integers(inputs)),
            "threshold": float(rng.integers(thresholds)) / thresholds,
            "missing_left": bool(rng.integers(2)),
            "left": len(nodes),
            "right": len(nodes) + 1,
            "value": 0.0,
        }
        nodes += [_leaf(rng, cover * (1.0 - share)), _leaf(rng, cover * share)]
        ends += [len(nodes) - 2, len(nodes) - 1]
    return root


def _leaf(rng: np.random.Generator, cover: float) -> dict[str, Any]:
    return {
        "feature": 0, "threshold": 0.0, "left": -1, "right": -1, "missing_left": False,
        "cover": cover, "value": float(rng.normal(0.0, 0.05)),
    }  # fmt: skip
