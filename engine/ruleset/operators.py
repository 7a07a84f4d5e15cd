"""Which operations of CEL the back ends know, by function and operand kinds.

What is not here is refused with a diagnostic; nothing is run that only looks like CEL.
"""

from __future__ import annotations

from typing import Final

from engine.ruleset.expression import Operator
from engine.ruleset.kinds import ELEMENT_OF, VALUE_OF, Kind

_B, _I, _D, _S, _T, _L, _O = (
    Kind.BOOL, Kind.INT, Kind.DOUBLE, Kind.STRING, Kind.TIMESTAMP, Kind.DURATION, Kind.OPAQUE,
)  # fmt: skip
Signature = tuple[str, tuple[Kind, ...]]

SIGNS: Final = {"_==_": "==", "_!=_": "!=", "_<_": "<", "_<=_": "<=", "_>_": ">", "_>=_": ">="}
EQUALITIES: Final = frozenset({"==", "!="})


def _comparison(sign: str, kind: Kind) -> Operator:
    python = f"{{0}} {sign} {{1}}"
    vectorised = kind in (_I, _D) or (kind is _B and sign in EQUALITIES)
    return Operator(sign, _B, python, array=python if vectorised else "")


def _comparisons() -> dict[Signature, Operator]:
    return {
        (function, (kind, kind)): _comparison(sign, kind)
        for function, sign in SIGNS.items()
        for kind in (_B, _I, _D, _S, _T, _L)
    }


_ARITHMETIC: Final[dict[Signature, Operator]] = {
    ("_+_", (_I, _I)): Operator("add_int", _I, "{0} + {1}", "int64({0} + {1})"),
    ("_-_", (_I, _I)): Operator("subtract_int", _I, "{0} - {1}", "int64({0} - {1})"),
    ("_*_", (_I, _I)): Operator("multiply_int", _I, "{0} * {1}", "int64({0} * {1})"),
    ("-_", (_I,)): Operator("negate_int", _I, "-{0}", "int64(-{0})"),
    ("_/_", (_I, _I)): Operator("divide_int", _I, "divide_int({0}, {1})", "divide_int({0}, {1})"),
    ("_%_", (_I, _I)): Operator("remainder_int", _I, "remainder_int({0}, {1})", "remainder_int({0}, {1})"),
    ("_+_", (_D, _D)): Operator("add_double", _D, "{0} + {1}", array="{0} + {1}"),
    ("_-_", (_D, _D)): Operator("subtract_double", _D, "{0} - {1}", array="{0} - {1}"),
    ("_*_", (_D, _D)): Operator("multiply_double", _D, "{0} * {1}", array="{0} * {1}"),
    ("_/_", (_D, _D)): Operator("divide_double", _D, "divide_double({0}, {1})", array="{0} / {1}"),
    ("-_", (_D,)): Operator("negate_double", _D, "-{0}", array="-{0}"),
    ("_-_", (_T, _T)): Operator("elapsed", _L, "span({0} - {1})", "span({0} - {1})"),
    ("_+_", (_L, _L)): Operator("add_span", _L, "span({0} + {1})", "span({0} + {1})"),
    ("_-_", (_L, _L)): Operator("subtract_span", _L, "span({0} - {1})", "span({0} - {1})"),
    ("_-_", (_T, _L)): Operator("earlier", _T, "shift({0}, -{1})", "shift({0}, -{1})"),
    ("_+_", (_T, _L)): Operator("later", _T, "shift({0}, {1})", "shift({0}, {1})"),
    ("_+_", (_L, _T)): Operator("later", _T, "shift({1}, {0})", "shift({1}, {0})"),
}

_TEXT: Final[dict[Signature, Operator]] = {
    ("_+_", (_S, _S)): Operator("concat", _S, "{0} + {1}"),
    ("startsWith", (_S, _S)): Operator("starts_with", _B, "{0}.startswith({1})"),
    ("endsWith", (_S, _S)): Operator("ends_with", _B, "{0}.endswith({1})"),
    ("contains", (_S, _S)): Operator("contains", _B, "{1} in {0}"),
    ("matches", (_S, _O)): Operator("matches", _B, "search({1}, {0})", "search({1}, {0})"),
    ("size", (_S,)): Operator("size", _I, "len({0})"),
    ("lowerAscii", (_S,)): Operator("lower_ascii", _S, "lower_ascii({0})"),
    ("upperAscii", (_S,)): Operator("upper_ascii", _S, "upper_ascii({0})"),
    ("trim", (_S,)): Operator("trim", _S, "trim({0})"),
    ("split", (_S, _S)): Operator("split", Kind.LIST, "split({0}, {1})"),
    ("replace", (_S, _S, _S)): Operator("replace", _S, "replaced({0}, {1}, {2})", "replaced({0}, {1}, {2})"),
    ("join", (Kind.LIST,)): Operator("join", _S, "joined({0}, '')", "joined({0}, '')"),
    ("join", (Kind.LIST, _S)): Operator("join", _S, "joined({0}, {1})", "joined({0}, {1})"),
    ("indexOf", (_S, _S)): Operator("index_of", _I, "{0}.find({1})"),
    ("lastIndexOf", (_S, _S)): Operator("last_index_of", _I, "{0}.rfind({1})"),
    # Not with an end: the reference fails for one that is the length of the text.
    ("substring", (_S, _I)): Operator("rest_of", _S, "rest_of({0}, {1})", "rest_of({0}, {1})"),
}


