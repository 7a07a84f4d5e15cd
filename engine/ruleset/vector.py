"""Writes NumPy for conditions of action level: arrays over all actions, scalars where the action has no say.

Two texts of a condition: `array`, where nothing is missing, is of booleans. `careful` is in Kleene's order
(-1 false, 0 unknown, 1 true; int8, or one int for all actions), so that `&&` is a minimum, `||` a maximum
and `!` a sign. Neither heeds candidates without a propensity: `CandidateConditions` fills those in later.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from engine.core.rulebook import FALSE, TRUE, UNKNOWN
from engine.domain import Action
from engine.ruleset.customer import run_source
from engine.ruleset.expression import (
    COLUMNS,
    Apply,
    Bound,
    Choice,
    ColumnRead,
    InputRead,
    Junction,
    Kind,
    Listing,
    Literal,
    Member,
    Node,
    Not,
    Now,
    Present,
    PropensityRead,
    children,
    columns,
    input_mask,
    is_action_level,
    is_strict_failure,
    may_fail,
    reads_frame,
    reads_propensity,
    walk,
)
from engine.ruleset.operators import EQUALITIES
from engine.ruleset.scalar import ScalarWriter, function_text

Row = npt.NDArray[np.bool_]
KleeneRow = npt.NDArray[np.int8]
Scalar = TypeVar("Scalar", bound=np.generic)
_KLEENE: Final = {None: 0, False: -1, True: 1}
_ONE: Final = np.int8(1)
_TRUTHS: Final = np.array([UNKNOWN, TRUE, FALSE], dtype=np.int8)  # at 0, 1 and, from the end, -1
_COLUMN_TYPES: Final = {Kind.BOOL: np.bool_, Kind.DOUBLE: np.float64, Kind.INT: np.int64}
_STRICT: Final = (Listing, Apply, Member, Literal, Bound, InputRead, ColumnRead, PropensityRead, Now)


def kleene(row: Row) -> KleeneRow:
    """Booleans in Kleene's order."""
    return row.view(np.int8) * np.int8(2) - np.int8(1)


def truths(ordered: KleeneRow | int) -> KleeneRow:
    """Truth as programs return it, from Kleene's order."""
    return _TRUTHS[ordered]


