"""Conditions whose truth differs between actions: NumPy over all actions at once.

Fields of `action` are constants of the rule set, so what depends on them alone is folded into arrays when
compiling; what depends on the customer alone is computed once per decision in Python. Two ways remain for
the rest: array text (`vector.py`), and for conditions that arrays do not say exactly `Spread`, the careful
scalar text for each distinct candidate. Candidates without a propensity get the truth of `Spread` without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from engine.core.rulebook import Frame, Truths
from engine.domain import Action
from engine.ruleset.customer import one_truth, run_source
from engine.ruleset.expression import (
    COLUMNS,
    Node,
    columns,
    is_action_level,
    reads_frame,
    reads_propensity,
)
from engine.ruleset.scalar import ScalarWriter, function_text, reading_lines, truth_text
from engine.ruleset.vector import VectorWriter

Row = npt.NDArray[np.bool_]
Scalar = TypeVar("Scalar", bound=np.generic)
Propensities = npt.NDArray[np.float64]
Fields = tuple[tuple[object, ...], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """One careful condition, computed once per distinct candidate."""

    function: Callable[..., int]  # (values, now, propensity, *columns)
    fields: Fields  # per action, the columns it reads
    distinct: Fields
    inverse: npt.NDArray[np.intp]  # (actions,) place in `distinct`
    uses_propensity: bool

    def __call__(self, values: list[object], now_ms: int, propensity: Propensities) -> Truths:
        """Truth for every action, int8 of shape (actions,). Never raises."""
        if not self.uses_propensity:
            return self.unscored(values, now_ms)
        scored = [None if p != p else p for p in propensity.tolist()]
        truths = (
            one_truth(self.function, values, now_ms, p, *f) for p, f in zip(scored, self.fields, strict=True)
        )
        return np.frombuffer(bytes(truths), dtype=np.int8)

    def unscored(self, values: list[object], now_ms: int) -> Truths:
        """Truth for every action as if no candidate had a propensity, int8 of shape (actions,)."""
        truths = bytes(one_truth(self.function, values, now_ms, None, *f) for f in self.distinct)
        return np.frombuffer(truths, dtype=np.int8)[self.inverse]


@dataclass(frozen=True, slots=True, eq=False)
class CandidateConditions:
    """Compiled action-level conditions, in the order given by `order_key`."""

    count: int
    vector: Callable[[list[object], int, int, Propensities, Truths], None]
    spreads: tuple[Spread, ...]
    unscored: Truths  # (fixed, actions): the last `fixed` conditions without propensity
    fixed: int
    unknown: Propensities  # (actions,), what is read before anything is scored
    varying: tuple[int, ...]  # conditions that read the propensity and the customer

    def fill(self, frame: Frame, out: Truths) -> None:
        """Writes the truths, int8 of shape (conditions, actions). Never raises."""
        propensity = frame.propensity
        if propensity is None:
            propensity = self.unknown
        try:
            with np.errstate(all="ignore"):
                self.vector(frame.values, frame.now_ms, frame.missing, propensity, out)
                if self.fixed or self.varying:
                    self._fill_unscored(frame, propensity, out)
        except Exception:  # a value that is not of its declared type spoils its own rules only
            for i, spread in enumerate(self.spreads):
                out[i] = spread(frame.values, frame.now_ms, propensity)

    def _fill_unscored(self, frame: Frame, propensity: Propensities, out: Truths) -> None:
        absent = np.isnan(propensity)
        if not absent.any():
            return
        if self.fixed:
            np.copyto(out[self.count - self.fixed :], self.unscored, where=absent)
        for i in self.varying:
            np.copyto(out[i], self.spreads[i].unscored(frame.values, frame.now_ms), where=absent)


def order_key(node: Node) -> int:
    """Where a condition stands: by customer, by action, by propensity and customer, by propensity alone."""
    if not is_action_level(node):
        return 0
    if not reads_propensity(node):
        return 1
    return 2 if reads_frame(node) else 3


def compile_candidates(conditions: Sequence[Node], actions: Sequence[Action]) -> CandidateConditions:
    """Compiles action-level conditions together; they must be in the order of `order_key`."""
    nodes = list(conditions)
    spreads = _spreads(nodes, actions)
    writer = VectorWriter(actions=actions)
    writer.scalars.bindings |= {f"s{i}": spread for i, spread in enumerate(spreads)}
    lines = [line for i, node in enumerate(nodes) for line in writer.rule_lines(i, node)]
    source = "\n".join(["def vector(V, n, m, P, out):", *reading_lines(nodes), *lines, "    return None"])
    vector = run_source(source, writer.scalars.bindings)["vector"]
    fixed = [i for i, node in enumerate(nodes) if order_key(node) == 3]
    varying = tuple(i for i, node in enumerate(nodes) if order_key(node) == 2)
    unscored = np.array([spreads[i].unscored([], 0) for i in fixed], dtype=np.int8).reshape(-1, len(actions))
    unknown = np.full(len(actions), np.nan)
    unknown.flags.writeable = False
    return CandidateConditions(len(nodes), vector, spreads, unscored, len(fixed), unknown, varying)


def _spreads(nodes: Sequence[Node], actions: Sequence[Action]) -> tuple[Spread, ...]:
    writer = ScalarWriter()
    texts = []
    for i, node in enumerate(nodes):
        arguments = ", ".join(["V", "n", "p", *(f"a{COLUMNS.index(c)}" for c in columns(node))])
        texts.append(function_text(f"r{i}", arguments, [node], truth_text(writer, node)))
    space = run_source("\n".join(texts), writer.bindings)
    read = {used: _fields(used, actions) for used in dict.fromkeys(columns(node) for node in nodes)}
    return tuple(
        Spread(space[f"r{i}"], *read[columns(node)], reads_propensity(node)) for i, node in enumerate(nodes)
    )


def _fields(used: Sequence[str], actions: Sequence[Action]) -> tuple[Fields, Fields, npt.NDArray[np.intp]]:
    """Some columns of every action, the distinct ones, and the place of every action among these."""
    fields = tuple(tuple(getattr(action, c) for c in used) for action in actions)
    places = {f: i for i, f in enumerate(dict.fromkeys(fields))}
    return fields, tuple(places), np.array([places[f] for f in fields], dtype=np.intp)
