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
    Dictionary,
    Fold,
    InputRead,
    Junction,
    Kind,
    Listing,
    Literal,
    Local,
    Macro,
    Member,
    Node,
    Not,
    Now,
    Present,
    PropensityRead,
)
from engine.ruleset.kinds import ELEMENT_OF, LIST_OF, MAP_OF, VALUE_OF, a_kind
from engine.ruleset.macros import Comprehension, comprehension
from engine.ruleset.operators import EQUALITIES, OPERATORS, SAME, SIGNS, TIME_ACCESSORS
from engine.ruleset.patterns import PatternRefused, compile_pattern
from engine.ruleset.runtime import FIRST_MS, LAST_MS, MAX_SPAN_MS, zone_named

COLUMN_KINDS: Final = dict.fromkeys(COLUMNS, Kind.STRING) | {
    "value": Kind.DOUBLE, "cost": Kind.DOUBLE, "prior": Kind.DOUBLE, "weight": Kind.DOUBLE, "tags": Kind.LIST,
}  # fmt: skip
MAX_NODES: Final = 2_000
"""Parts of a condition, with what constants, variables and segments stand for written out."""
MAX_FOLDS: Final = 2
"""Macros inside macros: each level multiplies the cost by the length of a list."""
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


class Spoiled(Exception):
    """The condition uses a name whose own meaning is wrong, which is told there."""


@dataclass(frozen=True, slots=True)
class Definition:
    """What a constant, variable or segment stands for; no `node` where that is wrong, and told there."""

    name: str  # e.g. constants.HIGH_BILL
    text: str  # as a condition would say it
    kind: Kind
    node: Node | None
    nodes: int  # parts of `node`


