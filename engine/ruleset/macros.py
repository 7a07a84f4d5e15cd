"""Recognises CEL's macros in the loops they are expanded to.

The parser turns `list.all(x, test)` into a comprehension; nothing but its macros can write one.
"""

from __future__ import annotations

from dataclasses import dataclass

from cel.expr import syntax_pb2

from engine.ruleset.expression import Macro


@dataclass(frozen=True, slots=True)
class Comprehension:
    """A macro and its arguments; `map` has a value and may have a test, the others have a test."""

    macro: Macro
    variable: str
    source: syntax_pb2.Expr
    test: syntax_pb2.Expr | None
    value: syntax_pb2.Expr | None

    @property
    def takes_maps(self) -> bool:
        """Whether the order of elements, which maps do not have, plays no part."""
        return self.macro not in (Macro.MAP, Macro.FILTER)


def comprehension(loop: syntax_pb2.Expr.Comprehension) -> Comprehension | None:
    """The macro a loop stands for; None for those with two variables."""
    if loop.iter_var2:
        return None
    start, step = loop.accu_init, loop.loop_step.call_expr
    match start.WhichOneof("expr_kind"), start.const_expr.WhichOneof("constant_kind"):
        case "const_expr", "bool_value":
            macro = Macro.ALL if start.const_expr.bool_value else Macro.EXISTS
            return Comprehension(macro, loop.iter_var, loop.iter_range, step.args[1], None)
        case "const_expr", _:
            return Comprehension(Macro.EXISTS_ONE, loop.iter_var, loop.iter_range, step.args[0], None)
        case _:
            return _list_maker(loop, step)


def _list_maker(loop: syntax_pb2.Expr.Comprehension, step: syntax_pb2.Expr.Call) -> Comprehension:
    """`map`, `map` with a test, or `filter`: the step appends, or chooses whether to."""
    tested = step.function == "_?_:_"
    append = step.args[1].call_expr if tested else step
    value = append.args[1].list_expr.elements[0]
    test = step.args[0] if tested else None
    if tested and value.ident_expr.name == loop.iter_var:
        return Comprehension(Macro.FILTER, loop.iter_var, loop.iter_range, test, None)
    return Comprehension(Macro.MAP, loop.iter_var, loop.iter_range, test, value)
