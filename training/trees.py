"""A boosted model as flat arrays: what explains it without LightGBM, and the truth the export is held to.

`trees.npz` holds one entry per field of `Trees`. Nodes of all trees stand one after another; a tree's
root comes first and siblings are neighbours.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Self

import lightgbm as lgb
import numpy as np
import numpy.typing as npt

from training.dataset import Floats, Rows
from training.errors import ExportRefused

_CHUNK: Final = 4096
_DUMPED_INFINITY: Final = 1e300
_ZERO: Final = float(np.float32(1e-35))
"""LightGBM takes values no further from 0 than this for 0 when it predicts."""
LEAF: Final = -1


@dataclass(frozen=True, slots=True)
class Trees:
    """Flat trees. A row goes left where x <= threshold, or, where x is NaN, by `missing_left`.

    feature int32 (nodes,)        input column; 0 in leaves
    threshold float32 (nodes,)    largest float32 at or below LightGBM's double, maybe infinity; 0 in leaves
    left, right int32 (nodes,)    node places over all trees; -1 in leaves
    missing_left bool (nodes,)    where NaN goes
    cover float64 (nodes,)        training rows that reached the node, the weights of Shapley values
    value float64 (nodes,)        what a leaf adds to the margin, in log-odds; 0 inside
    roots int64 (trees,)          place of each tree's root
    base float64 ()               margin before any tree; LightGBM keeps it in the first tree, so 0
    """

    feature: npt.NDArray[np.int32]
    threshold: npt.NDArray[np.float32]
    left: npt.NDArray[np.int32]
    right: npt.NDArray[np.int32]
    missing_left: npt.NDArray[np.bool_]
    cover: npt.NDArray[np.float64]
    value: npt.NDArray[np.float64]
    roots: npt.NDArray[np.int64]
    base: npt.NDArray[np.float64]

    def margins(self, rows: Rows) -> Floats:
        """Uncalibrated log-odds in double, shape (n,)."""
        parts = [self._chunk_margins(rows[i : i + _CHUNK]) for i in range(0, len(rows), _CHUNK)]
        return np.concatenate(parts) if parts else np.zeros(0)

    def _chunk_margins(self, rows: Rows) -> Floats:
        at = np.broadcast_to(self.roots, (len(rows), len(self.roots))).copy()
        line = np.arange(len(rows))[:, None]
        while (inside := self.left[at] != LEAF).any():
            x = rows[line, self.feature[at]]
            goes_left = np.where(np.isnan(x), self.missing_left[at], x <= self.threshold[at])
            at = np.where(inside, np.where(goes_left, self.left[at], self.right[at]), at)
        return np.asarray(self.value[at].sum(axis=1) + self.base, dtype=np.float64)

    def to_npz(self) -> bytes:
        """The file's bytes; the same trees give the same bytes."""
        return npz_bytes({f.name: getattr(self, f.name) for f in fields(self)})

    @classmethod
    def from_npz(cls, content: bytes) -> Self:
        """Trees from the bytes of a `trees.npz`."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return cls(**{f.name: arrays[f.name] for f in fields(cls)})


def npz_bytes(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """An npz whose bytes depend on the arrays only: NumPy dates its members 1980, and it is not compressed,
    since zlib's output differs from version to version.
    """
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    return content.getvalue()


def at_or_below(threshold: float) -> np.float32:
    """The largest float32 that is not above a double: x <= it decides every float32 x as the double does.

    A split of NaN from all else has the threshold infinity, which LightGBM's dump shows as 1e300.
    """
    if abs(threshold) >= _DUMPED_INFINITY:
        return np.float32(np.copysign(np.inf, threshold))
    nearest = np.float32(threshold)
    return nearest if float(nearest) <= threshold else np.nextafter(nearest, np.float32(-np.inf))


def _decided_by(threshold: float) -> np.float32:
    """The float32 that decides as LightGBM predicts, which reads -1e-35, where it may split, as 0."""
    if threshold == -_ZERO:
        below: np.float32 = np.nextafter(np.float32(-_ZERO), np.float32(-np.inf))
        return below
    return at_or_below(threshold)


def flatten(booster: lgb.Booster) -> Trees:
    """The trees of a booster. Raises ExportRefused for splits that flat trees cannot hold."""
    nodes: list[_Node] = []
    roots: list[int] = []
    for tree in booster.dump_model()["tree_info"]:
        roots.append(len(nodes))
        nodes.append(_node(tree["tree_structure"]))
        _expand(nodes, len(nodes) - 1, tree["tree_structure"])
    return Trees(
        feature=np.array([n.feature for n in nodes], dtype=np.int32),
        threshold=np.array([n.threshold for n in nodes], dtype=np.float32),
        left=np.array([n.left for n in nodes], dtype=np.int32),
        right=np.array([n.left if n.left == LEAF else n.left + 1 for n in nodes], dtype=np.int32),
        missing_left=np.array([n.missing_left for n in nodes], dtype=np.bool_),
        cover=np.array([n.cover for n in nodes], dtype=np.float64),
        value=np.array([n.value for n in nodes], dtype=np.float64),
        roots=np.array(roots, dtype=np.int64),
        base=np.array(0.0),
    )


@dataclass(slots=True)
class _Node:
    """A node being flattened; its right child stands after its left one."""

    feature: int
    threshold: np.float32
    missing_left: bool
    cover: float
    value: float
    left: int = LEAF


def _expand(nodes: list[_Node], place: int, structure: Mapping[str, Any]) -> None:
    """Appends the two children, then what is below each: the numbering onnxmltools gives, too."""
    if "left_child" not in structure:
        return
    nodes[place].left = len(nodes)
    children = (structure["left_child"], structure["right_child"])
    nodes.extend(_node(child) for child in children)
    for offset, child in enumerate(children):
        _expand(nodes, nodes[place].left + offset, child)


def _node(structure: Mapping[str, Any]) -> _Node:
    if "left_child" not in structure:
        cover = float(structure.get("leaf_count", 0))
        return _Node(0, np.float32(0), False, cover, float(structure["leaf_value"]))
    if structure["decision_type"] != "<=" or structure["missing_type"] == "Zero":
        raise ExportRefused(
            f"split on input {structure['split_feature']} is {structure['decision_type']!r} with missing "
            f"type {structure['missing_type']!r}: train without native categoricals and zero_as_missing"
        )
    threshold = float(structure["threshold"])
    nan_is_zero = structure["missing_type"] == "None"  # LightGBM reads NaN as 0.0 there
    return _Node(
        feature=int(structure["split_feature"]),
        threshold=_decided_by(threshold),
        missing_left=threshold >= 0.0 if nan_is_zero else bool(structure["default_left"]),
        cover=float(structure["internal_count"]),
        value=0.0,
    )
