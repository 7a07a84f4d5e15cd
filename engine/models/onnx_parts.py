"""The two parts of an ONNX model of trees: the trees, and the steps from their sum to the score.

Read from the file's bytes, which `engine.models.onnx_format` has checked. A file whose parts cannot be told
apart for certain has none: then the runtime scores it as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from engine.models.trees import Flags, Floats, Places, Rows

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INPUT, _GRAPH_OUTPUT = 1, 11, 12
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR, _NODE_ATTRIBUTE = 1, 2, 4, 5
_VALUE_NAME = 1
_ATTRIBUTE_NAME, _ATTRIBUTE_INT, _ATTRIBUTE_TEXT = 1, 3, 4
_ATTRIBUTE_FLOATS, _ATTRIBUTE_INTS, _ATTRIBUTE_TEXTS = 7, 8, 9
_ENSEMBLE: Final = b"TreeEnsembleRegressor"
_PER_NODE: Final = (
    "nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_truenodeids", "nodes_falsenodeids",
)  # fmt: skip
_KNOWN: Final = frozenset(
    {
        *_PER_NODE, "nodes_values", "nodes_modes", "nodes_missing_value_tracks_true", "nodes_hitrates",
        "target_treeids", "target_nodeids", "target_ids", "target_weights",
        "n_targets", "post_transform", "aggregate_function",
    }
)  # fmt: skip
_NOBODY: Final = -1

Attribute = int | bytes | list[int] | list[bytes] | Rows


class PartsUnclear(Exception):
    """The file says something that is not understood here, so only the runtime may score it."""


@dataclass(frozen=True, slots=True, eq=False)
class Ensemble:
    """All nodes of all trees, shape (nodes,) each; a leaf has `left` -1. `roots` has shape (trees,).

    A row goes left where its input `feature` is at most `threshold`, or, where it is NaN, where
    `missing_left` says so. `value` is what a leaf adds to the margin.
    """

    feature: Places
    threshold: Rows
    left: Places
    right: Places
    missing_left: Flags
    value: Floats
    roots: Places


@dataclass(frozen=True, slots=True, eq=False)
class OnnxParts:
    """The trees, and an ONNX model whose one input is their sum, float32 (n, 1)."""

    ensemble: Ensemble
    rest: bytes


def take_apart(content: bytes, *, margin: str) -> OnnxParts:
    """The parts of a model whose trees add up to `margin`. Raises PartsUnclear."""
    graph = _only([value for number, value, _ in _fields(content) if number == _MODEL_GRAPH], "graph")
    ensembles: list[bytes] = []
    kept: list[bytes] = []
    for number, value, raw in _fields(graph):
        if number == _GRAPH_NODE and _first(value, _NODE_OPERATOR) == _ENSEMBLE:
            ensembles.append(_message(value))
        elif number == _GRAPH_OUTPUT and _first(value, _VALUE_NAME) == margin.encode():
            kept.append(_field(_GRAPH_INPUT, _message(value)))
        elif number != _GRAPH_INPUT:
            kept.append(raw)
    node = _only(ensembles, "ensemble")
    if _first(node, _NODE_OUTPUT) != margin.encode():
        raise PartsUnclear("the trees do not add up to the margin")
    rest = b"".join(
        _field(_MODEL_GRAPH, b"".join(kept)) if number == _MODEL_GRAPH else raw
        for number, _, raw in _fields(content)
    )
    return OnnxParts(_ensemble(node), rest)


def _ensemble(node: bytes) -> Ensemble:
    """The trees of a node. Raises PartsUnclear where they are not plain sums of leaves."""
    attributes = (value for number, value, _ in _fields(node) if number == _NODE_ATTRIBUTE)
    said = dict(_attribute(_message(value)) for value in attributes)
    _require_plain(said)
    tree, number, feature, left, right = (_places(said.get(name)) for name in _PER_NODE)
    is_leaf = _leaves(said.get("nodes_modes"))
    threshold = said.get("nodes_values")
    missing_left = _places(said.get("nodes_missing_value_tracks_true", [0] * len(number)))
    if not isinstance(threshold, np.ndarray) or np.isnan(threshold).any():
        raise PartsUnclear("its trees have no thresholds")
    lengths = {len(each) for each in (tree, number, feature, left, right, is_leaf, threshold, missing_left)}
    place = {key: i for i, key in enumerate(zip(tree.tolist(), number.tolist(), strict=False))}
    if len(lengths) != 1 or lengths != {len(place)} or not place:
        raise PartsUnclear("its trees are not whole")
    children = [_found(place, tree, side) for side in (left, right)]
    if any((side[~is_leaf] == _NOBODY).any() for side in children):
        raise PartsUnclear("a branch of its trees leads nowhere")
    return Ensemble(
        feature=feature,
        threshold=threshold,
        left=np.where(is_leaf, _NOBODY, children[0]),
        right=np.where(is_leaf, _NOBODY, children[1]),
        missing_left=missing_left != 0,
        value=_leaf_values(said, place, is_leaf),
        roots=_roots(tree, [side[~is_leaf] for side in children]),
    )


def _require_plain(said: Mapping[str, Attribute]) -> None:
    if unknown := sorted(said.keys() - _KNOWN):
        raise PartsUnclear(f"its trees have {unknown[0]}")
    plain = {"n_targets": 1, "post_transform": b"NONE", "aggregate_function": b"SUM"}
    if any(said.get(name, value) != value for name, value in plain.items()):
        raise PartsUnclear("its trees do not just add up")


def _leaves(modes: Attribute | None) -> Flags:
    if not isinstance(modes, list) or not all(mode in (b"LEAF", b"BRANCH_LEQ") for mode in modes):
        raise PartsUnclear("its trees branch in another way than at most a threshold")
    return np.array([mode == b"LEAF" for mode in modes], dtype=np.bool_)


def _found(place: Mapping[tuple[int, int], int], trees: Places, nodes: Places) -> Places:
    """Where the nodes of some trees are; -1 for one that is not."""
    keys = zip(trees.tolist(), nodes.tolist(), strict=True)
    return np.array([place.get(key, _NOBODY) for key in keys], dtype=np.intp)


def _leaf_values(
    said: Mapping[str, Attribute], place: Mapping[tuple[int, int], int], is_leaf: Flags
) -> Floats:
    trees, nodes = _places(said.get("target_treeids")), _places(said.get("target_nodeids"))
    weights = said.get("target_weights")
    if not isinstance(weights, np.ndarray) or _places(said.get("target_ids")).any():
        raise PartsUnclear("its trees have other outputs than the margin")
    if not len(trees) == len(nodes) == len(weights):
        raise PartsUnclear("its trees are not whole")
    found = _found(place, trees, nodes)
    if not np.array_equal(np.sort(found), np.flatnonzero(is_leaf)):
        raise PartsUnclear("a leaf of its trees has no value, or several")
    values = np.zeros(len(is_leaf))
    values[found] = weights
    return values


def _roots(tree: Places, children: Sequence[Places]) -> Places:
    """The first node of each tree, which must be nobody's child, as all others are of one."""
    below = np.concatenate(children)
    firsts = np.flatnonzero(np.diff(tree, prepend=tree[0] - 1))
    others = np.setdiff1d(np.arange(len(tree)), firsts)
    if len(np.unique(tree)) != len(firsts) or not np.array_equal(np.sort(below), others):
        raise PartsUnclear("its nodes do not form trees")
    return firsts


