"""What an ONNX file would make the runtime do, read from its bytes before the runtime sees it.

The runtime itself follows external data to any path, runs every operator it was built with, and makes arrays
as large as a model asks for. A model of ours is trees and a few steps from margin to probability, so all else
is refused here. Only the few fields of `onnx.proto` that decide this are read, in protobuf's wire format.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

ALLOWED_OPSETS: Final = {"": range(9, 29), "ai.onnx": range(9, 29), "ai.onnx.ml": range(1, 6)}
"""Operator sets and versions a model may import."""

_ARITHMETIC: Final = {
    "Abs",
    "Add",
    "Ceil",
    "Div",
    "Exp",
    "Floor",
    "Log",
    "Mul",
    "Neg",
    "Sigmoid",
    "Sub",
    "Tanh",
}
_CHOICE: Final = {
    "And",
    "Clip",
    "Equal",
    "Gather",
    "Greater",
    "GreaterOrEqual",
    "IsNaN",
    "Less",
    "LessOrEqual",
}
_SUMMARY: Final = {"Max", "Min", "Not", "Or", "ReduceMax", "ReduceMin", "ReduceSum", "Relu", "Where"}
_STEPS: Final = frozenset({"Cast", "Constant", "Identity", *_ARITHMETIC, *_CHOICE, *_SUMMARY})
ALLOWED_OPERATORS: Final = {
    "": _STEPS,
    "ai.onnx": _STEPS,
    "ai.onnx.ml": frozenset({"TreeEnsembleRegressor", "TreeEnsemble"}),
}
"""Trees, and what makes one number a row of another: nothing that repeats, draws, or grows by itself."""
MAX_MODEL_BYTES: Final = 64 * 1024 * 1024
"""A thousand trees of 255 leaves take half of it."""
MAX_FIELDS: Final = 10_000_000
"""Fields that are read before giving up: twice those of a thousand trees of 255 leaves; some seconds."""
MAX_NODES: Final = 256
MAX_CONSTANT_VALUES: Final = 16_384
"""Values of one constant: knots of a calibration are at most 10,000."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MODEL_GRAPH, _MODEL_OPSET, _MODEL_FUNCTIONS = 7, 8, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_OPERATOR, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 5, 6, 10, 11
_ATTRIBUTE_SPARSE = 22
_TENSOR_DIMENSIONS, _TENSOR_EXTERNAL_DATA, _TENSOR_LOCATION = 1, 13, 14
_LONGEST_NAME: Final = 80


class FormatRefused(Exception):
    """The bytes are no ONNX model, or one that asks for what is not allowed."""


def check_model(content: bytes) -> None:
    """Raises FormatRefused unless the model is self-contained, small, and of allowed operators only."""
    if len(content) > MAX_MODEL_BYTES:
        raise FormatRefused(f"it has {len(content)} bytes; at most {MAX_MODEL_BYTES} are loaded")
    _Check().model(content)


