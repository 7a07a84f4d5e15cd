"""Writes Python for one candidate at a time: plain where nothing can be missing, careful where it can.

In careful text None means unknown: CEL's error, which `&&` and `||` absorb. No text of an author gets into
generated code: inputs are named by index, and constants go through `literal_text`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

from engine.ruleset.expression import (
    COLUMNS,
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
    Member,
    Node,
    Not,
    Now,
    Present,
    PropensityRead,
    children,
    is_total,
    walk,
)

_SET_FROM: Final = 4  # lists of this length and more are looked up as a set


def literal_text(value: object) -> str:
    """Source text of a constant; exact types only, so nothing but a literal can come out."""
    kind = type(value)
    if kind is float:
        number = float(value)  # type: ignore[arg-type]  # it is one, see above
        if not math.isfinite(number):
            raise ValueError(f"{number} has no literal")
        return repr(number) if math.copysign(1.0, number) > 0 else f"({number!r})"
    if kind is int:
        return repr(value) if int(value) >= 0 else f"({value!r})"  # type: ignore[call-overload]  # an int
    if kind is str or kind is bool:
        return repr(value)
    raise TypeError(f"{kind.__name__} is not a constant of conditions")


def is_nullable(node: Node) -> bool:
    """Whether the node can be unknown."""
    match node:
        case Literal() | Bound() | ColumnRead() | Now() | Present() | Local():
            return False
        case InputRead() | PropensityRead() | Fold():
            return True
        case Apply() if not is_total(node):
            return True
        case _:
            return any(is_nullable(c) for c in children(node))


@dataclass(slots=True)
class ScalarWriter:
    """Text of nodes; `bindings` are the objects the text takes by name."""

    bindings: dict[str, object] = field(default_factory=dict)
    _temporaries: int = 0

    def bind(self, value: object) -> str:
        """A name for an object in generated code."""
        name = f"k{len(self.bindings)}"
        self.bindings[name] = value
        return name

    def leaf(self, node: Node) -> str | None:
        """Name or constant of a node without operation; None for others."""
        match node:
            case InputRead(index, _, _):
                return f"v{index}"
            case ColumnRead(column, _):
                return f"a{COLUMNS.index(column)}"
            case PropensityRead():
                return "p"
            case Now():
                return "n"
            case Local(name, _):
                return name
            case Literal(value, _):
                return literal_text(value)
            case Bound(value, _):
                return self.bind(value)
            case _:
                return None

    def plain(self, node: Node) -> str:
        """Text of the value where no input it reads is missing and no operation can fail."""
        if (name := self.leaf(node)) is not None:
            return name
        match node:
            case Present(term):
                return f"({self.leaf(term)} is not None)"
            case Junction(every, terms):
                return "(" + (" and " if every else " or ").join(self.plain(t) for t in terms) + ")"
            case Not(term):
                return f"(not {self.plain(term)})"
            case Choice(condition, then, otherwise):
                return f"({self.plain(then)} if {self.plain(condition)} else {self.plain(otherwise)})"
            case Member() | Listing() | Dictionary() | Apply():
                return self._strict_text(node, [self.plain(below) for below in children(node)])
        raise TypeError(f"{type(node).__name__} has no text")

    def careful(self, node: Node) -> str:
        """Text of the value, None where unknown."""
        if not is_nullable(node):
            return self.plain(node)
        if (name := self.leaf(node)) is not None:
            return name
        match node:
            case Junction(every, terms):
                return self._careful_junction(every, terms)
            case Not(term):
                value, unknown = self._held(term)
                return f"(None if {unknown} else not {value})"
            case Choice(condition, then, otherwise):
                return self._careful_choice(condition, then, otherwise)
            case Fold():
                return self._careful_fold(node)
            case Member() | Listing() | Dictionary() | Apply():
                return self._strict(node)
        raise TypeError(f"{type(node).__name__} has no text")

    def _strict(self, node: Member | Listing | Dictionary | Apply) -> str:
        """Text of what is unknown where anything below it is."""
        held = [self._held(below) for below in children(node)]
        text = self._strict_text(node, [value for value, _ in held])
        return _guarded([unknown for _, unknown in held], text)

    def _strict_text(self, node: Member | Listing | Dictionary | Apply, texts: list[str]) -> str:
        """Text of the value from those of what is below."""
        if isinstance(node, Member):
            return self._membership(texts[0], node.options, texts[1:])
        if isinstance(node, Apply):
            template = node.operator.python if is_total(node) else node.operator.checked
            return f"({template.format(*texts)})"
        return _collection(node, texts)

    def _careful_fold(self, fold: Fold) -> str:
        source, unknown = self._held(fold.source)
        body = f"lambda {fold.variable.name}: {self.careful(fold.body)}"
        return _guarded([unknown], f"fold_{fold.macro.value}({source}, {body})")

    def _careful_choice(self, condition: Node, then: Node, otherwise: Node) -> str:
        value, unknown = self._held(condition)
        chosen = f"({self.careful(then)} if {value} else {self.careful(otherwise)})"
        return _guarded([unknown], chosen)

    def _careful_junction(self, every: bool, terms: tuple[Node, ...]) -> str:
        """A deciding term decides; else unknown if any is unknown; else the other way."""
        names = [self.temporary() for _ in terms]
        tests = [f"({name} := {self.careful(term)})" for name, term in zip(names, terms, strict=True)]
        if every:
            decided = " or ".join(f"{test} is False" for test in tests)
            return f"(False if {decided} else {' and '.join(names)})"
        unknown = " or ".join(f"{n} is None" for n, t in zip(names, terms, strict=True) if is_nullable(t))
        return f"(True if {' or '.join(tests)} else None if {unknown} else False)"

    def _held(self, node: Node) -> tuple[str, str]:
        """The text of a value that is used twice, and of the test whether it is unknown ("" if never)."""
        if not is_nullable(node):
            return self.plain(node), ""
        if (name := self.leaf(node)) is not None:
            return name, f"{name} is None"
        name = self.temporary()
        return name, f"({name} := {self.careful(node)}) is None"

    def temporary(self) -> str:
        """A fresh local name."""
        self._temporaries += 1
        return f"t{self._temporaries}"

    def _membership(self, item: str, options: tuple[Node, ...] | Node, texts: list[str]) -> str:
        if not isinstance(options, tuple):
            exact = options.kind is not Kind.DOUBLE_LIST  # `in` finds a number that equals nothing
            return f"({item} in {texts[0]})" if exact else f"within({item}, {texts[0]})"
        if not options:
            return "False"
        if all(isinstance(o, Literal) for o in options):
            opened, closed = ("{", "}") if len(texts) >= _SET_FROM else ("(", ",)")
            return f"({item} in {opened}{', '.join(texts)}{closed})"
        return "(" + " or ".join(f"{item} == {text}" for text in texts) + ")"


def _collection(node: Listing | Dictionary, texts: list[str]) -> str:
    """Text of a tuple or dict of values that are known."""
    if isinstance(node, Dictionary):
        pairs = (f"{literal_text(key)}: {text}" for key, text in zip(node.keys, texts, strict=True))
        return "{" + ", ".join(pairs) + "}"
    return "(" + "".join(f"{text}, " for text in texts) + ")"


def _guarded(unknown: list[str], text: str) -> str:
    tests = " or ".join(u for u in unknown if u)
    return f"(None if {tests} else {text})" if tests else text


def reading_lines(nodes: list[Node]) -> list[str]:
    """Statements that take the inputs of nodes out of the frame's values."""
    indices = sorted({n.index for node in nodes for n in walk(node) if isinstance(n, InputRead)})
    return [f"    v{i} = V[{i}]" for i in indices]


def function_text(name: str, arguments: str, nodes: list[Node], body: str) -> str:
    """A function that reads its inputs and returns a value."""
    return "\n".join([f"def {name}({arguments}):", *reading_lines(nodes), f"    return {body}"])


def truth_text(writer: ScalarWriter, node: Node) -> str:
    """Careful text of a condition as a byte: 0, 1, and 255 (int8 -1) for unknown."""
    if not is_nullable(node):
        return writer.plain(node)
    return f"(255 if (r := {writer.careful(node)}) is None else r)"
