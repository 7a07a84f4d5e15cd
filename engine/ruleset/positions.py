"""Places inside a scalar: from an offset in its value to the line and column it is written at.

A condition is text inside YAML, so a mistake at its 12th character may stand after an escape, on a
folded line or inside a block. This walks source and value side by side.
"""

from __future__ import annotations

from typing import Final

from engine.ruleset.yamltree import Scalar

_ESCAPE_LENGTHS: Final = {"x": 4, "u": 6, "U": 10}


def locate(text: str, scalar: Scalar, value: str, offset: int) -> tuple[int, int]:
    """Line and column, from 1, in the file of `value[offset]`; the end for an offset behind it."""
    at = _content_start(text, scalar)
    for character in value[:offset]:
        at = _next_place(text, at, scalar, character)
    if offset < len(value):
        at = _align(text, at, scalar, value[offset])
    return _line_and_column(text, min(at, len(text)))


def offset_of(value: str, line: int, column: int) -> int:
    """Offset in a value of its own line and column, both from 1."""
    start = 0
    for _ in range(line - 1):
        start = value.find("\n", start) + 1
    return min(start + column - 1, len(value))


def _content_start(text: str, scalar: Scalar) -> int:
    if scalar.style in ("'", '"'):
        return scalar.start + 1
    if scalar.style in ("|", ">"):  # the text begins on the line after the sign
        return text.find("\n", scalar.start) + 1
    return scalar.start


def _align(text: str, at: int, scalar: Scalar, character: str) -> int:
    """The place where `character` is written, at or after `at`: skips indentation and folds."""
    if character in " \n":
        return at
    if scalar.style == '"' and text[at : at + 1] == "\\" and text[at + 1 : at + 2] not in "\r\n":
        return at
    while at < scalar.end and text[at] != character and text[at] in " \t\r\n\\":
        if text[at] == "\\" and (scalar.style != '"' or text[at + 1 : at + 2] not in "\r\n"):
            break
        at += 1
    return at


def _next_place(text: str, at: int, scalar: Scalar, character: str) -> int:
    """The place after `character` of the value."""
    at = _align(text, at, scalar, character)
    if scalar.style == '"' and text[at : at + 1] == "\\" and text[at + 1 : at + 2] not in "\r\n":
        return at + _ESCAPE_LENGTHS.get(text[at + 1 : at + 2], 2)
    if scalar.style == "'" and character == "'":
        return at + 2
    if character not in " \n" or text[at : at + 1] == character == " ":
        return at + 1
    while at < scalar.end and text[at] in " \t\r":  # blanks before a line break are folded away
        at += 1
    return at + 1


def _line_and_column(text: str, at: int) -> tuple[int, int]:
    return text.count("\n", 0, at) + 1, at - (text.rfind("\n", 0, at) + 1) + 1