def frozen(array: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
    """The array, read-only: a constant of the program."""
    array.flags.writeable = False
    return array


def undecided_and(ordered: int, row: Row) -> KleeneRow:
    """`&&` of a scalar that does not decide, unknown or true, and booleans."""
    return row.view(np.int8) - _ONE if ordered == 0 else kleene(row)


def undecided_or(ordered: int, row: Row) -> KleeneRow:
    """`||` of a scalar that does not decide, unknown or false, and booleans."""
    return row.view(np.int8) if ordered == 0 else kleene(row)


def among(values: Sequence[str], held: Iterable[str]) -> Row:
    """For each value whether a list holds it."""
    known = frozenset(held)
    return np.array([value in known for value in values], dtype=np.bool_)


class NotVectorised(Exception):
    """The node has no array text; `Spread` computes it."""


@dataclass(slots=True)
class VectorWriter:
    """Array text of conditions. Scalar parts are plain Python, as nothing is missing where it runs."""

    actions: Sequence[Action]
    scalars: ScalarWriter = field(default_factory=ScalarWriter)
    _fixed: dict[int, tuple[Node, list[object]]] = field(default_factory=dict)  # by identity: 0.0 == -0.0
    _said: dict[str, list[object]] = field(default_factory=dict)  # by text, which many conditions share

    def __post_init__(self) -> None:
        bound = {
            "kleene": kleene,
            "truths": truths,
            "among": among,
            "undecided_and": undecided_and,
            "undecided_or": undecided_or,
            "minimum": np.minimum,
            "maximum": np.maximum,
            "K": _KLEENE,
        }
        self.scalars.bindings |= bound

    def rule_lines(self, index: int, node: Node) -> list[str]:
        """Statements that write row `index` of `out`; `s<index>` is the condition's `Spread`."""
        spread = f"out[{index}] = s{index}(V, n, P)"
        if _is_fixed(node):
            return [f"    out[{index}] = {self._fixed_truths(node)}"]
        if self._may_fail(node):
            return [f"    {self._careful_line(index, node, spread)}"]
        try:
            array = f"out[{index}] = {self.array(node)}"
        except NotVectorised:
            return [f"    {spread}"]
        mask = input_mask(node)
        if not mask:
            return [f"    {array}"]
        return [f"    if m & {mask}: {self._careful_line(index, node, spread)}", f"    else: {array}"]

    def _careful_line(self, index: int, node: Node, spread: str) -> str:
        try:
            return f"out[{index}] = truths({self.careful(node)})"
        except NotVectorised:
            return spread

    def is_vectorised(self, node: Node) -> bool:
        """Whether arrays say the condition where nothing is missing; else it runs action by action."""
        lines = self.rule_lines(0, node)
        return not lines[-1].endswith("= s0(V, n, P)")

    def _fixed_truths(self, node: Node) -> str:
        """Name of the truths of a condition that depends on the action alone."""
        row = [UNKNOWN if value is None else int(bool(value)) for value in self._values(node)]
        return self.scalars.bind(frozen(np.array(row, dtype=np.int8)))

    def _may_fail(self, node: Node) -> bool:
        """Whether an operation can fail; one on constants of the actions that did not will not."""
        if not may_fail(node):
            return False
        if _is_fixed(node) and node.kind in _COLUMN_TYPES:
            return None in self._values(node)
        return is_strict_failure(node) or any(self._may_fail(child) for child in children(node))

    def _values(self, node: Node) -> list[object]:
        if id(node) not in self._fixed:
            self._fixed[id(node)] = node, _values(node, self.actions, self._said)
        return self._fixed[id(node)][1]

    def array(self, node: Node) -> str:
        """Text of an array of shape (actions,). Raises NotVectorised."""
        if not is_action_level(node):
            return self._spread_scalar(node)
        if _is_fixed(node):
            return self._folded(node)
        if isinstance(node, PropensityRead):
            return "P"
        if isinstance(node, Present):  # candidates without a propensity are filled in afterwards
            return self._all(True)
        return self._compound(node)

    def _compound(self, node: Node) -> str:
        match node:
            case Junction(every, terms):
                return self._junction(every, terms)
            case Not(term):
                return f"(~{self.array(term)})"
            case Choice(condition, then, otherwise) if not is_action_level(condition):
                chosen = self.scalars.plain(condition)
                return f"({self.array(then)} if {chosen} else {self.array(otherwise)})"
            case Member(item, ColumnRead()) if not is_action_level(item):
                return self._lookup(item, self._rows_by_tag())
            case Member(ColumnRead(column, Kind.STRING), options) if not isinstance(options, tuple):
                return self._among(column, options)
            case Apply():
                return self._operation(node)
        raise NotVectorised

    def _spread_scalar(self, node: Node) -> str:
        if node.kind is not Kind.BOOL:
            raise NotVectorised
        return f"({self._all(True)} if {self.scalars.plain(node)} else {self._all(False)})"

    def _all(self, truth: bool) -> str:
        return self.scalars.bind(frozen(np.full(len(self.actions), truth)))

    def _folded(self, node: Node) -> str:
        """Name of an array of what depends on the action alone, computed now."""
        values = self._values(node)
        if node.kind not in _COLUMN_TYPES or any(v is None for v in values):
            raise NotVectorised
        return self.scalars.bind(frozen(np.array(values, dtype=_COLUMN_TYPES[node.kind])))

    def _junction(self, every: bool, terms: Sequence[Node]) -> str:
        """Scalar terms first: where one decides, no array is touched."""
        scalars = [self.scalars.plain(t) for t in terms if not is_action_level(t)]
        fixed = [t for t in terms if _is_fixed(t)]
        rest = [self.array(t) for t in terms if is_action_level(t) and t not in fixed]
        if fixed:
            rest.insert(0, self._folded(fixed[0] if len(fixed) == 1 else Junction(every, tuple(fixed))))
        joined = "(" + (" & " if every else " | ").join(rest) + ")"
        if not scalars:
            return joined
        if every:
            return f"({joined} if {' and '.join(scalars)} else {self._all(False)})"
        return f"({self._all(True)} if {' or '.join(scalars)} else {joined})"

    def _operation(self, node: Apply) -> str:
        operator, arguments = node.operator, node.arguments
        if operator.name in EQUALITIES and arguments[0].kind is Kind.STRING:
            return self._text_equality(operator.name, *arguments)
        if not operator.array:
            raise NotVectorised
        texts = [self.array(a) if is_action_level(a) else self.scalars.plain(a) for a in arguments]
        return f"({operator.array.format(*texts)})"

    def _text_equality(self, sign: str, left: Node, right: Node) -> str:
        column, scalar = (left, right) if is_action_level(left) else (right, left)
        if is_action_level(scalar) or reads_frame(column) or reads_propensity(column):
            raise NotVectorised
        values = self._values(column)
        rows = {v: frozen(np.array([v == other for other in values])) for v in dict.fromkeys(values)}
        found = self._lookup(scalar, rows)
        return found if sign == "==" else f"(~{found})"

    def _among(self, column: str, options: Node) -> str:
        if is_action_level(options):
            raise NotVectorised
        values = self.scalars.bind(tuple(getattr(action, column) for action in self.actions))
        return f"among({values}, {self.scalars.plain(options)})"

    def _rows_by_tag(self) -> dict[object, Row]:
        tags = dict.fromkeys(tag for action in self.actions for tag in action.tags)
        return {tag: frozen(np.array([tag in action.tags for action in self.actions])) for tag in tags}

    def _lookup(self, key: Node, rows: dict[object, Row]) -> str:
        return f"{self.scalars.bind(rows)}.get({self.scalars.plain(key)}, {self._all(False)})"

    def careful(self, node: Node) -> str:
        """Text in Kleene's order. Raises NotVectorised."""
        if not is_action_level(node):
            return f"K[{self.scalars.careful(node)}]"
        if not input_mask(node) and not self._may_fail(node):
            return f"kleene({self.array(node)})"
        match node:
            case Junction(every, terms):
                return self._careful_junction(every, terms)
            case Not(term):
                return f"(-{self.careful(term)})"
            case Choice(condition, then, otherwise) if not is_action_level(condition):
                chosen = self.scalars.temporary()
                sides = f"{self.careful(then)} if {chosen} else {self.careful(otherwise)}"
                return f"(0 if ({chosen} := {self.scalars.careful(condition)}) is None else {sides})"
            case Apply() | Member() if all(isinstance(below, _STRICT) for below in walk(node)):
                return self._careful_operation(node)
        raise NotVectorised

    def _careful_operation(self, node: Node) -> str:
        """Strict all the way down: one missing input makes it unknown for every action."""
        if self._may_fail(node):
            raise NotVectorised
        inputs = dict.fromkeys(below.index for below in walk(node) if isinstance(below, InputRead))
        missing = " or ".join(f"v{index} is None" for index in inputs)
        return f"(0 if {missing} else kleene({self.array(node)}))"

    def _careful_junction(self, every: bool, terms: Sequence[Node]) -> str:
        """The scalar terms first: where they decide, no array is touched."""
        scalars = tuple(t for t in terms if not is_action_level(t))
        candidates = tuple(t for t in terms if is_action_level(t))
        if scalars and not any(input_mask(t) or self._may_fail(t) for t in candidates):
            return self._half_careful_junction(every, scalars, candidates)
        arrays = [self.careful(t) for t in candidates]
        joined, fold = arrays[0], "minimum" if every else "maximum"
        for text in arrays[1:]:
            joined = f"{fold}({joined}, {text})"
        if not scalars:
            return joined
        first = self.scalars.temporary()
        decided = -1 if every else 1
        ordered = self.careful(_joined(every, scalars))
        return f"({decided} if ({first} := {ordered}) == {decided} else {fold}({first}, {joined}))"

    def _half_careful_junction(
        self, every: bool, scalars: tuple[Node, ...], candidates: tuple[Node, ...]
    ) -> str:
        """Where only scalars can be unknown, the arrays stay booleans."""
        row = self.array(_joined(every, candidates))
        first = self.scalars.temporary()
        decided, fold = (-1, "undecided_and") if every else (1, "undecided_or")
        ordered = self.careful(_joined(every, scalars))
        return f"({decided} if ({first} := {ordered}) == {decided} else {fold}({first}, {row}))"


def _joined(every: bool, terms: tuple[Node, ...]) -> Node:
    return terms[0] if len(terms) == 1 else Junction(every, terms)


def _is_fixed(node: Node) -> bool:
    """Whether the node depends on the action alone."""
    return is_action_level(node) and not reads_frame(node) and not reads_propensity(node)


def _values(node: Node, actions: Sequence[Action], said: dict[str, list[object]]) -> list[object]:
    """The value of a node that depends on the action alone, for each action; None where unknown.

    `said` keeps what was computed: a text says it all where it takes no object by name.
    """
    writer = ScalarWriter()
    used = columns(node)
    arguments = ", ".join(f"a{COLUMNS.index(c)}" for c in used)
    text = function_text("value", arguments, [], writer.careful(node))
    if text in said and not writer.bindings:
        return said[text]
    function = run_source(text, writer.bindings)["value"]
    values = [function(*(getattr(action, c) for c in used)) for action in actions]
    if not writer.bindings:
        said[text] = values
    return values
