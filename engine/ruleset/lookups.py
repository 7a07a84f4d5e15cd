"""Conditions that only test single inputs, answered by one look at each input instead of one test per rule.

`features.tenure >= 12 && features.contract == "one-year"` is a conjunction of tests of one input each. The
values of an input are cut into stretches on which none of its tests changes. For every stretch there is a
number with one byte per rule: 1 where all that the rule asks of this input holds. The rules that hold are
the bitwise `&` of one number per input, so that a decision costs by the inputs and hardly by the rules.
"""

from __future__ import annotations

import math
import operator
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.ruleset.expression import Apply, InputRead, Junction, Kind, Literal, Member, Node, Not, Present

RULES_FROM: Final = 8
"""Rules that must test an input before a look at it is cheaper than their own text."""
_BYTES_AT_MOST: Final = 4_000_000
"""Size of the numbers of one input; rules that would need more keep their own text."""
_SPAN: Final = 512
_AROUND: Final = 64
"""Whole numbers this close to each other, and so far around them, have their numbers in a table."""
_ORDERED: Final = (Kind.INT, Kind.DOUBLE, Kind.TIMESTAMP)
_COMPARED: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "==": operator.eq, "!=": operator.ne,
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_MIRRORED: Final = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_OTHER: Final = object()  # stands for all texts that no test names
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class InputTest:
    """A truth about one input. `named` are the values it names; `at` those from which on it may change."""

    read: InputRead
    holds: Callable[[Any], bool]
    named: tuple[object, ...] = ()
    at: tuple[float, ...] = ()
    missing: bool | None = None  # the truth where the input is missing


@dataclass(slots=True)
class Lookup:
    """The tests of one input by several rules, each with the place of its rule."""

    read: InputRead
    tests: list[tuple[int, InputTest]] = field(default_factory=list)

    @property
    def stretches(self) -> list[Any]:
        """One value of each stretch; for ordered kinds ascending, the first below all others."""
        match self.read.kind:
            case Kind.BOOL:
                return [False, True]
            case Kind.STRING:
                return [*dict.fromkeys(value for _, test in self.tests for value in test.named), _OTHER]
            case _:
                return [-math.inf, *sorted({value for _, test in self.tests for value in test.at})]

    def numbers(self, values: Sequence[object], everybody: Bytes) -> list[int]:
        """For each value, the rules of `everybody` (uint8 of shape (rules,)) whose tests all hold."""
        held = np.tile(everybody, (len(values), 1))
        for place, test in self.tests:
            held[:, place] &= np.fromiter(map(test.holds, values), dtype=np.bool_, count=len(values))
        return [_number(row) for row in held]

    def numbers_missing(self, everybody: Bytes) -> tuple[int, int]:
        """Where the input is missing: the rules whose tests hold, and those of which none is false."""
        held, open_ = everybody.copy(), everybody.copy()
        for place, test in self.tests:
            held[place] &= test.missing is True
            open_[place] &= test.missing is not False
        return _number(held), _number(open_)


@dataclass(frozen=True, slots=True)
class Lookups:
    """The rules of a program that are looked up, by their places among `count` rules, and how."""

    count: int
    places: frozenset[int]
    lookups: tuple[Lookup, ...]

    def bodies(self, bind: Callable[[object], str]) -> tuple[list[str], list[str]]:
        """Statements that put the truths of the rules looked up into `held`, a byte of `count` each.

        The first are for inputs none of which is missing, the second for any. `bind` gives objects a name
        in generated code.
        """
        everybody = np.zeros(self.count, dtype=np.uint8)
        everybody[list(self.places)] = 1
        fast, guarded, sign = [], [], ""
        for lookup in self.lookups:
            look, value = _look_text(lookup, everybody, bind), f"v{lookup.read.index}"
            held, open_ = (bind(number) for number in lookup.numbers_missing(everybody))
            fast.append(f"    held {sign}= {look}")
            guarded.append(f"    if {value} is None: held {sign}= {held}; open {sign}= {open_}")
            guarded.append(f"    else: look = {look}; held {sign}= look; open {sign}= look")
            sign = "&"
        written = f"    held = held.to_bytes({self.count}, 'little')"
        return [*fast, written], [*guarded, "    held |= (held ^ open) * 255", written]


def lookups_of(conditions: Sequence[Node]) -> Lookups:
    """What of the conditions is worth looking up, none of it where that is nothing."""
    tested = {place: tests for place, node in enumerate(conditions) if (tests := _tests_of(node))}
    while True:
        lookups = _by_input(tested)
        refused = {i for i, lookup in lookups.items() if not _is_worth_it(lookup, len(conditions))}
        if not refused:
            return Lookups(len(conditions), frozenset(tested), tuple(lookups.values()))
        tested = {
            place: tests
            for place, tests in tested.items()
            if refused.isdisjoint(test.read.index for test in tests)
        }


def _by_input(tested: Mapping[int, Sequence[InputTest]]) -> dict[int, Lookup]:
    lookups: dict[int, Lookup] = {}
    for place, tests in tested.items():
        for test in tests:
            lookups.setdefault(test.read.index, Lookup(test.read)).tests.append((place, test))
    return lookups


