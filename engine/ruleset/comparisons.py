"""What the rules compare each input with: the values at which an answer may turn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from engine.ruleset.expression import Apply, InputRead, Kind, Literal, Member, Node, walk

Scalar = bool | int | float | str


def compared_literals(conditions: Iterable[Node]) -> Mapping[str, tuple[Scalar, ...]]:
    """Input name to the literals that stand in one comparison with it, sorted, without doubles.

    Arithmetic around the input is not undone: of `monthly + 10.0 <= 120.0` both numbers are named, and a
    search that tries them narrows the rest.
    """
    found: dict[str, set[Scalar]] = {}
    for condition in conditions:
        for node in walk(condition):
            if isinstance(node, Member) or (isinstance(node, Apply) and node.kind is Kind.BOOL):
                _note(node, found)
    return {name: tuple(sorted(values, key=_sort_key)) for name, values in sorted(found.items())}


def _note(comparison: Node, into: dict[str, set[Scalar]]) -> None:
    below = list(walk(comparison))
    literals = {n.value for n in below if isinstance(n, Literal) and n.kind is not Kind.BOOL}
    for read in below:
        if isinstance(read, InputRead):
            into.setdefault(read.input, set()).update(literals)


def _sort_key(value: Scalar) -> tuple[str, float, str]:
    if isinstance(value, str):
        return "text", 0.0, value
    return "number", float(value), ""
