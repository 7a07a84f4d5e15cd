"""What an ONNX file would make the runtime do, read from its bytes before the runtime sees it.

The runtime itself follows external data to any path and accepts every operator set it was built with.
A model of ours needs neither, so both are refused here. Only the few fields of `onnx.proto` that decide
this are read, in protobuf's wire format.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

ALLOWED_OPSETS: Final = {"": range(9, 29), "ai.onnx": range(9, 29), "ai.onnx.ml": range(1, 6)}
"""Operator sets and versions a model may import."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MODEL_GRAPH, _MODEL_OPSET, _MODEL_FUNCTIONS = 7, 8, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_ATTRIBUTE, _NODE_DOMAIN = 5, 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 5, 6, 10, 11
_TENSOR_EXTERNAL_DATA, _TENSOR_LOCATION = 13, 14


class FormatRefused(Exception):
    """The bytes are no ONNX model, or one that asks for what is not allowed."""


def check_model(content: bytes) -> None:
    """Raises FormatRefused unless the model is self-contained and uses allowed operator sets only."""
    graphs = 0
    for number, value in _fields(content):
        if number == _MODEL_OPSET:
            _check_opset(_message(value))
        elif number == _MODEL_FUNCTIONS:
            raise FormatRefused("it defines functions of its own")
        elif number == _MODEL_GRAPH:
            graphs += 1
            _check_graph(_message(value))
    if graphs != 1:
        raise FormatRefused("it holds no graph, so it is not an ONNX model")


def _check_opset(opset: bytes) -> None:
    domain, version = "", 0
    for number, value in _fields(opset):
        if number == 1:
            domain = _message(value).decode(errors="replace")
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


def _check_graph(graph: bytes) -> None:
    for number, value in _fields(graph):
        if number == _GRAPH_NODE:
            _check_node(_message(value))
        elif number == _GRAPH_INITIALIZER:
            _check_tensor(_message(value))
        elif number == _GRAPH_SPARSE:
            raise FormatRefused("it holds sparse tensors, which no tree model needs")


def _check_node(node: bytes) -> None:
    for number, value in _fields(node):
        if number == _NODE_DOMAIN and _message(value).decode(errors="replace") not in ALLOWED_OPSETS:
            raise FormatRefused(f"a node is of the custom operator domain {_message(value)!r}")
        if number == _NODE_ATTRIBUTE:
            _check_attribute(_message(value))


def _check_attribute(attribute: bytes) -> None:
    for number, value in _fields(attribute):
        if number in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
            _check_tensor(_message(value))
        elif number in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
            raise FormatRefused(
                "it holds a graph within a graph (loops, branches), which no tree model needs"
            )


def _check_tensor(tensor: bytes) -> None:
    for number, value in _fields(tensor):
        if number == _TENSOR_EXTERNAL_DATA or (number == _TENSOR_LOCATION and value != 0):
            raise FormatRefused("it keeps data in another file; export it as one file")


def _message(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise FormatRefused("its bytes are not those of an ONNX model")
    return value


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field; fixed-width values as bytes. Raises FormatRefused where cut short."""
    place, end = 0, len(message)
    while place < end:
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
