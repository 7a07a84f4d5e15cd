"""What can be known of a condition without evaluating it: where it can be true, and where false.

Both are regions of the inputs, exact or too large. So "never true" and "never false" are claimed only where
they hold for every customer, whatever is missing. A missing input makes a comparison neither true nor
false; that is in neither region.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from engine.domain import Action
from engine.ruleset.documents import ActionEntry
from engine.ruleset.expression import (
    PROPENSITY,
    Apply,
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
)
from engine.ruleset.regions import EVERYWHERE, NOWHERE, Region, Variable, join_regions, meet_regions
from engine.ruleset.values import (
    BOTH,
    NAN,
    Numbers,
    ValueSet,
    Words,
    compared,
    every_value,
    only_missing,
    without,
)

_MIRRORED: Final = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_COMPARE: Final[Mapping[str, Callable[[object, object], bool]]] = {
    "==": operator.eq, "!=": operator.ne,
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,  # type: ignore[dict-item]  # of one kind, which the type checker of CEL has seen to
}  # fmt: skip
_REASONED: Final = frozenset(
    {Kind.BOOL, Kind.INT, Kind.DOUBLE, Kind.STRING, Kind.TIMESTAMP, Kind.DURATION}
)  # lists and maps are left alone
_FEATURE_BOUND: Final = 1 << 24
_PROBABILITY: Final = Numbers(((0.0, 1.0),), whole=False)
_TRUE, _FALSE = Words(frozenset({"true"})), Words(frozenset({"false"}))


@dataclass(frozen=True, slots=True)
class Reach:
    """Where a condition can be true, and where false."""

    true: Region
    false: Region

    def negated(self) -> Reach:
        """The same of `!condition`."""
        return Reach(self.false, self.true)


@dataclass(frozen=True, slots=True)
class _Computed:
    """A value that is computed; `text` tells 0.0 from -0.0, which are equal, and is what is hashed."""

    text: str
    node: Node

    def __hash__(self) -> int:
        return hash(self.text)


_SURE: Final = {True: Reach(EVERYWHERE, NOWHERE), False: Reach(NOWHERE, EVERYWHERE)}
_OPAQUE: Final = Reach(EVERYWHERE, EVERYWHERE)


def reach(
    node: Node, domains: Mapping[str, Sequence[str]], action: ActionEntry | Action | None = None
) -> Reach:
    """Where a condition can be true and false, for one action where one is given.

    `domains` are the only values of some text inputs, by full name.
    """
    return _reach(for_action(node, action) if action is not None else node, domains)


def every_value_of(name: str, kind: Kind, domains: Mapping[str, Sequence[str]]) -> ValueSet:
    """All values an input can have where it is not missing."""
    if name in domains:
        return Words(frozenset(domains[name]))
    if name.startswith("scores."):
        return _PROBABILITY
    every = every_value(kind)
    if not isinstance(every, Numbers):
        return every
    if kind is Kind.INT and name.startswith("features."):  # stored as float32
        return replace(every, spans=((-_FEATURE_BOUND, _FEATURE_BOUND),))
    if kind is Kind.DOUBLE and not name.startswith("features."):
        return replace(every, special=frozenset({NAN}))
    return every


def for_action(node: Node, action: ActionEntry | Action) -> Node:
    """The condition with the fields of one action written out."""
    match node:
        case ColumnRead(column, kind) if kind is not Kind.LIST:
            return Literal(getattr(action, column), kind)
        case Not(term):
            return Not(for_action(term, action))
        case Junction(every, terms):
            return Junction(every, tuple(for_action(t, action) for t in terms))
        case Choice(condition, then, otherwise, kind):
            parts = [for_action(n, action) for n in (condition, then, otherwise)]
            return Choice(parts[0], parts[1], parts[2], kind)
        case Member(item, ColumnRead(_, Kind.LIST)):
            tags = tuple(Literal(tag, Kind.STRING) for tag in action.tags)
            return Member(for_action(item, action), tags)
        case Member(item, tuple() as options):
            return Member(for_action(item, action), tuple(for_action(o, action) for o in options))
        case Apply(applied, arguments):
            return Apply(applied, tuple(for_action(a, action) for a in arguments))
        case _:
            return node


def _reach(node: Node, domains: Mapping[str, Sequence[str]]) -> Reach:
    match node:
        case Literal(bool() as value):
            return _SURE[value]
        case Not(term):
            return _reach(term, domains).negated()
        case Junction(every, terms):
            return _junction(every, [_reach(t, domains) for t in terms])
        case Choice(condition, then, otherwise):
            return _choice(*(_reach(n, domains) for n in (condition, then, otherwise)))
        case Present(term):
            present = _every(term, domains)
            return _split(_variable(term), present, only_missing(present))
        case Member(item, tuple() as options) | Member(item, Listing(options)):
            return _member(item, options, domains)
        case Apply(applied, (left, right)) if applied.name in _MIRRORED:
            return _comparison(applied.name, left, right, domains)
        case _:
            return _split(_variable(node), _TRUE, _FALSE)


def _junction(every: bool, terms: Sequence[Reach]) -> Reach:
    true, false = (EVERYWHERE, NOWHERE) if every else (NOWHERE, EVERYWHERE)
    both, either = meet_regions, join_regions
    for term in terms:
        true = both(true, term.true) if every else either(true, term.true)
        false = either(false, term.false) if every else both(false, term.false)
    return Reach(true, false)


def _choice(condition: Reach, then: Reach, otherwise: Reach) -> Reach:
    return Reach(
        join_regions(meet_regions(condition.true, then.true), meet_regions(condition.false, otherwise.true)),
        join_regions(
            meet_regions(condition.true, then.false), meet_regions(condition.false, otherwise.false)
        ),
    )


def _member(item: Node, options: Sequence[Node], domains: Mapping[str, Sequence[str]]) -> Reach:
    """`item in [...]` is `item == a || item == b`, where no option can be unknown."""
    if not options:
        return Reach(NOWHERE, EVERYWHERE)
    if not all(isinstance(option, Literal) for option in options):
        return _split(_variable(Member(item, tuple(options))), _TRUE, _FALSE)
    return _junction(False, [_comparison("==", item, option, domains) for option in options])


def _comparison(sign: str, left: Node, right: Node, domains: Mapping[str, Sequence[str]]) -> Reach:
    if isinstance(left, Literal) and isinstance(right, Literal):
        return _SURE[bool(_COMPARE[sign](left.value, right.value))]
    if isinstance(left, Literal):
        return _comparison(_MIRRORED[sign], right, left, domains)
    every = _every(left, domains)
    orders_words = isinstance(every, Words) and sign not in ("==", "!=")
    reasoned = left.kind is right.kind and left.kind in _REASONED and not orders_words
    if not isinstance(right, Literal) or not reasoned:
        return _split((_variable(left), sign, _variable(right)), _TRUE, _FALSE)
    held = compared(every, sign, right.value)
    return _split(_variable(left), held, without(every, held))


def _split(variable: Variable, true: ValueSet, false: ValueSet) -> Reach:
    return Reach(
        NOWHERE if true.is_empty else ({variable: true},),
        NOWHERE if false.is_empty else ({variable: false},),
    )


def _every(node: Node, domains: Mapping[str, Sequence[str]]) -> ValueSet:
    match node:
        case InputRead(_, name, kind):
            return every_value_of(name, kind, domains)
        case PropensityRead():
            return _PROBABILITY
    every = BOTH if node.kind is Kind.BOOL else every_value(node.kind)
    if isinstance(every, Numbers) and not every.whole:  # arithmetic can give no number
        return replace(every, special=frozenset({NAN}))
    return every


def _variable(node: Node) -> Variable:
    """What tells one value from another; equal for nodes that have the same value in every evaluation."""
    match node:
        case InputRead(_, name, _):
            return name
        case PropensityRead():
            return PROPENSITY
        case Now():
            return "now"
        case _:
            return _Computed(repr(node), node)