def _attribute(attribute: bytes) -> tuple[str, Attribute]:
    """An attribute's name and value, of the kinds that trees have."""
    held: dict[int, list[int | bytes]] = {}
    for number, value, _ in _fields(attribute):
        held.setdefault(number, []).append(value)
    name = _message(held.get(_ATTRIBUTE_NAME, [b""])[0]).decode(errors="replace")
    if _ATTRIBUTE_FLOATS in held:
        joined = b"".join(map(_message, held[_ATTRIBUTE_FLOATS]))
        return name, np.frombuffer(joined, dtype="<f4").astype(np.float32)
    if _ATTRIBUTE_INTS in held:
        listed = held[_ATTRIBUTE_INTS]
        return name, [
            each for value in listed for each in ([value] if isinstance(value, int) else _packed(value))
        ]
    if _ATTRIBUTE_TEXTS in held:
        return name, [_message(value) for value in held[_ATTRIBUTE_TEXTS]]
    if _ATTRIBUTE_TEXT in held:
        return name, _message(held[_ATTRIBUTE_TEXT][0])
    (value,) = held.get(_ATTRIBUTE_INT, [0])
    return name, value


def _places(value: Attribute | None) -> Places:
    if not isinstance(value, list) or not all(isinstance(each, int) and each < 1 << 31 for each in value):
        raise PartsUnclear("its trees are not whole")
    return np.array(value, dtype=np.intp)


def _only(found: Sequence[bytes | int], what: str) -> bytes:
    if len(found) != 1:
        raise PartsUnclear(f"it has no {what}, or several")
    return _message(found[0])


def _first(message: bytes | int, wanted: int) -> bytes | int | None:
    return next((value for number, value, _ in _fields(_message(message)) if number == wanted), None)


def _message(value: bytes | int) -> bytes:
    if isinstance(value, int):
        raise PartsUnclear("its bytes are not those of an ONNX model")
    return value


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes, bytes]]:
    """Number, value and all bytes of each field; fixed-width values are bytes."""
    place, end = 0, len(message)
    while place < end:
        start = place
        key, place = _varint(message, place)
        kind = key & 7
        if kind == _VARINT:
            number, place = _varint(message, place)
            yield key >> 3, number, message[start:place]
            continue
        if kind == _BYTES:
            size, place = _varint(message, place)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise PartsUnclear("its bytes are not those of an ONNX model")
        value = message[place : place + size]
        if len(value) != size:
            raise PartsUnclear("its bytes end too early")
        place += size
        yield key >> 3, value, message[start:place]


def _packed(content: bytes) -> list[int]:
    numbers, place = [], 0
    while place < len(content):
        number, place = _varint(content, place)
        numbers.append(number)
    return numbers


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        if place >= len(message):
            raise PartsUnclear("its bytes end too early")
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            return value, place
        shift += 7


def _field(number: int, content: bytes) -> bytes:
    """A field of bytes, as protobuf writes it."""
    return _number(number << 3 | _BYTES) + _number(len(content)) + content


def _number(value: int) -> bytes:
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
