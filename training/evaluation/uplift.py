"""What a treatment changes, measured on rows that were treated at random: curves, tenths and intervals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from training.dataset import Floats, Index
from training.evaluation.measures import DECILES, Estimate, rate_of

DRAWS: Final = 400
_ENDS: Final = (0.025, 0.975)
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """Rows with their outcome, 0 or 1, whether they were treated, and the chance they had of it; (n,) each.

    Each row counts by one over the chance of the arm that it is in, so that both arms stand for everybody.
    """

    outcomes: Floats
    treated: Floats
    chances: Floats

    @property
    def treated_weights(self) -> Floats:
        """0 in the control arm."""
        return self.treated / self.chances

    @property
    def control_weights(self) -> Floats:
        """0 in the treated arm."""
        return (1.0 - self.treated) / (1.0 - self.chances)

    def transformed(self, expected: Floats | float = 0.0) -> Floats:
        """Outcomes whose mean, given what is known of a customer, is the uplift (n,).

        `expected` outcomes change nothing of that mean, and take away the part of the noise they explain.
        """
        return (self.outcomes - expected) * (self.treated_weights - self.control_weights)

    def where(self, kept: Flags | Index) -> Trial:
        """Some of the rows."""
        return Trial(self.outcomes[kept], self.treated[kept], self.chances[kept])


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Customers from the highest score down. gains: outcomes more, per customer of all, where so many are
    treated; (points,) each, from 0 to all. Rows of one score go together.
    """

    shares: Floats
    gains: Floats

    @property
    def area(self) -> float:
        """Between the curve and the line of treating as many at random: the Qini coefficient.

        In outcomes per customer, a mean over all shares. 0 at random.
        """
        steps = np.diff(self.shares) * (self.gains[1:] + self.gains[:-1]) / 2.0
        return float(steps.sum() - self.gains[-1] / 2.0)

    def at(self, shares: Floats) -> Floats:
        """Gains where the given shares are treated."""
        return np.asarray(np.interp(shares, self.shares, self.gains), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Effect:
    """What the treatment changed among some rows. `promised` is the mean score."""

    rows: int
    treated: Estimate
    control: Estimate
    uplift: Estimate
    promised: float


@dataclass(frozen=True, slots=True)
class Qini:
    """The Qini coefficient of scores, that of a rival, and how much larger it is, paired."""

    model: Estimate
    rival: Estimate
    gain: Estimate
    slope: Estimate


def curve_of(trial: Trial, scores: Floats, counts: Floats | None = None) -> Curve:
    """The Qini curve. `counts` says how often each row was drawn."""
    order, ends = _ordered(scores)
    return _curve(trial, order, ends, np.ones(len(scores)) if counts is None else counts)


def qini_of(trial: Trial, scores: Floats, rival: Floats, *, seed: int) -> Qini:
    """Coefficients with 95 % intervals by bootstrap within the arms, and the slope of uplift on the score."""
    places = [_ordered(scores), _ordered(rival)]
    transformed = trial.transformed(float(np.average(trial.outcomes)))
    drawn = []
    for counts in (np.ones(len(scores)), *_draws(trial, seed=seed)):
        own, other = (_curve(trial, *place, counts).area for place in places)
        drawn.append((own, other, own - other, _slope(scores, transformed, counts)))
    values = np.array(drawn)
    low, high = np.quantile(values[1:], _ENDS, axis=0)
    found = [Estimate(*each) for each in zip(*(row.tolist() for row in (values[0], low, high)), strict=True)]
    return Qini(*found)


def effect_of(trial: Trial, scores: Floats) -> Effect:
    """Rates of both arms and their difference (Newcombe's interval); NaN where an arm is empty."""
    treated = _rate(trial.outcomes, trial.treated_weights)
    control = _rate(trial.outcomes, trial.control_weights)
    below = np.hypot(treated.value - treated.low, control.high - control.value)
    above = np.hypot(treated.high - treated.value, control.value - control.low)
    uplift = treated.value - control.value
    return Effect(
        rows=len(scores),
        treated=treated,
        control=control,
        uplift=Estimate(uplift, float(uplift - below), float(uplift + above)),
        promised=float(scores.mean()) if len(scores) else float("nan"),
    )


def effects_by_tenth(trial: Trial, scores: Floats) -> tuple[Effect, ...]:
    """Of tenths of the customers, the highest scores first."""
    order = np.argsort(-scores, kind="stable")
    return tuple(effect_of(trial.where(part), scores[part]) for part in np.array_split(order, DECILES))


def promise_error(effects: tuple[Effect, ...]) -> float:
    """Mean distance of what was promised from what was seen, over the tenths."""
    gaps = [abs(e.promised - e.uplift.value) for e in effects]
    return float(np.nanmean(gaps))


def _rate(outcomes: Floats, weights: Floats) -> Estimate:
    """Wilson's interval; rows of unlike weight count as the fewer rows they are worth."""
    total = weights.sum()
    if total == 0.0:
        return Estimate(float("nan"), float("nan"), float("nan"))
    worth = float(total**2 / np.square(weights).sum())
    return rate_of(float(outcomes @ weights / total) * worth, worth)


def _ordered(scores: Floats) -> tuple[Index, Index]:
    """Rows by falling score, and the place of the last row of each score."""
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0.0, True))
    return order, ends


def _curve(trial: Trial, order: Index, ends: Index, counts: Floats) -> Curve:
    of_treated, of_control = trial.treated_weights * counts, trial.control_weights * counts
    sums = [
        np.cumsum(values[order])[ends]
        for values in (
            counts,
            of_treated,
            of_treated * trial.outcomes,
            of_control,
            of_control * trial.outcomes,
        )
    ]
    rows, treated, treated_outcomes, control, control_outcomes = sums
    both = (treated > 0.0) & (control > 0.0)
    uplift = np.divide(treated_outcomes, treated, out=np.zeros(len(ends)), where=both)
    uplift -= np.divide(control_outcomes, control, out=np.zeros(len(ends)), where=both)
    shares = rows / rows[-1]
    return Curve(np.concatenate([[0.0], shares]), np.concatenate([[0.0], uplift * shares]))


def _draws(trial: Trial, *, seed: int) -> Iterator[Floats]:
    """How often each row was drawn, with replacement; each arm keeps its number."""
    rng = np.random.default_rng(seed)
    arms = [np.flatnonzero(trial.treated > 0.5), np.flatnonzero(trial.treated <= 0.5)]
    for _ in range(DRAWS):
        counts = np.zeros(len(trial.treated))
        for arm in arms:
            counts[arm] = np.bincount(rng.integers(len(arm), size=len(arm)), minlength=len(arm))
        yield counts


def _slope(scores: Floats, transformed: Floats, counts: Floats) -> float:
    """Uplift seen per uplift promised; NaN where all scores are alike."""
    centred = scores - np.average(scores, weights=counts)
    spread = float(counts @ centred**2)
    return float(counts @ (centred * transformed)) / spread if spread > 0.0 else float("nan")
