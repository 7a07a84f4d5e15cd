"""Signals as durable-rules definitions, made so that none of the engine's known faults can be reached.

Each signal is a rule set of its own, so neither the 64 co-matching conditions nor the 250 or so rules of one
set limit the number of signals. Its pattern becomes a tree of *nodes*, and every rule joins two by time:

- a fact is `{n: node, f: first, l: last}`, a span; instants are whole milliseconds relative to now;
- whether an event satisfies conditions on attributes is decided by Arbiter, where values are typed; text,
  decimals and ids never reach the engine, so it can neither convert, refuse nor confuse them;
- a count is a join of two facts by ordinal, `b.i == a.i + n - 1`, so its size does not matter; of distinct
  values it is tallied by Arbiter and passed as spans;
- absence is computed by Arbiter and passed as an explicit value, the latest instant at which an event came.

A signal's root span is joined with one fact that says how old it may be and what came since.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from engine.signals.patterns import (
    AllPattern,
    AnyPattern,
    CountPattern,
    EventPattern,
    Pattern,
    SequencePattern,
    SignalPattern,
)
from engine.signals.questions import LATEST, READY

FORBIDDEN: Final = frozenset({"$nex", "$not", "$div", "$mt", "$imt", "$s"})
"""$nex and `none` fire on internal messages, $div ends the process at zero, regular expressions explode."""
MAX_RULES: Final = 200
"""Rules of one set; durable-rules 2.0.28 does not end building a set of 300."""
MAX_MATCHES: Final = 1_000_000
"""Matches handed over at once, so that the engine does not call an action for each."""
Definition = dict[str, Any]


class ProgramRefused(Exception):
    """A pattern cannot be compiled: it is larger than a rule set may be, or uses what is forbidden."""


@dataclass(frozen=True, slots=True)
class SignalProgram:
    """One compiled signal. A node's parts have smaller levels than itself; leaves have level 0."""

    signal: SignalPattern
    leaves: Mapping[int, EventPattern | CountPattern]
    levels: tuple[tuple[int, ...], ...]
    joins: Mapping[str, int]  # rule to the node it makes spans of
    widest: Mapping[int, int]  # node to the length its spans must stay below to be of use
    definition: Definition


def compile_signal(signal: SignalPattern) -> SignalProgram:
    """The rule set of one signal. Raises ProgramRefused."""
    tree = _Tree()
    root = tree.add(signal.pattern)
    tree.rules["ready"] = {"all": [{"b": _is(READY)}]}
    tree.rules["signal"] = _rule(_is(root), _still_stands(len(signal.absent)))
    if len(tree.rules) > MAX_RULES:
        needed = len(tree.rules)
        raise ProgramRefused(f"the pattern of `{signal.id}` needs {needed} rules; {MAX_RULES} are allowed")
    lint(tree.rules)
    return SignalProgram(signal, tree.leaves, tree.ordered(), tree.joins, tree.widest, tree.rules)


def lint(definition: object) -> None:
    """Raises ProgramRefused where a definition uses what is not safe, at any depth."""
    if isinstance(definition, dict):
        for key, value in definition.items():
            if key in FORBIDDEN or key.endswith(("$not", "$any")):
                raise ProgramRefused(f"`{key}` is not safe in durable-rules")
            lint(value)
    elif isinstance(definition, list):
        for part in definition:
            lint(part)
    elif isinstance(definition, float):
        raise ProgramRefused("decimals are not safe in durable-rules")


class _Tree:
    """Numbers the nodes of a pattern and writes a rule for every join."""

    def __init__(self) -> None:
        self.leaves: dict[int, EventPattern | CountPattern] = {}
        self.rules: Definition = {}
        self.joins: dict[str, int] = {}
        self.widest: dict[int, int] = {}
        self._levels: dict[int, int] = {}

    def ordered(self) -> tuple[tuple[int, ...], ...]:
        """Nodes by level, the leaves first."""
        height = max(self._levels.values()) + 1
        return tuple(tuple(n for n, at in self._levels.items() if at == level) for level in range(height))

    def add(self, pattern: Pattern) -> int:
        """The node of a pattern, after those of its parts."""
        match pattern:
            case EventPattern() | CountPattern():
                return self._leaf(pattern)
            case SequencePattern(steps, within_ms):
                return self._chain(steps, within_ms, _follows(within_ms))
            case AllPattern(parts, within_ms):
                return self._chain(parts, within_ms, _near(within_ms))
            case AnyPattern(parts):
                return self._any(parts)

    def _leaf(self, pattern: EventPattern | CountPattern) -> int:
        node = self._number(0)
        self.leaves[node] = pattern
        if isinstance(pattern, EventPattern) or pattern.distinct is not None:
            return node
        if pattern.at_least == 1:  # a fact is not joined with itself
            self.leaves[node] = pattern.event
            return node
        counted = self._number(1)
        self._join(counted, node, node, _counts(pattern))
        return counted

    def _chain(self, parts: tuple[Pattern, ...], within_ms: int, conditions: list[Definition]) -> int:
        left = self.add(parts[0])
        for part in parts[1:]:
            right = self.add(part)
            self.widest[left] = self.widest[right] = within_ms
            node = self._number(1 + max(self._levels[left], self._levels[right]))
            self._join(node, left, right, conditions)
            left = node
        return left

    def _any(self, parts: tuple[Pattern, ...]) -> int:
        nodes = [self.add(part) for part in parts]
        node = self._number(1 + max(self._levels[n] for n in nodes))
        for part in nodes:
            name = f"j{len(self.rules)}"
            self.rules[name] = {"all": [{"b": _is(part)}], "cap": MAX_MATCHES}
            self.joins[name] = node
        return node

    def _join(self, node: int, left: int, right: int, conditions: list[Definition]) -> None:
        name = f"j{len(self.rules)}"
        self.rules[name] = _rule(_is(left), [_is(right), *conditions])
        self.joins[name] = node

    def _number(self, level: int) -> int:
        node = len(self._levels) + 1
        self._levels[node] = level
        return node


def _rule(left: Definition, right: list[Definition]) -> Definition:
    """Joins two facts.

    durable-rules 2.0.28 reads past the end of an `$and` whose last comparison is false, so the last one never
    is: every fact carries `o`, which is zero.
    """
    always = {"$lte": {"o": {"a": "o"}}}
    return {"all": [{"a": left}, {"b": {"$and": [*right, always]}}], "cap": MAX_MATCHES}


def _is(node: int) -> Definition:
    return {"n": node}


def _plus(field: str, amount: int) -> Definition:
    """A field of the left fact and a constant."""
    return {"$add": {"$l": {"a": field}, "$r": amount}}


def _follows(within_ms: int) -> list[Definition]:
    return [{"$gt": {"f": {"a": "l"}}}, {"$lt": {"l": _plus("f", within_ms)}}]


def _near(within_ms: int) -> list[Definition]:
    """Neither ends too long after the other began; each alone is short enough, see `widest`."""
    return [{"$lt": {"l": _plus("f", within_ms)}}, {"$gt": {"f": _plus("l", -within_ms)}}]


def _counts(pattern: CountPattern) -> list[Definition]:
    return [{"i": _plus("i", pattern.at_least - 1)}, {"$lt": {"l": _plus("f", pattern.within_ms)}}]


def _still_stands(absences: int) -> list[Definition]:
    """The fact that ends a root span: it lies after `r`, and no absent event came after its end."""
    return [
        _is(LATEST),
        {"$lt": {"r": {"a": "l"}}},
        *({"$lte": {f"x{k}": {"a": "l"}}} for k in range(absences)),
    ]
