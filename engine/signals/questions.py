"""What travels between the evaluator and its worker: plain values, without durable-rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

LATEST: Final = 0
"""The node of the fact that a root span is joined with."""
READY: Final = -1
"""The node of a fact that always fires a rule. durable-rules 2.0.28 frees memory that it never set, and the
process ends, when the state of a customer for whom no rule fired is deleted."""


@dataclass(frozen=True, slots=True)
class RuleSetPlan:
    """What the worker needs of a compiled signal: plain values that travel between processes."""

    definition: Mapping[str, Any]
    levels: Sequence[Sequence[int]]
    joins: Mapping[str, int]
    widest: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Question:
    """The facts of one customer for one signal."""

    signal: int
    leaves: Mapping[int, Sequence[Mapping[str, int]]]
    latest: Mapping[str, int]


class JoinFailed(Exception):
    """The engine did not hand over what it found."""
