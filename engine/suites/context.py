"""Facts of the moment as they stand in a suite or are typed at a prompt, as their declared type has them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from pydantic import TypeAdapter, ValidationError

from engine.core.rulebook import ContextField, InputType
from engine.domain import ContextScalar, ContextValue
from engine.ruleset.diagnostics import did_you_mean
from engine.suites.documents import Moment
from engine.suites.wrong import FactWrong

MAX_ELEMENTS: Final = 256
"""Elements of a list or map, as in a request."""
_MOMENT: TypeAdapter[int] = TypeAdapter(Moment)
_TYPES: Final[Mapping[InputType, type]] = {
    InputType.BOOL: bool, InputType.INT: int, InputType.DOUBLE: float, InputType.STRING: str,
}  # fmt: skip
_ELEMENTS: Final = {
    InputType.STRING_LIST: InputType.STRING,
    InputType.INT_LIST: InputType.INT,
    InputType.DOUBLE_LIST: InputType.DOUBLE,
}
_EXAMPLES: Final = {
    InputType.STRING_LIST: "[home, cancel]",
    InputType.INT_LIST: "[1, 2]",
    InputType.DOUBLE_LIST: "[1.0, 2.5]",
    InputType.DOUBLE_MAP: "{internet: 2.5}",
}


def context_value(declared: ContextField, value: object) -> ContextValue:
    """A value as a request would bring it. Raises FactWrong, of an element with its place."""
    if declared.type in _ELEMENTS:
        if not isinstance(value, (list, tuple)):
            raise _not_of_type(declared.type, value)
        _check_size(value)
        kind = _ELEMENTS[declared.type]
        return tuple(_scalar(declared, kind, element, (i,)) for i, element in enumerate(value))
    if declared.type is InputType.DOUBLE_MAP:
        if not isinstance(value, dict):
            raise _not_of_type(declared.type, value)
        _check_size(value)
        return {str(key): _number(declared, held, (key,)) for key, held in value.items()}
    return _scalar(declared, declared.type, value, ())


def instant_value(value: object) -> int:
    """An instant in milliseconds. Raises FactWrong."""
    try:
        return _MOMENT.validate_python(value)
    except ValidationError as error:
        raise FactWrong(error.errors()[0]["msg"]) from None


def _number(declared: ContextField, value: object, at: tuple[str | int, ...]) -> float:
    found = _scalar(declared, InputType.DOUBLE, value, at)
    assert isinstance(found, float)  # as its type says
    return found


def _scalar(
    declared: ContextField, kind: InputType, value: object, at: tuple[str | int, ...]
) -> ContextScalar:
    if kind is InputType.TIMESTAMP:
        return instant_value(value)
    if kind is InputType.DOUBLE and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not _TYPES[kind] or (isinstance(value, float) and not math.isfinite(value)):
        raise _not_of_type(kind, value, at)
    if declared.values and value not in declared.values:
        advice = did_you_mean(str(value), declared.values)
        raise FactWrong(f"`{declared.name}` is never `{value}`", advice, at)
    return value  # type: ignore[return-value]  # one of the four types


def _check_size(held: object) -> None:
    if isinstance(held, (list, tuple, dict)) and len(held) > MAX_ELEMENTS:
        raise FactWrong(f"a list or map has at most {MAX_ELEMENTS} elements, this one has {len(held)}")


def _not_of_type(kind: InputType, value: object, at: tuple[str | int, ...] = ()) -> FactWrong:
    advice = f"write e.g. {_EXAMPLES[kind]}" if kind in _EXAMPLES else ""
    return FactWrong(f"{shown(value)} is not of type {kind.value}", advice, at)


def shown(value: object) -> str:
    """A value in a sentence."""
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, dict):
        return "a map"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"