def _is_worth_it(lookup: Lookup, rules: int) -> bool:
    asking = Counter(place for place, _ in lookup.tests)
    return len(asking) >= RULES_FROM and len(lookup.stretches) * rules <= _BYTES_AT_MOST


def _look_text(lookup: Lookup, everybody: Bytes, bind: Callable[[object], str]) -> str:
    """Text of the number for a known value; a KeyError or TypeError where it is not of its type."""
    value, stretches = f"v{lookup.read.index}", lookup.stretches
    numbers = lookup.numbers(stretches, everybody)
    if lookup.read.kind is Kind.BOOL:
        return f"{bind(dict(zip(stretches, numbers, strict=True)))}[{value}]"
    if lookup.read.kind is Kind.STRING:
        named = dict(zip(stretches[:-1], numbers, strict=False))
        return f"{bind(named.get)}({value}, {bind(numbers[-1])})"
    edges = stretches[1:]
    text = f"{bind(numbers)}[place_of({bind(edges)}, {value})]"
    if lookup.read.kind is Kind.INT and edges and edges[-1] - edges[0] <= _SPAN:
        near = range(edges[0] - _AROUND, edges[-1] + _AROUND)
        return f"({bind({n: numbers[bisect_right(edges, n)] for n in near}.get)}({value}) or {text})"
    if lookup.read.kind is Kind.DOUBLE:  # what is no number stands on no stretch
        return f"({text} if {value} == {value} else {bind(*lookup.numbers([math.nan], everybody))})"
    return text


def _number(held: Bytes) -> int:
    return int.from_bytes(held.tobytes(), "little")


def _tests_of(node: Node) -> list[InputTest] | None:
    """The tests of which a condition is the conjunction; None where it is not."""
    tests: list[InputTest] = []
    for term in _terms(node):
        test = _test(term)
        if test is None:
            return None
        tests.append(test)
    return tests


def _terms(node: Node) -> Iterator[Node]:
    """The terms of a conjunction; `!(a || b)` is `!a && !b`, also where something is unknown."""
    match node:
        case Junction(True, terms):
            for term in terms:
                yield from _terms(term)
        case Not(Junction(False, terms)):
            for term in terms:
                yield from _terms(Not(term))
        case Not(Not(term)):
            yield from _terms(term)
        case _:
            yield node


def _test(node: Node) -> InputTest | None:
    """A term as a test of one input; None where it is another."""
    match node:
        case Not(term) if (test := _test(term)) is not None:
            missing = None if test.missing is None else not test.missing
            return InputTest(test.read, partial(_fails, test.holds), test.named, test.at, missing)
        case Present(InputRead() as read) if _is_looked_up(read):
            return InputTest(read, _always, missing=False)
        case InputRead(_, _, Kind.BOOL):
            return InputTest(node, bool)
        case Apply(found, (InputRead() as read, Literal(value))) if found.name in _COMPARED:
            return _comparison(read, found.name, value)
        case Apply(found, (Literal(value), InputRead() as read)) if found.name in _COMPARED:
            return _comparison(read, _MIRRORED[found.name], value)
        case Member(InputRead() as read, tuple() as options):
            return _membership(read, options)
        case _:
            return None


def _is_looked_up(read: InputRead) -> bool:
    return read.kind in (*_ORDERED, Kind.BOOL, Kind.STRING)


def _comparison(read: InputRead, sign: str, value: Any) -> InputTest | None:  # noqa: ANN401  # of the kind of the input
    if not _is_looked_up(read) or (read.kind is Kind.STRING and sign not in ("==", "!=")):
        return None
    holds = partial(_compares, _COMPARED[sign], value)
    if read.kind not in _ORDERED:
        return InputTest(read, holds, (value,))
    before, behind = sign in ("==", "!=", "<", ">="), sign in ("==", "!=", "<=", ">")
    return InputTest(read, holds, at=(value,) * before + (_next(read.kind, value),) * behind)


def _membership(read: InputRead, options: tuple[Node, ...]) -> InputTest | None:
    values = [option.value for option in options if isinstance(option, Literal)]
    if not _is_looked_up(read) or len(values) < len(options):
        return None
    holds = partial(_compares, _is_among, values)
    if read.kind not in _ORDERED:
        return InputTest(read, holds, tuple(values))
    return InputTest(read, holds, at=tuple(edge for v in values for edge in (v, _next(read.kind, v))))  # type: ignore[arg-type, misc]  # numbers


def _next(kind: Kind, value: float) -> float:
    """The smallest value of a kind above another."""
    return math.nextafter(value, math.inf) if kind is Kind.DOUBLE else value + 1


def _compares(comparison: Callable[[Any, Any], bool], right: Any, left: Any) -> bool:  # noqa: ANN401  # of one kind
    return comparison(left, right)


def _is_among(value: object, values: Sequence[object]) -> bool:
    return value in values


def _fails(holds: Callable[[Any], bool], value: object) -> bool:
    return not holds(value)


def _always(_: object) -> bool:
    return True