@dataclass(slots=True)
class Lowering:
    """Lowers one checked condition; `problems` are literals that no value can equal.

    `used` are the definitions it names, itself.
    """

    checked: checked_pb2.CheckedExpr
    inputs: Mapping[str, tuple[int, Input]]
    domains: Mapping[str, Sequence[str]]
    definitions: Mapping[str, Definition] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    _locals: dict[str, Local] = field(default_factory=dict)
    _folds: int = 0
    _fold_depth: int = 0
    _nodes: int = 0

    def node(self, expr: syntax_pb2.Expr) -> Node:
        """The node of a CEL expression. Raises Refused, and Spoiled."""
        self._nodes = 0
        return self._node(expr)

    def _node(self, expr: syntax_pb2.Expr) -> Node:
        self._count(expr, 1)
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
                return self._listing(expr)
            case "comprehension_expr":
                return self._fold(expr)
            case "struct_expr" if not expr.struct_expr.message_name:
                return self._dictionary(expr)
            case _:
                raise self._refuse(expr, "messages are not supported", "compare single fields")

    def _count(self, expr: syntax_pb2.Expr, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            message = (
                f"the condition has more than {MAX_NODES:,} parts, with variables and segments written out"
            )
            raise self._refuse(expr, message, "split it, or use `in` with a list")

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
        if name in self._locals:
            return self._locals[name]
        if name == "now":
            return Now()
        if name in self.definitions:
            return self._defined(expr, self.definitions[name])
        raise self._refuse(
            expr, f"`{name}` is not a value by itself", f"name one of its fields, e.g. `{name}.x`"
        )

    def _defined(self, expr: syntax_pb2.Expr, definition: Definition) -> Node:
        self.used.add(definition.name)
        if definition.node is None:
            raise Spoiled(definition.name)
        self._count(expr, definition.nodes)
        return definition.node

    def _selection(self, expr: syntax_pb2.Expr) -> Node:
        select = expr.select_expr
        owner = select.operand.ident_expr.name
        if self._is_map(select.operand):
            return self._map_field(select)
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

    def _is_map(self, expr: syntax_pb2.Expr) -> bool:
        return bool(self.checked.type_map[expr.id].WhichOneof("type_kind") == "map_type")

    def _map_field(self, select: syntax_pb2.Expr.Select) -> Node:
        """`m.key`, or has(m.key)."""
        held, key = self._node(select.operand), Literal(select.field, Kind.STRING)
        if select.test_only:
            return Member(key, held)
        return Apply(OPERATORS["_[_]", (held.kind, Kind.STRING)], (held, key))

    def _listing(self, expr: syntax_pb2.Expr) -> Listing:
        elements = tuple(self._node(e) for e in expr.list_expr.elements)
        kinds = {e.kind for e in elements} or {self._element_of_empty(expr)}
        kind = kinds.pop()
        if kinds:
            raise self._refuse(expr, "the list mixes types", "list values of one type")
        if kind not in LIST_OF:
            raise self._refuse(
                expr, f"a list of {kind} values is not supported", "list texts, numbers or times"
            )
        return Listing(elements, LIST_OF[kind])

    def _element_of_empty(self, expr: syntax_pb2.Expr) -> Kind:
        """What `[]` would hold, as the other side has it."""
        held = self.checked.type_map[expr.id].list_type.elem_type
        name = held.WhichOneof("type_kind")
        written = {
            checked_pb2.Type.STRING: Kind.STRING,
            checked_pb2.Type.INT64: Kind.INT,
            checked_pb2.Type.DOUBLE: Kind.DOUBLE,
            checked_pb2.Type.BOOL: Kind.BOOL,
        }
        if name != "primitive" or held.primitive not in written:
            raise self._refuse(expr, "the list is empty, so nobody knows of what it is", "use size(...) == 0")
        return written[held.primitive]

    def _dictionary(self, expr: syntax_pb2.Expr) -> Dictionary:
        keys: list[str] = []
        values: list[Node] = []
        for entry in expr.struct_expr.entries:
            key = self._node(entry.map_key)
            if not isinstance(key, Literal) or not isinstance(key.value, str) or key.value in keys:
                raise self._refuse(
                    expr, "the keys of a map must be different texts", 'write {"a": 1.0, "b": 2.0}'
                )
            keys.append(key.value)
            values.append(self._node(entry.value))
        kinds = {v.kind for v in values}
        if len(kinds) != 1 or not kinds <= set(MAP_OF):
            raise self._refuse(expr, "a map must hold values of one simple type", "texts, numbers or truths")
        return Dictionary(tuple(keys), tuple(values), MAP_OF[kinds.pop()])

    def _fold(self, expr: syntax_pb2.Expr) -> Node:
        found = comprehension(expr.comprehension_expr)
        if found is None:
            raise self._refuse(expr, "a macro with two variables is not supported", "use one variable")
        source = self._node(found.source)
        if source.kind not in ELEMENT_OF and not (source.kind in VALUE_OF and found.takes_maps):
            message = f"`{found.macro.value}` of a {source.kind} is not supported"
            raise self._refuse(found.source, message, "use it on a list; `exists` and `all` also on a map")
        if self._fold_depth >= MAX_FOLDS:
            message = f"macros are nested more than {MAX_FOLDS} deep"
            raise self._refuse(found.source, message, "use `in`, or a field that is computed before")
        self._folds += 1
        variable = Local(f"x{self._folds}", ELEMENT_OF.get(source.kind, Kind.STRING))
        outer = self._locals
        self._locals, self._fold_depth = {**outer, found.variable: variable}, self._fold_depth + 1
        body = self._fold_body(found, source, variable)
        self._locals, self._fold_depth = outer, self._fold_depth - 1
        return body

    def _fold_body(self, found: Comprehension, source: Node, variable: Local) -> Fold:
        """The fold; `map` with a test is a filter first."""
        if found.test is not None and found.value is not None:
            test = Fold(Macro.FILTER, variable, source, self._node(found.test), source.kind)
            source = test
        body = self._node(found.value if found.value is not None else found.test)
        if found.macro is Macro.MAP and body.kind not in LIST_OF:
            raise self._refuse(
                found.value, f"`map` to {a_kind(body.kind)} is not supported", "map to simple values"
            )
        kinds = {Macro.MAP: LIST_OF.get(body.kind), Macro.FILTER: source.kind}
        return Fold(found.macro, variable, source, body, kinds.get(found.macro) or Kind.BOOL)

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
                return Not(self._node(arguments[0]))
            case "_?_:_":
                condition, then, otherwise = (self._node(a) for a in arguments)
                return Choice(condition, then, otherwise, then.kind)
            case "@in":
                return self._member(*arguments)
            case "duration" | "timestamp" if self._is_text(arguments[0]):
                return self._time_literal(call.function, arguments[0])
            case function:
                return self._apply(expr, function, arguments)

    def _is_text(self, expr: syntax_pb2.Expr) -> bool:
        return bool(self.checked.type_map[expr.id].primitive == checked_pb2.Type.STRING)

    def _junction(self, function: str, arguments: list[syntax_pb2.Expr]) -> Junction:
        every = function == "_&&_"
        terms: list[Node] = []
        for argument in arguments:
            term = self._node(argument)
            terms += term.terms if isinstance(term, Junction) and term.every == every else (term,)
        return Junction(every, tuple(terms))

    def _member(self, item: syntax_pb2.Expr, options: syntax_pb2.Expr) -> Member:
        needle = self._node(item)
        if options.WhichOneof("expr_kind") == "list_expr":
            elements = tuple(self._node(e) for e in options.list_expr.elements)
            if any(e.kind is not needle.kind or e.kind not in LIST_OF for e in elements):
                raise self._refuse(
                    options, "the list mixes types", "list values of one type, that of the left side"
                )
            for element, place in zip(elements, options.list_expr.elements, strict=True):
                self._check_literal(needle, element, place)
            return Member(needle, elements)
        held = self._node(options)
        if isinstance(held, Listing):
            return Member(needle, held.elements)
        if held.kind not in ELEMENT_OF and held.kind not in VALUE_OF:
            advice = 'write a list, e.g. ["a", "b"], or action.tags'
            raise self._refuse(options, "`in` needs a list", advice)
        if ELEMENT_OF.get(held.kind, Kind.STRING) is not needle.kind:
            message = f"`in` of a {held.kind} never finds {a_kind(needle.kind)}"
            raise self._refuse(item, message, "both sides must be of one type", codes.TYPE_MISMATCH)
        self._check_literal(held, needle, item)
        return Member(needle, held)

    def _apply(self, expr: syntax_pb2.Expr, function: str, arguments: list[syntax_pb2.Expr]) -> Node:
        if function == "matches":
            return self._pattern_search(arguments)
        if function in TIME_ACCESSORS and len(arguments) == 2:
            nodes: tuple[Node, ...] = (self._node(arguments[0]), self._zone(arguments[1]))
        else:
            nodes = tuple(self._node(a) for a in arguments)
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
        text, pattern = self._node(arguments[0]), self._node(arguments[1])
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
        node = self._node(argument)
        if not isinstance(node, Literal) or not isinstance(node.value, str):
            advice = "write it as text in quotes; compare e.g. (now - context.at).getHours() with a number"
            raise self._refuse(argument, f"`{function}` of a computed text", advice)
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
    if at == 0 or at != len(rest) or total > MAX_SPAN_MS:
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
