"""Checked CEL to the middle form, refusing with a place what the back ends do not know."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from cel.expr import checked_pb2, syntax_pb2

from engine.core.rulebook import Input
from engine.ruleset import diagnostics as codes
from engine.ruleset.diagnostics import did_you_mean
from engine.ruleset.expression import (
    COLUMNS,
    PROPENSITY,
    Apply,
    Bound,
    Choice,
    ColumnRead,
    InputRead,
    Junction,
    Kind,
    Literal,
    Member,
    Node,
    Not,
    Now,
    Present,
    PropensityRead,
)
from engine.ruleset.operators import EQUALITIES, OPERATORS, SAME, SIGNS, TIME_ACCESSORS
from engine.ruleset.patterns import PatternRefused, compile_pattern
from engine.ruleset.runtime import FIRST_MS, LAST_MS, zone_named

COLUMN_KINDS: Final = dict.fromkeys(COLUMNS, Kind.STRING) | {
    "value": Kind.DOUBLE, "cost": Kind.DOUBLE, "prior": Kind.DOUBLE, "weight": Kind.DOUBLE, "tags": Kind.LIST,
}  # fmt: skip
MAX_DURATION_MS: Final = 87_600_000 * 3_600_000
_DURATION_PART = re.compile(r"(\d{1,12})(?:\.(\d{1,12}))?(h|ms|m|s)")
_UNIT_MS: Final = {"h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_TIMESTAMP = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d{1,3})?(?:Z|[+-]\d{2}:\d{2})\Z")
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class Problem:
    """A mistake at an offset (in characters) of a condition."""

    offset: int
    code: str
    message: str
    advice: str = ""


class Refused(Exception):
    """The condition means something the back ends do not run."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


