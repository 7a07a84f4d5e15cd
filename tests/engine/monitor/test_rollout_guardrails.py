"""Guardrails: each breaks for what it watches, and chance alone breaks none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from engine.monitor.rollout.counts import ArmCounts, StepCounts, added_up, answers_of
from engine.monitor.rollout.guardrails import score_shift, violations
from engine.monitor.rollout.sequential import Answers, Evidence, Pair, look
from model_registry.rollout import Guardrails

GUARDRAILS = Guardrails(decisions=200)


def arm(
    count: int, *, seconds: Sequence[float] = (0.001,), scores: Sequence[float] = (0.3,), failed: int = 0
) -> ArmCounts:
    """An arm with so many decisions, whose times and scores go round."""
    counts = ArmCounts()
    for number in range(count):
        counts.count(
            seconds=seconds[number % len(seconds)],
            score=scores[number % len(scores)],
            failed=number < failed,
        )
    return counts


def broken(champion: ArmCounts, challenger: ArmCounts) -> list[str]:
    """Names of the guardrails that break."""
    found = violations(GUARDRAILS, {0: StepCounts(champion, challenger)}, 0, Evidence())
    return [violation.guardrail for violation in found]


@pytest.mark.parametrize(
    ("challenger", "expected"),
    [
        (arm(300), []),
        (arm(300, failed=2), []),  # too few to say anything
        (arm(300, failed=9), ["errors"]),
        (arm(50, failed=3), ["errors"]),  # failures are told at once
        (arm(300, seconds=[0.004]), ["latency"]),
        (arm(100, seconds=[0.004]), []),  # not enough decisions yet
        (arm(300, seconds=[0.0015]), []),
        (arm(300, seconds=[0.001] * 24 + [0.5]), []),  # 4 % slow ones are beyond the percentile
        (arm(300, scores=[0.8]), ["scores"]),
        (arm(300, failed=300, seconds=[0.1], scores=[0.9]), ["errors", "latency", "scores"]),
    ],
)
def test_each_guardrail_breaks_for_what_it_watches(challenger: ArmCounts, expected: list[str]) -> None:
    """Beside a champion of a thousand decisions of a millisecond."""
    assert expected == broken(arm(1000), challenger)


def test_a_champion_that_fails_as_often_excuses_the_challenger() -> None:
    """What breaks for both, such as a store, is not the challenger's fault."""
    assert broken(arm(1000, failed=100), arm(300, failed=30)) == []


def test_microseconds_do_not_break_the_latency_guardrail() -> None:
    """Three times as slow is nothing where it is 100 microseconds."""
    assert broken(arm(1000, seconds=[0.0001]), arm(300, seconds=[0.0003])) == []


def test_at_the_last_share_the_champion_of_the_step_before_is_compared_with() -> None:
    """At 100 % nobody is left to be scored by the champion."""
    steps = {0: StepCounts(arm(1000), arm(300)), 1: StepCounts(ArmCounts(), arm(300, seconds=[0.05]))}

    found = violations(GUARDRAILS, steps, 1, Evidence())

    assert [violation.guardrail for violation in found] == ["latency"]


def test_worse_acceptances_break_the_outcome_guardrail() -> None:
    """The text tells both rates and the evidence."""
    evidence = look(Evidence(), {0: Pair(Answers(200, 200), Answers(50, 50))})
    evidence = look(evidence, {0: Pair(Answers(600, 600), Answers(60, 400))})

    (found,) = violations(GUARDRAILS, {}, 0, evidence)

    assert found.guardrail == "outcomes"
    assert "13.04% of 460 answers, the champion 50.00% of 1,200" in found.told


def test_samples_of_one_distribution_shift_little_whatever_their_size() -> None:
    """The index less its bias: 400 pairs of samples, none of them beyond half the limit and chance."""
    rng = np.random.default_rng(3)
    shares = rng.dirichlet(np.ones(20))

    found = [
        score_shift(rng.multinomial(5000, shares).tolist(), rng.multinomial(size, shares).tolist())
        for size in (50, 200, 1000, 5000)
        for _ in range(100)
    ]

    assert all(shift < Guardrails().score_psi / 2 + chance for shift, chance in found)
    assert np.median([shift for shift, _ in found]) < 0.01
    assert found[-1][1] < 0.02  # what chance allows for goes with the samples' sizes


def test_a_shift_of_half_a_standard_deviation_is_seen() -> None:
    """About 0.25 in theory: PSI of two normal distributions is the shift squared."""
    rng = np.random.default_rng(4)
    edges = np.linspace(-4, 4, 21)
    champion, challenger = (
        np.histogram(rng.normal(at, 1, 20_000), bins=edges)[0].tolist() for at in (0, 0.5)
    )

    assert score_shift(champion, challenger)[0] == pytest.approx(0.25, rel=0.1)


@pytest.mark.parametrize(("score", "place"), [(0.0, 0), (1e-9, 0), (0.5, 10), (1 - 1e-9, 19), (1.0, 19)])
def test_every_score_has_its_place(score: float, place: int) -> None:
    """Ends of the scale included."""
    counts = ArmCounts()

    counts.count(seconds=0.001, score=score, failed=False)

    assert counts.scores.index(1) == place


def test_a_percentile_of_times_is_within_a_fifth() -> None:
    """Of what was counted, from 100 microseconds to a second."""
    rng = np.random.default_rng(6)
    times = 10 ** rng.uniform(-4, 0, 5000)
    counts = ArmCounts()
    for seconds in times:
        counts.count(seconds=float(seconds), score=None, failed=False)

    found = counts.latency_s(0.95)

    exact = float(np.quantile(times, 0.95))
    assert found is not None
    assert exact <= found <= 1.2 * exact


def test_counts_of_processes_add_up_by_step() -> None:
    """Whatever steps each of them saw."""
    one = {0: StepCounts(arm(10), arm(2)), 1: StepCounts(arm(1), arm(1))}
    other = {1: StepCounts(arm(5), arm(3, failed=1))}
    other[1].challenger.accepted = 2

    total = added_up([one, other])

    assert {
        number: (step.champion.decisions, step.challenger.decisions) for number, step in total.items()
    } == {0: (10, 2), 1: (6, 4)}
    assert (total[1].challenger.failed, sum(total[1].challenger.latency)) == (1, 4)
    assert answers_of(total)[1] == Pair(Answers(), Answers(2, 0))
    assert one[1].challenger.decisions == 1
