"""Values typed at a command line: instants, identities, and facts of the context."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import typer

from engine._pb.arbiter.v1 import types_pb2

_FACT = re.compile(r"(?P<name>[^:=]+)(:(?P<type>[^=]*))?=(?P<text>.*)", re.DOTALL)
_LOOKS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("bool", re.compile(r"true|false")),
    ("int", re.compile(r"-?\d+")),
    ("double", re.compile(r"-?\d+\.\d+([eE][+-]?\d+)?")),
    ("timestamp", re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d.*)?")),
)

_TEXTS, _MAP = "list<string>", "map<string,double>"
_NUMBERS = {int, float}


def context(facts: Iterable[str]) -> dict[str, types_pb2.ContextValue]:
    """Facts of the form NAME=VALUE, typed by how the value looks, or NAME:TYPE=VALUE."""
    values: dict[str, types_pb2.ContextValue] = {}
    for fact in facts:
        found = _FACT.fullmatch(fact)
        if found is None:
            raise typer.BadParameter(f"--context {fact!r} is neither NAME=VALUE nor NAME:TYPE=VALUE")
        name, kind, text = found["name"], found["type"], found["text"]
        if name in values:
            raise typer.BadParameter(f"--context names {name} twice")
        values[name] = _typed(fact, _look(text) if kind is None else kind, text)
    return values


def listed(text: str) -> list[Any] | dict[str, Any] | None:
    """A list or map as JSON has it; None where the text is none."""
    try:
        found = json.loads(text) if text[:1] in ("[", "{") else None
    except ValueError:
        return None
    return found if isinstance(found, (list, dict)) else None


def _look(text: str) -> str:
    found = listed(text)
    if isinstance(found, dict):
        return _MAP
    if found is not None:
        kinds = {type(element) for element in found}
        return "list<int>" if kinds == {int} else "list<double>" if kinds <= _NUMBERS and kinds else _TEXTS
    return next((kind for kind, pattern in _LOOKS if pattern.fullmatch(text)), "string")


def _typed(fact: str, kind: str, text: str) -> types_pb2.ContextValue:
    if kind not in _TYPES:
        raise typer.BadParameter(f"--context {fact!r}: {kind!r} is none of {', '.join(_TYPES)}")
    try:
        return _TYPES[kind](text)
    except (KeyError, TypeError, ValueError) as error:
        raise typer.BadParameter(f"--context {fact!r}: {text!r} is no {kind}") from error


def _held(text: str, kind: type[list[Any]] | type[dict[str, Any]], *elements: type) -> Any:  # noqa: ANN401  # elements of the types given
    """A list or map of elements of some types. Raises ValueError."""
    found = listed(text)
    values = found.values() if isinstance(found, dict) else found or ()
    if not isinstance(found, kind) or any(type(value) not in elements for value in values):
        raise ValueError(text)
    return found


def _list_of_text(text: str) -> types_pb2.ContextValue:
    return types_pb2.ContextValue(string_list=types_pb2.StringList(values=_held(text, list, str)))


def _list_of_int(text: str) -> types_pb2.ContextValue:
    return types_pb2.ContextValue(int_list=types_pb2.IntList(values=_held(text, list, int)))


def _list_of_double(text: str) -> types_pb2.ContextValue:
    return types_pb2.ContextValue(double_list=types_pb2.DoubleList(values=_held(text, list, *_NUMBERS)))


def _map_of_double(text: str) -> types_pb2.ContextValue:
    return types_pb2.ContextValue(double_map=types_pb2.DoubleMap(values=_held(text, dict, *_NUMBERS)))


def _timestamp(text: str) -> types_pb2.ContextValue:
    value = types_pb2.ContextValue()
    value.timestamp_value.FromDatetime(instant(text))
    return value


_TYPES: Mapping[str, Callable[[str], types_pb2.ContextValue]] = {
    "bool": lambda text: types_pb2.ContextValue(bool_value={"true": True, "false": False}[text]),
    "int": lambda text: types_pb2.ContextValue(int_value=int(text)),
    "double": lambda text: types_pb2.ContextValue(double_value=float(text)),
    "string": lambda text: types_pb2.ContextValue(string_value=text),
    "timestamp": _timestamp,
    _TEXTS: _list_of_text,
    "list<int>": _list_of_int,
    "list<double>": _list_of_double,
    _MAP: _map_of_double,
}


def instant(text: str) -> datetime:
    """An ISO 8601 date or instant; UTC where it names no zone. Raises ValueError."""
    parsed = datetime.fromisoformat(text)
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed


def instant_option(text: str) -> datetime:
    """An instant given as an option. Ends the command where it is none."""
    try:
        return instant(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no date or instant such as 2027-01-31T08:00Z") from error


def instant_ms(text: str | None) -> int | None:
    """An instant given as an option, in ms; None where it is not given. Ends the command where it is none."""
    return None if text is None else round(instant_option(text).timestamp() * 1000)


def identity(text: str) -> types_pb2.Identity:
    """An identity of the form TYPE=VALUE."""
    kind, equals, value = text.partition("=")
    if not (kind and equals and value):
        raise typer.BadParameter(f"--identity {text!r} is not TYPE=VALUE, such as phone=+41790000001")
    return types_pb2.Identity(type=kind, value=value)
