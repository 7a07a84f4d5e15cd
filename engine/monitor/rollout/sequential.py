"""Whether fewer people accept what the challenger proposes: a test that may be looked at all the time.

Answers (accepted or declined) are taken in blocks. A block of one step of the rollout has n answers to the
champion with s acceptances, and m to the challenger with t. Were both arms alike, an acceptance would have
one probability in the block, whichever it is and however it drifts from block to block. The bet of a block is
that the champion's acceptances have probability p and the challenger's q = p (1 - drop), against one pooled
probability r = (n p + m q) / (n + m):

    factor = (p/r)^s ((1-p)/(1-r))^(n-s)  (q/r)^t ((1-q)/(1-r))^(m-t)

p is learnt from earlier blocks only. Under equal probability x, an answer's mean factor is
A = x p/r + (1-x)(1-p)/(1-r) in the champion's arm and B, alike with q, in the challenger's, and
n A + m B = n + m; by the inequality of the means A^n B^m <= 1 (Turner, Ly, Gruenwald 2021). With a challenger
that is better, B is smaller yet. So the product of factors, averaged over several drops, is a supermartingale
from 1 on, and ever reaches 1/alpha with a chance of at most alpha (Ville 1939), however often one looks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import exp, log
from typing import Final

DROPS: Final = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Relative drops that are bet on, in equal parts."""
BLOCK: Final = 10
"""Answers that each arm has in a block at least: answers of one arm alone compare nothing."""
LEARNT_FROM: Final = 50
"""Answers to the champion before the first bet, from which its probability is learnt."""


@dataclass(frozen=True, slots=True)
class Answers:
    """How often people accepted and declined."""

    accepted: int = 0
    declined: int = 0

    @property
    def count(self) -> int:
        """All of them."""
        return self.accepted + self.declined

    @property
    def rate(self) -> float | None:
        """Share of acceptances; None without an answer."""
        return self.accepted / self.count if self.count else None

    def __add__(self, other: Answers) -> Answers:
        return Answers(self.accepted + other.accepted, self.declined + other.declined)

    def since(self, earlier: Answers) -> Answers:
        """Those that came after."""
        return Answers(self.accepted - earlier.accepted, self.declined - earlier.declined)


@dataclass(frozen=True, slots=True)
class Pair:
    """Answers to both arms."""

    champion: Answers = Answers()
    challenger: Answers = Answers()


@dataclass(frozen=True, slots=True)
class Evidence:
    """That the challenger is worse: logarithms of the product for each drop, and the answers it rests on.

    `seen` are those of each step of the rollout, by its number.
    """

    logs: tuple[float, ...] = (0.0,) * len(DROPS)
    seen: Mapping[int, Pair] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """1 says nothing; 1/alpha refutes, at level alpha, that the challenger is no worse."""
        highest = max(self.logs)
        if highest > _HIGHEST_LOG:
            return exp(_HIGHEST_LOG)
        return sum(exp(each) for each in self.logs) / len(self.logs)

    def refutes(self, alpha: float) -> bool:
        """Whether the challenger is worse, at level `alpha` over the whole rollout."""
        return self.value >= 1 / alpha


_HIGHEST_LOG: Final = 600.0
"""Evidence beyond all doubt, far below what overflows."""


def look(evidence: Evidence, answers: Mapping[int, Pair]) -> Evidence:
    """The evidence after all answers so far, by step; steps with too few new ones wait for more.

    Counts never go down. Where they do, as a file cannot be read, a step waits until they are back: no answer
    is bet on twice.
    """
    champion = sum((pair.champion for pair in evidence.seen.values()), Answers())
    p = (champion.accepted + 1) / (champion.count + 2)
    learnt = champion.count >= LEARNT_FROM
    logs, seen = evidence.logs, dict(evidence.seen)
    for step, now in sorted(answers.items()):
        before = seen.get(step, Pair())
        new = Pair(now.champion.since(before.champion), now.challenger.since(before.challenger))
        if not _went_back(new) and min(new.champion.count, new.challenger.count) >= BLOCK:
            seen[step] = now
            if learnt:
                logs = tuple(each + _log_factor(new, p, drop) for each, drop in zip(logs, DROPS, strict=True))
    return replace(evidence, logs=logs, seen=seen)


def _went_back(new: Pair) -> bool:
    return any(count < 0 for arm in (new.champion, new.challenger) for count in (arm.accepted, arm.declined))


def _log_factor(new: Pair, p: float, drop: float) -> float:
    champion, challenger = new.champion, new.challenger
    q = p * (1 - drop)
    r = (champion.count * p + challenger.count * q) / (champion.count + challenger.count)
    return (
        champion.accepted * log(p / r)
        + champion.declined * log((1 - p) / (1 - r))
        + challenger.accepted * log(q / r)
        + challenger.declined * log((1 - q) / (1 - r))
    )
