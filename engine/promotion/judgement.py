"""What the gates said of a version."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

LOADS: Final = "loads"


class Verdict(StrEnum):
    """What a gate says. What could not be judged is not taken for passed."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_KNOWN = "not known"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Gate:
    """One gate: its figure, with an interval where it has one, the limit, and in words what they mean."""

    name: str
    verdict: Verdict
    words: str
    figure: float | None = None
    interval: tuple[float, float] | None = None
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """All gates of a version that is to stand under an alias. `champion` is None before the first one."""

    model: str
    version: int
    alias: str
    champion: int | None
    gates: tuple[Gate, ...]

    @property
    def refusing(self) -> tuple[str, ...]:
        """Gates that keep it from being promoted; before the first champion, what is not known does not."""
        wrong = {Verdict.FAILED} if self.champion is None else {Verdict.FAILED, Verdict.NOT_KNOWN}
        return tuple(gate.name for gate in self.gates if gate.verdict in wrong)

    @property
    def may_be_forced(self) -> bool:
        """Whether anybody may override what refuses: a version that does not load serves nobody."""
        return LOADS not in self.refusing