@dataclass(slots=True)
class Lowering:
    """Lowers one checked condition; `problems` are literals that no value can equal."""

    checked: checked_pb2.CheckedExpr
    inputs: Mapping[str, tuple[int, Input]]
    domains: Mapping[str, Sequence[str]]
    problems: list[Problem] = field(default_factory=list)

    def node(self, expr: syntax_pb2.Expr) -> Node:
        """The node of a CEL expression. Raises Refused."""
        match expr.WhichOneof("expr_kind"):
            case "const_expr":
                return self._constant(expr)
            case "ident_expr":
                return self._identifier(expr)
            case "select_expr":
                return self._selection(expr)
            case "call_expr":
                return self._call(expr)
            case "list_expr":
                advice = "write lists on the right of `in` only"
                raise self._refuse(expr, "a list is not a value here", advice)
            case "comprehension_expr":
                advice = 'use `in`, e.g. `"addon" in action.tags`, or write the cases out with && and ||'
                raise self._refuse(expr, "`exists`, `all`, `map` and `filter` are not supported", advice)
            case _:
                raise self._refuse(expr, "messages and maps are not supported", "compare single fields")

    def _refuse(
        self, expr: syntax_pb2.Expr, message: str, advice: str, code: str = codes.UNSUPPORTED
    ) -> Refused:
        return Refused(Problem(self._offset(expr), code, message, advice))

    def _offset(self, expr: syntax_pb2.Expr) -> int:
        return int(self.checked.source_info.positions.get(expr.id, 0))

    def _constant(self, expr: syntax_pb2.Expr) -> Node:
        constant = expr.const_expr
        match constant.WhichOneof("constant_kind"):
            case "bool_value":
                return Literal(constant.bool_value, Kind.BOOL)
            case "int64_value":
                return Literal(constant.int64_value, Kind.INT)
            case "double_value" if math.isfinite(constant.double_value):
                return Literal(constant.double_value, Kind.DOUBLE)
            case "string_value":
                return Literal(constant.string_value, Kind.STRING)
            case "null_value":
                raise self._refuse(
                    expr, "`null` is not a value", "ask `has(features.x)` or `!has(features.x)`"
                )
            case _:
                message = "unsigned and infinite numbers and bytes are not supported"
                raise self._refuse(expr, message, 'write 1, 1.0 or "text"')

    def _identifier(self, expr: syntax_pb2.Expr) -> Node:
        name = expr.ident_expr.name
        if name == "now":
            return Now()
        raise self._refuse(
            expr, f"`{name}` is not a value by itself", f"name one of its fields, e.g. `{name}.x`"
        )

    def _selection(self, expr: syntax_pb2.Expr) -> Node:
        select = expr.select_expr
        owner = select.operand.ident_expr.name
        if select.operand.WhichOneof("expr_kind") != "ident_expr" or owner == "now":
            raise self._refuse(
                expr, f"`.{select.field}` is not a field of an input", "name an input, e.g. features.x"
            )
        read = self._read(f"{owner}.{select.field}")
        if not select.test_only:
            return read
        if isinstance(read, (InputRead, PropensityRead)):
            return Present(read)
        raise self._refuse(
            expr, "has() of a field of `action`", 'it is always there; compare with "" instead'
        )

    def _read(self, name: str) -> InputRead | ColumnRead | PropensityRead:
        if name == PROPENSITY:
            return PropensityRead()
        if name in self.inputs:
            index, declared = self.inputs[name]
            return InputRead(index, name, Kind(declared.type.value))
        column = name.removeprefix("action.")
        return ColumnRead(column, COLUMN_KINDS[column])

    def _call(self, expr: syntax_pb2.Expr) -> Node:
        call = expr.call_expr
        arguments = ([call.target] if call.HasField("target") else []) + list(call.args)
        match call.function:
            case "_&&_" | "_||_":
                return self._junction(call.function, arguments)
            case "!_":
                return Not(self.node(arguments[0]))
            case "_?_:_":
                condition, then, otherwise = (self.node(a) for a in arguments)
                return Choice(condition, then, otherwise, then.kind)
            case "@in":
                return self._member(*arguments)
            case "duration" | "timestamp":
                return self._time_literal(call.function, arguments[0])
            case function:
                return self._apply(expr, function, arguments)

    def _junction(self, function: str, arguments: list[syntax_pb2.Expr]) -> Junction:
        every = function == "_&&_"
        terms: list[Node] = []
        for argument in arguments:
            term = self.node(argument)
            terms += term.terms if isinstance(term, Junction) and term.every == every else (term,)
        return Junction(every, tuple(terms))

    def _member(self, item: syntax_pb2.Expr, options: syntax_pb2.Expr) -> Member:
        needle = self.node(item)
        if options.WhichOneof("expr_kind") == "list_expr":
            elements = tuple(self.node(e) for e in options.list_expr.elements)
            if any(e.kind is not needle.kind or e.kind is Kind.LIST for e in elements):
                raise self._refuse(
                    options, "the list mixes types", "list values of one type, that of the left side"
                )
            for element, place in zip(elements, options.list_expr.elements, strict=True):
                self._check_literal(needle, element, place)
            return Member(needle, elements)
        column = self.node(options)
        if not isinstance(column, ColumnRead) or column.kind is not Kind.LIST:
            advice = 'write a list, e.g. ["a", "b"], or action.tags'
            raise self._refuse(options, "`in` needs a list", advice)
        self._check_literal(column, needle, item)
        return Member(needle, column)

    def _apply(self, expr: syntax_pb2.Expr, function: str, arguments: list[syntax_pb2.Expr]) -> Node:
        if function == "matches":
            return self._pattern_search(arguments)
        if function in TIME_ACCESSORS and len(arguments) == 2:
            nodes: tuple[Node, ...] = (self.node(arguments[0]), self._zone(arguments[1]))
        else:
            nodes = tuple(self.node(a) for a in arguments)
        signature = (function, tuple(n.kind for n in nodes))
        if signature in SAME:
            return nodes[0]
        operator = OPERATORS.get(signature)
        if operator is None and function in TIME_ACCESSORS and len(nodes) == 1:
            nodes = (*nodes, Bound(dt.UTC))
            operator = OPERATORS.get((function, tuple(n.kind for n in nodes)))
        if operator is None:
            raise self._refuse(expr, _unknown_operation(function, nodes), "say it with what is supported")
        if SIGNS.get(function) in EQUALITIES:
            self._check_literal(nodes[0], nodes[1], arguments[1])
            self._check_literal(nodes[1], nodes[0], arguments[0])
        return Apply(operator, nodes)

    def _pattern_search(self, arguments: list[syntax_pb2.Expr]) -> Apply:
        text, pattern = self.node(arguments[0]), self.node(arguments[1])
        if not isinstance(pattern, Literal):
            raise self._refuse(
                arguments[1], "the pattern of `matches` is computed", "write it as text in quotes"
            )
        try:
            compiled = Bound(compile_pattern(str(pattern.value)))
        except PatternRefused as refused:
            advice = "use startsWith, endsWith, contains, or a simpler pattern"
            raise self._refuse(arguments[1], f"this pattern: {refused}", advice) from None
        return Apply(OPERATORS["matches", (Kind.STRING, Kind.OPAQUE)], (text, compiled))

    def _zone(self, expr: syntax_pb2.Expr) -> Bound:
        name = expr.const_expr.string_value
        zone = zone_named(name) if name else None
        if zone is None:
            raise self._refuse(
                expr, "not the name of a time zone", 'write its IANA name, e.g. "Europe/Zurich"'
            )
        return Bound(zone)

    def _time_literal(self, function: str, argument: syntax_pb2.Expr) -> Literal:
        node = self.node(argument)
        if not isinstance(node, Literal) or not isinstance(node.value, str):
            raise self._refuse(argument, f"`{function}` of something computed", "write it as text in quotes")
        value = duration_ms(node.value) if function == "duration" else timestamp_ms(node.value)
        if value is None:
            example = "24h, 30m, 1h30m or 500ms" if function == "duration" else "2026-01-31T08:00:00Z"
            message = f"`{node.value}` is not a {function} in whole milliseconds"
            raise self._refuse(argument, message, f"write e.g. {example}", codes.WRONG_VALUE)
        return Literal(value, Kind.DURATION if function == "duration" else Kind.TIMESTAMP)

    def _check_literal(self, read: Node, literal: Node, place: syntax_pb2.Expr) -> None:
        """A literal that no value of the other side can equal is a slip of the pen."""
        name = _domain_name(read)
        if not name or name not in self.domains or not isinstance(literal, Literal):
            return
        if literal.value not in self.domains[name]:
            advice = did_you_mean(str(literal.value), self.domains[name])
            message = f"`{name}` is never `{literal.value}`"
            self.problems.append(Problem(self._offset(place), codes.UNKNOWN_LITERAL, message, advice))


