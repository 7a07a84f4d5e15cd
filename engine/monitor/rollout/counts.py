"""What a server process counts of both arms of a rollout, by step; counts of several processes add up."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import log
from typing import Final

from engine.monitor.rollout.sequential import Answers, Pair

_FASTEST_S: Final = 50e-6
LATENCY_LIMITS_S: Final = tuple(_FASTEST_S * 2 ** (i / 4) for i in range(72))
"""Upper limits of the latency histogram, from 50 microseconds to 11 seconds; each is 19 % above the last."""
_SCORE_LOG_ODDS: Final = tuple(i / 2 for i in range(-9, 10))
"""Limits of the score histogram in log-odds: from 1 % to 99 %."""


@dataclass(slots=True)
class ArmCounts:
    """What was seen of one arm: decisions, those the model failed in, times, scores, answers.

    `latency` (73,) counts by limit, the last beyond the last; `scores` (20,) alike.
    """

    decisions: int = 0
    failed: int = 0
    latency: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_LIMITS_S) + 1))
    scores: list[int] = field(default_factory=lambda: [0] * (len(_SCORE_LOG_ODDS) + 1))
    accepted: int = 0
    declined: int = 0

    def count(self, *, seconds: float, score: float | None, failed: bool) -> None:
        """Counts a decision."""
        self.decisions += 1
        self.failed += failed
        self.latency[bisect_right(LATENCY_LIMITS_S, seconds)] += 1
        if score is not None:
            self.scores[_score_place(score)] += 1

    def add(self, other: ArmCounts) -> None:
        """Adds what another process counted."""
        self.decisions += other.decisions
        self.failed += other.failed
        self.accepted += other.accepted
        self.declined += other.declined
        self.latency = [a + b for a, b in zip(self.latency, other.latency, strict=True)]
        self.scores = [a + b for a, b in zip(self.scores, other.scores, strict=True)]

    def since(self, earlier: ArmCounts) -> ArmCounts:
        """What was counted after an earlier state of it."""
        return ArmCounts(
            decisions=self.decisions - earlier.decisions,
            failed=self.failed - earlier.failed,
            latency=[a - b for a, b in zip(self.latency, earlier.latency, strict=True)],
            scores=[a - b for a, b in zip(self.scores, earlier.scores, strict=True)],
            accepted=self.accepted - earlier.accepted,
            declined=self.declined - earlier.declined,
        )

    @property
    def answers(self) -> Answers:
        """What people answered."""
        return Answers(self.accepted, self.declined)

    def latency_s(self, share: float) -> float | None:
        """The time below which a share of decisions took, within 19 %; None without a decision."""
        wanted, so_far = share * sum(self.latency), 0
        if not any(self.latency):
            return None
        for place, count in enumerate(self.latency):
            so_far += count
            if so_far >= wanted and count:
                return LATENCY_LIMITS_S[min(place, len(LATENCY_LIMITS_S) - 1)]
        raise AssertionError("a share of all decisions is among all decisions")


def _score_place(score: float) -> int:
    if score <= 0 or score >= 1:
        return 0 if score <= 0 else len(_SCORE_LOG_ODDS)
    return bisect_right(_SCORE_LOG_ODDS, log(score / (1 - score)))


@dataclass(slots=True)
class StepCounts:
    """Both arms at one step."""

    champion: ArmCounts = field(default_factory=ArmCounts)
    challenger: ArmCounts = field(default_factory=ArmCounts)

    def add(self, other: StepCounts) -> None:
        """Adds what another process counted."""
        self.champion.add(other.champion)
        self.challenger.add(other.challenger)

    def since(self, earlier: StepCounts) -> StepCounts:
        """What was counted after an earlier state of it."""
        return StepCounts(self.champion.since(earlier.champion), self.challenger.since(earlier.challenger))


Steps = dict[int, StepCounts]
"""Counts by number of the step."""


def added_up(processes: Iterable[Mapping[int, StepCounts]]) -> Steps:
    """What several processes counted, together."""
    total: Steps = {}
    for steps in processes:
        for number, counts in steps.items():
            total.setdefault(number, StepCounts()).add(counts)
    return total


def answers_of(steps: Mapping[int, StepCounts]) -> dict[int, Pair]:
    """What people answered to both arms, by step."""
    return {number: Pair(s.champion.answers, s.challenger.answers) for number, s in steps.items()}
