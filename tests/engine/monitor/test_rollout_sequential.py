"""The test of acceptances: false alarms stay as rare as said however often one looks, and a drop is found."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from math import comb, exp

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.monitor.rollout.sequential import (
    BLOCK,
    DROPS,
    LEARNT_FROM,
    Answers,
    Evidence,
    Pair,
    _log_factor,
    look,
)

ALPHA = 0.05
Rate = Callable[[float], float]


def watched(
    champion: Rate, challenger: Rate, *, share: float, answers: int, looks: int, rng: np.random.Generator
) -> int | None:
    """Answers given when a rollout went back, looked at all the time; None where it never did."""
    evidence, seen = Evidence(), np.zeros(4, dtype=int)
    each = answers // looks
    for number in range(looks):
        at = number / looks
        to_challenger = rng.binomial(each, share)
        to_champion = each - to_challenger
        accepted = rng.binomial(to_champion, champion(at)), rng.binomial(to_challenger, challenger(at))
        seen += [accepted[0], to_champion - accepted[0], accepted[1], to_challenger - accepted[1]]
        a, b, c, d = (int(count) for count in seen)
        evidence = look(evidence, {0: Pair(Answers(a, b), Answers(c, d))})
        if evidence.refutes(ALPHA):
            return (number + 1) * each
    return None


ALIKE: dict[str, tuple[Rate, Rate]] = {
    "the same": (lambda _at: 0.2, lambda _at: 0.2),
    "the same, drifting": (lambda at: 0.1 + 0.3 * at, lambda at: 0.1 + 0.3 * at),
    "the same, fallen": (lambda at: 0.3 if at < 0.5 else 0.05, lambda at: 0.3 if at < 0.5 else 0.05),
    "better": (lambda _at: 0.2, lambda _at: 0.22),
}


def alarms(case: str, *, share: float, rollouts: int, answers: int, looks: int) -> int:
    """How many of so many rollouts of a challenger that is no worse went back."""
    rng = np.random.default_rng(11)
    found = (
        watched(*ALIKE[case], share=share, answers=answers, looks=looks, rng=rng) for _ in range(rollouts)
    )
    return sum(at is not None for at in found)


@pytest.mark.parametrize("share", [0.05, 0.5])
@pytest.mark.parametrize("case", ALIKE)
def test_false_alarms_under_continuous_peeking_stay_below_alpha(case: str, share: float) -> None:
    """100 rollouts of 3,000 answers, each looked at 150 times: no more alarms than 5 % allow for."""
    assert alarms(case, share=share, rollouts=100, answers=3000, looks=150) <= 10  # P(more) = 1 %


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.05, 0.5])
@pytest.mark.parametrize("case", ALIKE)
def test_false_alarms_stay_below_alpha_over_many_rollouts(case: str, share: float) -> None:
    """300 rollouts of 10,000 answers, each looked at 500 times."""
    assert alarms(case, share=share, rollouts=300, answers=10_000, looks=500) <= 24  # P(more) = 1 %


@pytest.mark.parametrize(
    ("drop", "share", "within"), [(0.5, 0.05, 8000), (0.5, 0.5, 1500), (0.25, 0.5, 6000)]
)
def test_a_planted_drop_is_found(drop: float, share: float, within: int) -> None:
    """In at least 9 of 10 rollouts, before so many people have answered."""
    rng = np.random.default_rng(12)

    found = [
        watched(
            lambda _at: 0.2, lambda _at: 0.2 * (1 - drop), share=share, answers=within, looks=100, rng=rng
        )
        for _ in range(40)
    ]

    assert sum(at is not None for at in found) >= 36


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 5),
    st.integers(1, 5),
    st.floats(0.01, 0.99),
    st.sampled_from(DROPS),
    st.floats(0.0, 1.0),
    st.floats(0.0, 1.0),
)
def test_no_bet_gains_on_average_where_the_challenger_is_no_worse(
    n: int, m: int, p: float, drop: float, one: float, other: float
) -> None:
    """Over every outcome of a block, weighed by its probability: the factor's mean is at most 1."""
    champion, challenger = sorted((one, other))

    mean = sum(
        comb(n, s) * champion**s * (1 - champion) ** (n - s)
        * comb(m, t) * challenger**t * (1 - challenger) ** (m - t)
        * exp(_log_factor(Pair(Answers(s, n - s), Answers(t, m - t)), p, drop))
        for s, t in product(range(n + 1), range(m + 1))
    )  # fmt: skip

    assert mean <= 1 + 1e-9


def test_answers_of_one_arm_alone_wait_for_the_other() -> None:
    """They compare nothing, and are not lost: the block is closed when both arms have enough."""
    learnt = look(Evidence(), {0: Pair(Answers(20, LEARNT_FROM), Answers(3, BLOCK))})

    alone = look(learnt, {0: Pair(Answers(500, 1000), Answers(3, BLOCK + 2))})
    together = look(alone, {0: Pair(Answers(500, 1000), Answers(3, 3 * BLOCK))})

    assert alone == learnt
    assert together.seen[0] == Pair(Answers(500, 1000), Answers(3, 3 * BLOCK))
    assert together.value != learnt.value == 1.0


def test_steps_are_compared_each_by_itself() -> None:
    """Acceptances that fell for everybody between two steps say nothing against the challenger.

    At the first step 1 % of the answers are the challenger's, at the second half of them, when people accept
    less: taken together it would look much worse.
    """
    rng = np.random.default_rng(5)
    evidence = look(Evidence(), {0: Pair(Answers(100, 100), Answers(10, 10))})
    first = Pair(Answers(5000, 5000), Answers(50, 50))
    second = Pair(Answers(int(rng.binomial(5000, 0.1)), 4500), Answers(int(rng.binomial(5000, 0.1)), 4500))

    apart = look(evidence, {0: first, 1: second})
    taken_together = look(
        evidence,
        {0: Pair(first.champion + second.champion, first.challenger + second.challenger)},
    )

    assert not apart.refutes(ALPHA)
    assert taken_together.refutes(ALPHA)


def test_no_answer_is_bet_on_twice() -> None:
    """A file that could not be read for a moment makes nobody a winner when it is back."""
    full = {0: Pair(Answers(100, 400), Answers(50, 450))}
    before = look(look(Evidence(), {0: Pair(Answers(50, 200), Answers(20, 220))}), full)

    without = look(before, {0: Pair(Answers(10, 40), Answers(10, 40))})
    again = look(without, full)

    assert before.value != 1.0
    assert without == before
    assert again == before


def test_evidence_beyond_all_doubt_does_not_overflow() -> None:
    """A challenger that nobody accepts for a million answers is worse; that is a number."""
    evidence = look(Evidence(), {0: Pair(Answers(500, 500), Answers(500, 500))})

    evidence = look(evidence, {0: Pair(Answers(10**6, 10**6), Answers(500, 10**6))})

    assert evidence.refutes(1e-9)
    assert np.isfinite(evidence.value)
