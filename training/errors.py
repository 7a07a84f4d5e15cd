"""What can stop a training run; every text says what, where and what to do.

TrainingError
├── DataUnexpected   the source data is not what the mapping was written for
├── DataRefused      a company's own table cannot be learnt from: empty, misshapen, of mixed types, one class
├── PlanRefused      the plan of a run names what is not there
├── LeakSuspected    columns of a table look as if they told the label, and nobody has said that they do not
├── ExportRefused    a trained model cannot be exported exactly
├── GateFailed       a model was trained and is not good enough to publish
└── LeakRefused      a training table holds, or would hold, what nobody knew at the instant of its row
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_NAMED_LEAKS: Final = 20
"""Leaks named in one error: enough to see the pattern; the rest is counted."""


class TrainingError(Exception):
    """Root of the tree: the run stops and nothing is published."""


class DataUnexpected(TrainingError):
    """The source data is not what the mapping was written for."""


class DataRefused(TrainingError):
    """A table cannot be learnt from. `problems` has one sentence each; the text has the first of them."""

    def __init__(self, source: str, problems: tuple[str, ...]) -> None:
        more = len(problems) - MAX_NAMED_LEAKS
        lines = [*problems[:MAX_NAMED_LEAKS], *([f"and {more} more"] if more > 0 else [])]
        super().__init__("\n".join(f"{source}: {line}" for line in lines))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class PlanProblem:
    """What is wrong with a plan, at the path of one of its fields."""

    path: tuple[str | int, ...]
    message: str
    advice: str = ""

    def __str__(self) -> str:
        told = f"{'.'.join(map(str, self.path))}: {self.message}"
        return f"{told}; {self.advice}" if self.advice else told


class PlanRefused(TrainingError):
    """A plan names what is not there, or asks for what cannot be."""

    def __init__(self, problems: tuple[PlanProblem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class LeakSuspected(TrainingError):
    """Columns look as if they told the label. `signs` has each with its evidence and what to do."""

    def __init__(self, signs: tuple[str, ...]) -> None:
        super().__init__("\n".join(signs))
        self.signs = signs


class ExportRefused(TrainingError):
    """A trained model cannot be exported exactly."""


class GateFailed(TrainingError):
    """A model was trained and is not good enough to publish. `failures` has one sentence each."""

    def __init__(self, model: str, failures: tuple[str, ...]) -> None:
        super().__init__(f"{model}: not published: " + "; ".join(failures))
        self.model = model
        self.failures = failures


@dataclass(frozen=True, slots=True)
class Leak:
    """One value that could not have been known; `when` is the instant of its row, for people."""

    column: str
    customer_id: str
    when: str
    words: str

    def __str__(self) -> str:
        return f"column {self.column}: customer {self.customer_id} at {self.when}: {self.words}"


class LeakRefused(TrainingError):
    """Rows hold what was not known at their instants. `leaks` has them all, the text the first ones."""

    def __init__(self, leaks: tuple[Leak, ...]) -> None:
        more = len(leaks) - MAX_NAMED_LEAKS
        lines = [*map(str, leaks[:MAX_NAMED_LEAKS]), *([f"and {more} more"] if more > 0 else [])]
        super().__init__("\n".join(lines))
        self.leaks = leaks
