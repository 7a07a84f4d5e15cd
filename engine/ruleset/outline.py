"""A condition as its author wrote it: which part of the text means what, and where it stands.

The middle form (`expression.py`) forgets spelling; an outline keeps it, so that traces and coverage can
show a value under the very words that gave it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from cel.expr import syntax_pb2

from engine.ruleset.cel import ConditionLanguage
from engine.ruleset.expression import Literal, Node
from engine.ruleset.kinds import Kind
from engine.ruleset.lowering import Lowering, Refused, Spoiled

_TOKEN: Final = re.compile(
    r"""[rRbB]{0,2}(?:\"\"\"(?:\\.|[^\\])*?\"\"\"|'''(?:\\.|[^\\])*?'''|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')"""
    r"|//[^\n]*|[A-Za-z_]\w*|\d\w*(?:\.\d+)?(?:[eE][-+]?\d+)?|&&|\|\||[=!<>]=|\S",
    re.DOTALL,
)
_OPEN, _CLOSED = "([{", ")]}"
_CONNECTIVES: Final = frozenset({"_&&_", "_||_", "!_", "_?_:_"})
_COMPUTED: Final = frozenset({"const_expr", "list_expr", "struct_expr"})


@dataclass(frozen=True, slots=True)
class Part:
    """One sub-expression: `text` is `condition[offset:end]`, `node` its meaning.

    An atom is a truth of its own, not put together with `&&`, `||`, `!` or `?:`. `name` is the constant,
    variable or segment that the part is.
    """

    text: str
    offset: int
    end: int
    node: Node
    is_atom: bool
    parts: tuple[Part, ...]
    name: str = ""

    def walk(self) -> Iterator[Part]:
        """The part and all below it, as they are read."""
        yield self
        for part in self.parts:
            yield from part.walk()

    def atoms(self) -> Iterator[Part]:
        """The outermost atoms: the branches of a condition."""
        if self.is_atom:
            yield self
            return
        for part in self.parts:
            yield from part.atoms()


def outline(language: ConditionLanguage, text: str) -> Part:
    """The parts of a condition. Raises ValueError where it is not a right one."""
    try:
        lowering = language.opened(text)
        return _Reader(text, lowering).part(lowering.checked.expr)
    except (RuntimeError, Refused, Spoiled) as error:
        raise ValueError(f"not a condition: {str(error).strip().splitlines()[0]}") from error


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    start: int
    end: int


class _Reader:
    """Puts the parts of a checked tree on the tokens they were written with."""

    def __init__(self, text: str, lowering: Lowering) -> None:
        self.text = text
        self.lowering = lowering
        self.tokens = [_Token(m[0], *m.span()) for m in _TOKEN.finditer(text) if not m[0].startswith("//")]
        self.place = {token.start: i for i, token in enumerate(self.tokens)}
        self.partner = _partners(self.tokens)

    def part(self, expr: syntax_pb2.Expr) -> Part:
        """The part of an expression. Raises Refused where it means nothing by itself."""
        node = self.lowering.node(expr)
        first, last = self._inner(expr)
        start, end = self.tokens[first].start, self.tokens[last].end
        below = tuple(part for child in self._operands(expr) for part in self._below(child))
        is_atom = node.kind is Kind.BOOL and _function(expr) not in _CONNECTIVES
        return Part(self.text[start:end], start, end, node, is_atom, below, self._name(expr))

    def _name(self, expr: syntax_pb2.Expr) -> str:
        name = str(expr.ident_expr.name) if expr.WhichOneof("expr_kind") == "ident_expr" else ""
        return name if name in self.lowering.definitions else ""

    def _below(self, expr: syntax_pb2.Expr) -> Iterator[Part]:
        """Parts worth a value of their own; what has none by itself gives way to what is in it."""
        if expr.WhichOneof("expr_kind") in _COMPUTED:
            return
        try:
            part = self.part(expr)
        except (Refused, Spoiled):
            for child in _children(expr):
                yield from self._below(child)
            return
        if not isinstance(part.node, Literal) or expr.WhichOneof("expr_kind") == "ident_expr":
            yield part

    def _operands(self, expr: syntax_pb2.Expr) -> Sequence[syntax_pb2.Expr]:
        """Children; `a && b && c` has three, though CEL nests them."""
        if expr.WhichOneof("expr_kind") == "comprehension_expr":
            return [expr.comprehension_expr.iter_range, expr.comprehension_expr.loop_step]
        found: list[syntax_pb2.Expr] = []
        junction = _function(expr) if _function(expr) in ("_&&_", "_||_") else ""
        for child in _children(expr):
            found += self._operands(child) if junction and _function(child) == junction else [child]
        return found if expr.WhichOneof("expr_kind") == "call_expr" else []

    def _span(self, expr: syntax_pb2.Expr) -> tuple[int, int]:
        """First and last token, with the parentheses around."""
        first, last = self._inner(expr)
        while self._is_wrapped(first, last):
            first, last = first - 1, last + 1
        return first, last

    def _is_wrapped(self, first: int, last: int) -> bool:
        if first == 0 or self.tokens[first - 1].text != "(" or self.partner.get(first - 1) != last + 1:
            return False
        before = self.tokens[first - 2].text if first > 1 else ""
        return before == "in" or not (before[:1].isalpha() or before[:1] == "_")

    def _inner(self, expr: syntax_pb2.Expr) -> tuple[int, int]:
        """First and last token, without parentheses around."""
        own = self.place.get(int(self.lowering.checked.source_info.positions.get(expr.id, -1)))
        spans = [self._span(child) for child in _children(expr)]
        if own is None:
            return min((s[0] for s in spans), default=0), max((s[1] for s in spans), default=0)
        first, last = min([own, *(s[0] for s in spans)]), max([own, *(s[1] for s in spans)])
        sign = self.tokens[own].text
        if sign == "." or (sign == "-" and self._is_number(expr)):
            last = max(last, own + 1)
            if expr.WhichOneof("expr_kind") == "ident_expr":  # a name with a dot, e.g. segments.loyal
                first = min(first, own - 1)
        elif sign in _OPEN:
            last = max(last, self.partner.get(own, own))
            if sign == "(" and own > 0:
                first = min(first, own - 1)
        return first, last

    def _is_number(self, expr: syntax_pb2.Expr) -> bool:
        return bool(expr.WhichOneof("expr_kind") == "const_expr")


def _function(expr: syntax_pb2.Expr) -> str:
    return str(expr.call_expr.function) if expr.WhichOneof("expr_kind") == "call_expr" else ""


def _children(expr: syntax_pb2.Expr) -> list[syntax_pb2.Expr]:
    match expr.WhichOneof("expr_kind"):
        case "call_expr":
            call = expr.call_expr
            return [*([call.target] if call.HasField("target") else []), *call.args]
        case "select_expr":
            return [expr.select_expr.operand]
        case "list_expr":
            return list(expr.list_expr.elements)
        case "struct_expr":
            return [e.value for e in expr.struct_expr.entries]
        case "comprehension_expr":
            return [expr.comprehension_expr.iter_range, expr.comprehension_expr.loop_step]
        case _:
            return []


def _partners(tokens: Sequence[_Token]) -> dict[int, int]:
    """Place of an opening bracket to that of the closing one."""
    opened: list[int] = []
    found: dict[int, int] = {}
    for i, token in enumerate(tokens):
        if token.text in _OPEN:
            opened.append(i)
        elif token.text in _CLOSED and opened:
            found[opened.pop()] = i
    return found
