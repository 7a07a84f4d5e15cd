"""Whether an event satisfies the conditions of a pattern. Typed: nothing is converted but int to double."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from engine.ruleset.signal_documents import AttributeType
from engine.signals.patterns import Comparison, Event, EventPattern, Value

_Test = Callable[[Any, Any, int], bool]
OPERATIONS: Final[Mapping[str, _Test]] = {
    "equals": lambda value, operand, _: value == operand,
    "differs": lambda value, operand, _: value != operand,
    "one_of": lambda value, operand, _: value in operand,
    "below": lambda value, operand, _: value < operand,
    "at_most": lambda value, operand, _: value <= operand,
    "above": lambda value, operand, _: value > operand,
    "at_least": lambda value, operand, _: value >= operand,
    "within_next": lambda value, operand, now_ms: now_ms <= value < now_ms + operand,
}
"""Each takes the value, the operand (a duration in ms for `within_next`) and now."""


def typed(value: object, kind: AttributeType) -> Value | None:
    """The value if it is of the type; None for another type, NaN and infinity."""
    match kind:
        case AttributeType.BOOL:
            return value if isinstance(value, bool) else None
        case AttributeType.STRING:
            return value if isinstance(value, str) else None
        case AttributeType.INT | AttributeType.TIMESTAMP:
            return value if isinstance(value, int) and not isinstance(value, bool) else None
        case AttributeType.DOUBLE:
            return _double(value)


def _double(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def fits(event: Event, pattern: EventPattern, now_ms: int) -> bool:
    """Whether the event is of the type and every comparison holds; none holds of what is missing."""
    return event.type == pattern.type and all(_holds(event, wanted, now_ms) for wanted in pattern.where)


def _holds(event: Event, wanted: Comparison, now_ms: int) -> bool:
    value = typed(event.attributes.get(wanted.attribute), wanted.type)
    return value is not None and OPERATIONS[wanted.operation](value, wanted.operand, now_ms)