def _domain_name(node: Node) -> str:
    match node:
        case InputRead(_, name, _):
            return name
        case ColumnRead(column, _):
            return f"action.{column}"
        case _:
            return ""


def _unknown_operation(function: str, nodes: Sequence[Node]) -> str:
    kinds = ", ".join(n.kind.value for n in nodes)
    name = function.strip("_") if function.startswith(("_", "-", "!")) else function
    return f"`{name}` of ({kinds}) is not supported"


def duration_ms(text: str) -> int | None:
    """Milliseconds of a CEL duration text; None where it is none, not whole, or too long."""
    sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text)
    total, at = 0, 0
    while found := _DURATION_PART.match(rest, at):
        whole, fraction, unit = found.groups()
        scaled = int(whole + (fraction or "")) * _UNIT_MS[unit]
        part, remainder = divmod(scaled, 10 ** len(fraction or ""))
        if remainder:
            return None
        total, at = total + part, found.end()
    if at == 0 or at != len(rest) or total > MAX_DURATION_MS:
        return None
    return sign * total


def timestamp_ms(text: str) -> int | None:
    """Milliseconds since the epoch of an RFC 3339 text; None where it is none."""
    if not _TIMESTAMP.match(text):
        return None
    try:
        instant = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    value = (instant - _EPOCH) // dt.timedelta(milliseconds=1)
    return value if FIRST_MS <= value <= LAST_MS else None
