"""The middle form of a condition: a small tree with one node per meaning, not per spelling.

The checked CEL tree is lowered to it (`lowering.py`); the back ends write Python and NumPy from it.
Every node has a kind; the type checker has already refused operands that do not fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter
from typing import Any, Final

from engine.ruleset.kinds import Kind

__all__ = [  # what other modules take from here; Kind among them
    "COLUMNS", "INT_MAX", "INT_MIN", "PROPENSITY", "Apply", "Bound", "Choice", "ColumnRead", "Dictionary",
    "Fold", "InputRead", "Junction", "Kind", "Leaf", "Listing", "Literal", "Local", "Macro", "Member", "Node",
    "Not", "Now", "Operator", "Present", "PropensityRead", "children", "columns", "depth", "input_mask",
    "is_action_level", "is_strict_failure", "is_total", "magnitude", "may_fail", "reads", "reads_frame",
    "reads_propensity", "size", "walk",
]  # fmt: skip

INT_MIN, INT_MAX = -(2**63), 2**63 - 1
_FEATURE_BOUND = 1 << 24
COLUMNS: Final = ("id", "group", "purpose", "value", "cost", "prior", "weight", "target", "tags")
"""Fields of `action`, in the order their arguments have in generated code."""
PROPENSITY: Final = "scores.propensity"


@dataclass(frozen=True, slots=True)
class Operator:
    """A strict operation: it has a value only where all its arguments have one.

    `python` is its text with {0}, {1} for arguments. `checked`, where given, is the text that yields None
    instead of failing. `array`, where given, is the text that means the same for NumPy arrays.
    """

    name: str
    kind: Kind
    python: str
    checked: str = ""
    array: str = ""


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant; durations and timestamps in milliseconds."""

    value: bool | int | float | str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Bound:
    """A prepared object, such as a compiled pattern, that generated code takes by name."""

    value: object
    kind: Kind = Kind.OPAQUE


@dataclass(frozen=True, slots=True)
class InputRead:
    """An input of the frame, None where missing."""

    index: int
    input: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class ColumnRead:
    """A field of the action; never missing."""

    column: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class PropensityRead:
    """The candidate's propensity, missing where not scored."""

    kind: Kind = Kind.DOUBLE


@dataclass(frozen=True, slots=True)
class Now:
    """The instant of the decision."""

    kind: Kind = Kind.TIMESTAMP


@dataclass(frozen=True, slots=True)
class Present:
    """`has(x)`; never unknown."""

    term: InputRead | PropensityRead
    kind: Kind = Kind.BOOL


@dataclass(frozen=True, slots=True)
class Junction:
    """`&&` (every) or `||` of two or more terms; a deciding term decides whatever the others are."""

    every: bool
    terms: tuple[Node, ...]
    kind: Kind = Kind.BOOL


@dataclass(frozen=True, slots=True)
class Not:
    """`!x`."""

    term: Node
    kind: Kind = Kind.BOOL


@dataclass(frozen=True, slots=True)
class Choice:
    """`condition ? then : otherwise`; only the chosen side matters."""

    condition: Node
    then: Node
    otherwise: Node
    kind: Kind


@dataclass(frozen=True, slots=True)
class Member:
    """`item in options`; options are the nodes of a list as it is written, or a list or map."""

    item: Node
    options: tuple[Node, ...] | Node
    kind: Kind = Kind.BOOL


@dataclass(frozen=True, slots=True)
class Listing:
    """A list as it is written: `[a, b]`."""

    elements: tuple[Node, ...]
    kind: Kind


@dataclass(frozen=True, slots=True)
class Dictionary:
    """A map as it is written: `{"a": x}`; its keys are constants."""

    keys: tuple[str, ...]
    values: tuple[Node, ...]
    kind: Kind


@dataclass(frozen=True, slots=True)
class Local:
    """The variable of a macro: one element; never missing. `name` is ours, not the author's."""

    name: str
    kind: Kind


class Macro(StrEnum):
    """What a macro makes of the elements."""

    ALL = "all"
    EXISTS = "exists"
    EXISTS_ONE = "exists_one"
    FILTER = "filter"
    MAP = "map"


@dataclass(frozen=True, slots=True)
class Fold:
    """`source.macro(variable, body)`. The body of `all`, `exists`, `exists_one` and `filter` is a test."""

    macro: Macro
    variable: Local
    source: Node
    body: Node
    kind: Kind


@dataclass(frozen=True, slots=True)
class Apply:
    """A strict operation on its arguments."""

    operator: Operator
    arguments: tuple[Node, ...]

    @property
    def kind(self) -> Kind:
        """Type of the result."""
        return self.operator.kind


Leaf = Literal | Bound | InputRead | ColumnRead | PropensityRead | Now | Local
Node = Leaf | Present | Junction | Not | Choice | Member | Apply | Listing | Dictionary | Fold


