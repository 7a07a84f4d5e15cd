"""Whether a challenger may go on: what its counts say beside the champion's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log, sqrt
from typing import Final

from engine.monitor.rollout.counts import ArmCounts, StepCounts
from engine.monitor.rollout.sequential import Answers, Evidence
from model_registry.rollout import Guardrails

WATCHED_SHARE: Final = 0.95
"""The percentile of latency that is compared."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A guardrail that the challenger broke, and how, for the history."""

    guardrail: str
    told: str


def violations(
    guardrails: Guardrails, steps: Mapping[int, StepCounts], step: int, evidence: Evidence
) -> tuple[Violation, ...]:
    """Every guardrail that is broken at a step.

    Where the champion has too few decisions at this step, as at a share of 100 %, it is represented by those
    of the latest step at which it had enough.
    """
    challenger = steps[step].challenger if step in steps else ArmCounts()
    champion = _champion(guardrails, steps, step)
    found = (
        _errors(guardrails, champion, challenger),
        _latency(guardrails, champion, challenger),
        _scores(guardrails, champion, challenger),
        _outcomes(guardrails, evidence),
    )
    return tuple(violation for violation in found if violation is not None)


def sudden(guardrails: Guardrails, latest: StepCounts) -> tuple[Violation, ...]:
    """Guardrails on errors and time that the latest decisions break, however good all those before were."""
    found = (
        _errors(guardrails, latest.champion, latest.challenger),
        _latency(guardrails, latest.champion, latest.challenger),
    )
    return tuple(violation for violation in found if violation is not None)


def _champion(guardrails: Guardrails, steps: Mapping[int, StepCounts], step: int) -> ArmCounts:
    for number in sorted((n for n in steps if n <= step), reverse=True):
        if steps[number].champion.decisions >= guardrails.decisions:
            return steps[number].champion
    return steps[step].champion if step in steps else ArmCounts()


def _errors(guardrails: Guardrails, champion: ArmCounts, challenger: ArmCounts) -> Violation | None:
    if challenger.failed < guardrails.errors:
        return None
    ours, theirs = (arm.failed / max(1, arm.decisions) for arm in (challenger, champion))
    if ours - theirs <= guardrails.error_share:
        return None
    told = f"it failed in {challenger.failed:,} of {challenger.decisions:,} decisions ({ours:.2%})"
    return Violation("errors", f"{told}, the champion in {theirs:.2%}")


def _latency(guardrails: Guardrails, champion: ArmCounts, challenger: ArmCounts) -> Violation | None:
    if min(champion.decisions, challenger.decisions) < guardrails.decisions:
        return None
    ours, theirs = challenger.latency_s(WATCHED_SHARE), champion.latency_s(WATCHED_SHARE)
    if ours is None or theirs is None:
        return None
    if ours <= guardrails.latency_ratio * theirs or (ours - theirs) * 1000 <= guardrails.latency_extra_ms:
        return None
    told = f"95 % of its decisions took up to {ours * 1000:.2f} ms, of the champion's {theirs * 1000:.2f} ms"
    return Violation("latency", told)


def _scores(guardrails: Guardrails, champion: ArmCounts, challenger: ArmCounts) -> Violation | None:
    if min(sum(champion.scores), sum(challenger.scores)) < guardrails.decisions:
        return None
    shift, chance = score_shift(champion.scores, challenger.scores)
    if shift <= guardrails.score_psi + chance:
        return None
    told = f"its scores are distributed otherwise: PSI {shift:.3f}, at most {guardrails.score_psi:g}"
    return Violation("scores", told)


def score_shift(expected: Sequence[int], found: Sequence[int]) -> tuple[float, float]:
    """Population stability index of two histograms, and how far chance takes it.

    Neighbouring bins with too few of both are taken together. Over samples of one distribution the index has
    the mean (bins - 1)(1/n + 1/m), which is taken off, and the standard deviation sqrt(2 (bins - 1))(1/n +
    1/m), of which four are chance: it is looked at many times.
    """
    pairs = list(_filled(expected, found))
    n, m = sum(expected), sum(found)
    shares = [((a + 0.5) / (n + 0.5 * len(pairs)), (b + 0.5) / (m + 0.5 * len(pairs))) for a, b in pairs]
    index = sum((ours - theirs) * log(ours / theirs) for theirs, ours in shares)
    freedom = len(pairs) - 1
    return max(0.0, index - freedom * (1 / n + 1 / m)), _SPREADS * sqrt(2 * freedom) * (1 / n + 1 / m)


_FEWEST: Final = 5
_SPREADS: Final = 4


def _filled(expected: Sequence[int], found: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Bins with at least a few of both together; the rest joins the last one."""
    bins = []
    a = b = 0
    for one, other in zip(expected, found, strict=True):
        a, b = a + one, b + other
        if a + b >= _FEWEST:
            bins.append((a, b))
            a = b = 0
    if bins:
        bins[-1] = bins[-1][0] + a, bins[-1][1] + b
    return iter(bins)


def _outcomes(guardrails: Guardrails, evidence: Evidence) -> Violation | None:
    if not evidence.refutes(guardrails.outcome_alpha):
        return None
    champion, challenger = (
        sum((getattr(pair, arm) for pair in evidence.seen.values()), Answers())
        for arm in ("champion", "challenger")
    )
    told = (
        f"people accept less: {_rate(challenger)}, the champion {_rate(champion)} "
        f"(evidence {evidence.value:,.0f}, at most {1 / guardrails.outcome_alpha:,.0f})"
    )
    return Violation("outcomes", told)


def _rate(answers: Answers) -> str:
    return f"{answers.rate or 0.0:.2%} of {answers.count:,} answers"
