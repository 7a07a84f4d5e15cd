"""Looks at what was counted: each window beside what it is compared with, and what the scores promise.

Inputs are compared with the customers a model was trained on. Scores and the mix of actions have no such
reference, as rules decide who is scored and what is returned: they are compared with the windows before.
An activated baseline takes the place of both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from engine.monitor.drift.binning import ModelReference
from engine.monitor.drift.counts import (
    PERCENTS,
    ChannelCounts,
    ModelCounts,
    ScoreTally,
    Tally,
    WindowCounts,
    added_up,
    effective,
)
from engine.monitor.drift.estimating import Estimate, estimate
from engine.monitor.drift.judging import Kind, Side, Variable, Verdict, judge, level
from engine.monitor.drift.windows import DAY_MS, by_day

PREVIOUS_MS: Final = 7 * DAY_MS
"""How far back windows are compared with: a week, so that every day of it is in."""
TRAINING: Final = "training"
PREVIOUS: Final = "previous"
BASELINE: Final = "baseline"
NO_ACTION: Final = "no action"
_PERCENT_EDGES: Final = tuple(percent / PERCENTS for percent in range(1, PERCENTS))


@dataclass(frozen=True, slots=True, eq=False)
class References:
    """What windows are compared with. `training` gives that of a model, such as "churn/1", None for none.

    `numeric` are the inputs whose bins have an order; of the others `labels` are the values, in their order.
    """

    training: Callable[[str], ModelReference | None]
    numeric: frozenset[str]
    baseline: WindowCounts | None = None
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Section:
    """What was found of one model version, or of one channel, in one window.

    `compared_with` names the reference of inputs and that of the rest, "" where there is none.
    """

    subject: str
    window: str  # hour, day, ... : how long it is
    from_ms: int
    until_ms: int
    decisions: int
    effective: float
    compared_with: tuple[str, str]
    verdicts: tuple[Verdict, ...]
    estimates: Mapping[str, Estimate] = field(default_factory=dict)

    @property
    def judged(self) -> bool:
        """Whether there was enough of anything to judge."""
        return any(verdict.measures for verdict in self.verdicts)

    @property
    def alarms(self) -> tuple[Verdict, ...]:
        """The variables that have drifted."""
        return tuple(verdict for verdict in self.verdicts if verdict.alarms)


def window_name(length_ms: int) -> str:
    """How people call a window of this length."""
    if length_ms == DAY_MS:
        return "day"
    minutes = length_ms // 60_000
    return "hour" if minutes == 60 else f"{minutes} min"


def examine(windows: Sequence[WindowCounts], references: References, *, since_ms: int) -> list[Section]:
    """Every window from `since_ms` on and every day they are of, beside its reference; oldest first.

    `windows` reach a week further back, for what is compared with the windows before.
    """
    found: list[Section] = []
    days = by_day(windows)
    for series in (windows, days) if _shorter_than_a_day(windows) else (days,):
        for place, window in enumerate(series):
            if window.until_ms > since_ms:
                before = [w for w in series[:place] if w.from_ms >= window.from_ms - PREVIOUS_MS]
                found += examine_window(window, references, before=before, windows_a_day=_a_day(windows))
    return sorted(found, key=lambda section: (section.from_ms, section.until_ms, section.subject))


def _shorter_than_a_day(windows: Iterable[WindowCounts]) -> bool:
    return any(window.until_ms - window.from_ms < DAY_MS for window in windows)


def _a_day(windows: Sequence[WindowCounts]) -> int:
    """How many windows a day has, by the shortest."""
    return max((DAY_MS // (w.until_ms - w.from_ms) for w in windows), default=1)


def examine_window(
    window: WindowCounts, references: References, *, before: Sequence[WindowCounts], windows_a_day: int
) -> list[Section]:
    """The sections of one window; `before` are the windows before it, of the same length."""
    previous = references.baseline or added_up(before)
    name = BASELINE if references.baseline is not None else PREVIOUS
    sections: list[Section] = []
    for model, counts in sorted(window.models.items()):
        earlier = None if previous is None else previous.models.get(model)
        inputs, compared_with = _inputs(model, counts, references)
        scores = _scores(counts, earlier)
        at = level(counts.decisions, windows_a_day=windows_a_day)
        worth = effective(counts.decisions, counts.customers)
        sections.append(
            _section(
                model,
                window,
                counts,
                (compared_with if inputs else "", name if scores else ""),
                judge([*inputs, *scores], level=at),
                {
                    target: told
                    for target, tally in sorted(counts.scores.items())
                    if (told := estimate(tally, effective=_worth(worth, counts, tally))) is not None
                },
            )
        )
    for channel, mix in sorted(window.channels.items()):
        earlier_mix = None if previous is None else previous.channels.get(channel)
        actions = [] if earlier_mix is None else [_mix(channel, mix, earlier_mix)]
        at = level(mix.decisions, windows_a_day=windows_a_day)
        compared = ("", name if actions else "")
        sections.append(_section(f"channel {channel}", window, mix, compared, judge(actions, level=at), {}))
    return sections


def _section(
    subject: str,
    window: WindowCounts,
    counts: ModelCounts | ChannelCounts,
    compared_with: tuple[str, str],
    verdicts: Sequence[Verdict],
    estimates: Mapping[str, Estimate],
) -> Section:
    return Section(
        subject=subject,
        window=window_name(window.until_ms - window.from_ms),
        from_ms=window.from_ms,
        until_ms=window.until_ms,
        decisions=counts.decisions,
        effective=effective(counts.decisions, counts.customers),
        compared_with=compared_with,
        verdicts=tuple(verdicts),
        estimates=estimates,
    )


def _inputs(model: str, counts: ModelCounts, references: References) -> tuple[list[Variable], str]:
    """The inputs of a model beside the baseline, where it has them over the same bins, else training."""
    training = references.training(model)
    if training is None:
        return [], ""
    worth = effective(counts.decisions, counts.customers)
    baseline = None if references.baseline is None else references.baseline.models.get(model)
    variables = []
    for name, now in counts.inputs.items():
        trained = training.inputs.get(name)
        if trained is None or len(trained.counts) != len(now.bins):
            continue
        if baseline is not None and name in baseline.inputs:
            worth_before = effective(baseline.decisions, baseline.customers)
            reference = _side(baseline.inputs[name], worth_before)
        else:
            reference = Side(trained.counts.astype(np.float64), training.customers, trained.missing)
        labels = references.labels.get(name, ())
        variables.append(
            Variable(
                name,
                Kind.INPUT,
                name in references.numeric,
                reference,
                _side(now, worth),
                edges=tuple(trained.edges.tolist()),
                labels=labels if len(labels) == len(now.bins) else (),
            )
        )
    return variables, TRAINING if baseline is None else BASELINE


def _side(tally: Tally, worth: float) -> Side:
    return Side(tally.bins.astype(np.float64), worth, tally.missing, tally.unknown)


def _scores(counts: ModelCounts, earlier: ModelCounts | None) -> list[Variable]:
    if earlier is None:
        return []
    worth = effective(counts.decisions, counts.customers)
    worth_before = effective(earlier.decisions, earlier.customers)
    return [
        Variable(
            f"score {target}",
            Kind.SCORE,
            True,
            Side(
                earlier.scores[target].bins.astype(np.float64),
                _worth(worth_before, earlier, earlier.scores[target]),
            ),
            Side(tally.bins.astype(np.float64), _worth(worth, counts, tally)),
            edges=_PERCENT_EDGES,
        )
        for target, tally in sorted(counts.scores.items())
        if target in earlier.scores
    ]


def _worth(worth: float, counts: ModelCounts, tally: ScoreTally) -> float:
    """How many independent customers the scores of one target are worth: their part of all."""
    return worth * float(tally.bins.sum()) / counts.decisions


def _mix(channel: str, now: ChannelCounts, earlier: ChannelCounts) -> Variable:
    names = sorted({*now.actions, *earlier.actions})

    def side(counts: ChannelCounts) -> Side:
        bins = np.array([counts.actions.get(name, 0) for name in names], dtype=np.float64)
        return Side(bins, effective(counts.decisions, counts.customers))

    labels = tuple(name or NO_ACTION for name in names)
    return Variable(f"actions {channel}", Kind.MIX, False, side(earlier), side(now), labels=labels)