_BELOW: Final[Mapping[type, Callable[[Any], tuple[Node, ...]]]] = {
    Present: lambda node: (node.term,),
    Not: lambda node: (node.term,),
    Junction: attrgetter("terms"),
    Choice: attrgetter("condition", "then", "otherwise"),
    Member: lambda node: (node.item, *(node.options if isinstance(node.options, tuple) else (node.options,))),
    Listing: attrgetter("elements"),
    Dictionary: attrgetter("values"),
    Fold: attrgetter("source", "body"),
    Apply: attrgetter("arguments"),
}
"""What stands directly below a node, by its class; leaves have nothing. A table, as loading asks so often."""


def children(node: Node) -> tuple[Node, ...]:
    """The nodes directly below."""
    below = _BELOW.get(type(node))
    return below(node) if below is not None else ()


def walk(node: Node) -> Iterator[Node]:
    """The node and all below it, as they are read."""
    waiting: list[Node] = [node]
    while waiting:
        found = waiting.pop()
        yield found
        if (below := _BELOW.get(type(found))) is not None:
            waiting.extend(below(found)[::-1])


def depth(node: Node) -> int:
    """Levels of a node and what is below it."""
    return 1 + max((depth(child) for child in children(node)), default=0)


def size(node: Node) -> int:
    """How many nodes there are."""
    return sum(1 for _ in walk(node))


def reads(node: Node) -> tuple[str, ...]:
    """Names of the inputs a condition reads, sorted, with scores.propensity where it does."""
    names = {n.input for n in walk(node) if isinstance(n, InputRead)}
    if reads_propensity(node):
        names.add(PROPENSITY)
    return tuple(sorted(names))


def input_mask(node: Node) -> int:
    """Bits of the frame's inputs the node reads."""
    mask = 0
    for n in walk(node):
        if isinstance(n, InputRead):
            mask |= 1 << n.index
    return mask


def columns(node: Node) -> tuple[str, ...]:
    """Fields of the action the node reads, in the order of COLUMNS."""
    used = {n.column for n in walk(node) if isinstance(n, ColumnRead)}
    return tuple(c for c in COLUMNS if c in used)


def reads_propensity(node: Node) -> bool:
    """Whether the node depends on the candidate's propensity."""
    return any(isinstance(n, PropensityRead) for n in walk(node))


def reads_frame(node: Node) -> bool:
    """Whether the node depends on the customer, the request or the clock."""
    return any(isinstance(n, (InputRead, Now)) for n in walk(node))


def is_action_level(node: Node) -> bool:
    """Whether the truth may differ between actions."""
    return any(isinstance(n, (ColumnRead, PropensityRead)) for n in walk(node))


def is_total(node: Apply) -> bool:
    """Whether an operation always has a value where its arguments have one."""
    if not node.operator.checked:
        return True
    return node.operator.name in _BOUNDED and magnitude(node) <= INT_MAX


def may_fail(node: Node) -> bool:
    """Whether computing the node can fail although nothing is missing."""
    return any(is_strict_failure(n) for n in walk(node))


def is_strict_failure(node: Node) -> bool:
    """Whether the node's own operation can fail where all below it have values."""
    return isinstance(node, Fold) or (isinstance(node, Apply) and not is_total(node))


_BOUNDED: Final = frozenset(
    {"add_int", "subtract_int", "multiply_int", "negate_int", "divide_int", "remainder_int"}
)


def magnitude(node: Node) -> int:
    """A bound of the absolute value of an int node; above INT_MAX where it may overflow or fail."""
    match node:
        case Literal(bool() | int() as value):
            return abs(value)
        case InputRead(_, name, _):  # stored as float32, so exact whole numbers only
            return _FEATURE_BOUND if name.startswith("features.") else -INT_MIN
        case Choice(_, then, otherwise):
            return max(magnitude(then), magnitude(otherwise))
        case Apply(operator, arguments):
            return _applied_magnitude(operator.name, arguments)
        case _:
            return -INT_MIN


def _applied_magnitude(name: str, arguments: tuple[Node, ...]) -> int:
    parts = [magnitude(a) for a in arguments]
    match name:
        case "add_int" | "subtract_int":
            return sum(parts)
        case "multiply_int":
            return parts[0] * parts[1]
        case "negate_int":
            return parts[0]
        case "divide_int" | "remainder_int":
            divisor = arguments[1]
            return parts[0] if isinstance(divisor, Literal) and divisor.value else -INT_MIN
        case "size" | "index_of" | "last_index_of":
            return 1 << 31
        case _ if name.startswith("get") or name == "seconds_of_instant":
            return 1 << 54  # of a timestamp or duration in int64 milliseconds
        case _:
            return -INT_MIN