def _of_lists(held: Kind, element: Kind) -> dict[Signature, Operator]:
    together = "together({0}, {1})"
    return {
        ("size", (held,)): Operator("size", _I, "len({0})"),
        ("_[_]", (held, _I)): Operator("element", element, "element({0}, {1})", "element({0}, {1})"),
        ("_==_", (held, held)): Operator("==", _B, "same({0}, {1})"),
        ("_!=_", (held, held)): Operator("!=", _B, "not same({0}, {1})"),
        ("_+_", (held, held)): Operator("join_lists", held, together, together),
    }


def _of_maps(held: Kind, value: Kind) -> dict[Signature, Operator]:
    return {
        ("size", (held,)): Operator("size", _I, "len({0})"),
        ("_[_]", (held, _S)): Operator("value", value, "value_at({0}, {1})", "value_at({0}, {1})"),
    }


def _collections() -> dict[Signature, Operator]:
    operators: dict[Signature, Operator] = {}
    for held, element in ELEMENT_OF.items():
        operators |= _of_lists(held, element)
    for held, value in VALUE_OF.items():
        operators |= _of_maps(held, value)
    return operators


_CONVERSIONS: Final[dict[Signature, Operator]] = {
    ("int", (_D,)): Operator("int_of_double", _I, "int_of_double({0})", "int_of_double({0})"),
    ("int", (_S,)): Operator("int_of_text", _I, "int_of_text({0})", "int_of_text({0})"),
    ("double", (_I,)): Operator("double_of_int", _D, "float({0})"),
    ("int", (_T,)): Operator("seconds_of_instant", _I, "{0} // 1000"),
    ("timestamp", (_I,)): Operator("instant_of_seconds", _T, "shift(0, {0} * 1000)", "shift(0, {0} * 1000)"),
    ("string", (_T,)): Operator("text_of_instant", _S, "text_of_instant({0})"),
    ("string", (_L,)): Operator("text_of_span", _S, "text_of_span({0})"),
    ("string", (_I,)): Operator("string_of_int", _S, "str({0})"),
    ("string", (_B,)): Operator("string_of_bool", _S, "('true' if {0} else 'false')"),
}

SAME: Final = frozenset(
    {
        ("int", (_I,)),
        ("double", (_D,)),
        ("string", (_S,)),
        ("bool", (_B,)),
        ("timestamp", (_T,)),
        ("duration", (_L,)),
    }
)
"""Conversions that change nothing."""

_UTC_CLOCK: Final = {
    "getHours": "{0} // 3600000 % 24",
    "getMinutes": "{0} // 60000 % 60",
    "getSeconds": "{0} // 1000 % 60",
    "getMilliseconds": "{0} % 1000",
    "getDayOfWeek": "({0} // 86400000 + 4) % 7",
}
_ZONED: Final = {
    "getFullYear": "full_year",
    "getMonth": "month",
    "getDate": "date",
    "getDayOfMonth": "day_of_month",
    "getDayOfYear": "day_of_year",
    "getDayOfWeek": "day_of_week",
    "getHours": "hours",
    "getMinutes": "minutes",
}
_OF_DURATION: Final = {
    "getHours": "truncated({0}, 3600000)",
    "getMinutes": "truncated({0}, 60000)",
    "getSeconds": "truncated({0}, 1000)",
    "getMilliseconds": "duration_milliseconds({0})",
}


def _accessors() -> dict[Signature, Operator]:
    zoned: dict[Signature, Operator] = {
        (function, (_T, _O)): Operator(function, _I, f"{name}({{0}}, {{1}})", f"{name}({{0}}, {{1}})")
        for function, name in _ZONED.items()
    }
    utc: dict[Signature, Operator] = {
        (function, (_T,)): Operator(function, _I, text) for function, text in _UTC_CLOCK.items()
    }
    durations: dict[Signature, Operator] = {
        (function, (_L,)): Operator(function, _I, text) for function, text in _OF_DURATION.items()
    }
    return {**zoned, **utc, **durations}


OPERATORS: Final[dict[Signature, Operator]] = {
    **_comparisons(), **_ARITHMETIC, **_TEXT, **_CONVERSIONS, **_accessors(), **_collections(),
}  # fmt: skip
TIME_ACCESSORS: Final = frozenset(_ZONED) | frozenset(_UTC_CLOCK)