class _Check:
    """One reading of one model, which counts what it reads."""

    def __init__(self) -> None:
        self._fields_left = MAX_FIELDS
        self._nodes_left = MAX_NODES

    def model(self, content: bytes) -> None:
        graphs = 0
        for number, value in self._fields(content):
            if number == _MODEL_OPSET:
                self._opset(_message(value))
            elif number == _MODEL_FUNCTIONS:
                raise FormatRefused("it defines functions of its own")
            elif number == _MODEL_GRAPH:
                graphs += 1
                self._graph(_message(value))
        if graphs != 1:
            raise FormatRefused("it holds no graph, or several, so it is not an ONNX model")

    def _opset(self, opset: bytes) -> None:
        domain, version = "", 0
        for number, value in self._fields(opset):
            if number == 1:
                domain = _text(value)
            elif number == 2 and isinstance(value, int):
                version = value
        allowed = ALLOWED_OPSETS.get(domain)
        if allowed is None:
            raise FormatRefused(f"it imports the custom operator domain {domain!r}")
        if version not in allowed:
            name = domain or "ai.onnx"
            raise FormatRefused(
                f"it needs operator set {name} {version}; {allowed.start} to {allowed.stop - 1} are known"
            )

    def _graph(self, graph: bytes) -> None:
        for number, value in self._fields(graph):
            if number == _GRAPH_NODE:
                self._node(_message(value))
            elif number == _GRAPH_INITIALIZER:
                self._tensor(_message(value))
            elif number == _GRAPH_SPARSE:
                raise FormatRefused("it holds sparse tensors, which no tree model needs")

    def _node(self, node: bytes) -> None:
        self._nodes_left -= 1
        if self._nodes_left < 0:
            raise FormatRefused(f"it has more than {MAX_NODES} nodes, where a tree model has a dozen")
        operator, domain = "", ""
        for number, value in self._fields(node):
            if number == _NODE_OPERATOR:
                operator = _text(value)
            elif number == _NODE_DOMAIN:
                domain = _text(value)
            elif number == _NODE_ATTRIBUTE:
                self._attribute(_message(value))
        allowed = ALLOWED_OPERATORS.get(domain)
        if allowed is None:
            raise FormatRefused(f"a node is of the custom operator domain {domain!r}")
        if operator not in allowed:
            raise FormatRefused(f"it uses the operator {operator!r}, which no tree model needs")

    def _attribute(self, attribute: bytes) -> None:
        for number, value in self._fields(attribute):
            if number in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
                self._tensor(_message(value))
            elif number in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
                raise FormatRefused(
                    "it holds a graph within a graph (loops, branches), which no tree model needs"
                )
            elif number == _ATTRIBUTE_SPARSE:
                raise FormatRefused("it holds sparse tensors, which no tree model needs")

    def _tensor(self, tensor: bytes) -> None:
        """One number, or one list: lists of different lengths do not multiply each other, tables would."""
        dimensions: list[int] = []
        for number, value in self._fields(tensor):
            if number == _TENSOR_EXTERNAL_DATA or (number == _TENSOR_LOCATION and value != 0):
                raise FormatRefused("it keeps data in another file; export it as one file")
            if number == _TENSOR_DIMENSIONS:
                dimensions.extend([value] if isinstance(value, int) else _packed(value))
        if len(dimensions) > 1:
            raise FormatRefused(f"it holds a constant of shape {dimensions[:4]}, not a number or a list")
        if dimensions and dimensions[0] > MAX_CONSTANT_VALUES:
            raise FormatRefused(
                f"it holds a constant of {dimensions[0]} values; at most {MAX_CONSTANT_VALUES} are allowed"
            )

    def _fields(self, message: bytes) -> Iterator[tuple[int, int | bytes]]:
        """Number and value of each field, fixed-width ones as bytes. Raises FormatRefused where cut short."""
        place, end = 0, len(message)
        while place < end:
            self._fields_left -= 1
            if self._fields_left < 0:
                raise FormatRefused(f"it has more than {MAX_FIELDS} fields")
            key, place = _varint(message, place)
            number, wire_type = key >> 3, key & 7
            if wire_type == _VARINT:
                number_value, place = _varint(message, place)
                yield number, number_value
                continue
            if wire_type == _BYTES:
                size, place = _varint(message, place)
            elif wire_type in (_FIXED32, _FIXED64):
                size = 4 if wire_type == _FIXED32 else 8
            else:
                raise FormatRefused("its bytes are not those of an ONNX model")
            if place + size > end:
                raise FormatRefused("its bytes end too early")
            yield number, message[place : place + size]
            place += size


def _message(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise FormatRefused("its bytes are not those of an ONNX model")
    return value


def _text(value: int | bytes) -> str:
    return _message(value).decode(errors="replace")[:_LONGEST_NAME]


def _packed(content: bytes) -> list[int]:
    """Numbers written one after the other, as newer writers do."""
    numbers, place = [], 0
    while place < len(content):
        number, place = _varint(content, place)
        numbers.append(number)
    return numbers


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        if place >= len(message) or shift > 63:
            raise FormatRefused("its bytes end too early")
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            return value, place
        shift += 7
