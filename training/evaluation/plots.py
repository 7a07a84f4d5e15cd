"""The pictures of a model's evaluation."""

from __future__ import annotations

from typing import Final

import numpy as np
from matplotlib.axes import Axes
from sklearn.metrics import precision_recall_curve, roc_curve

from engine.pages.drawing import BLUE, GREY, ORANGE, WIDE, draw
from training.dataset import Floats
from training.evaluation.groups import Group
from training.evaluation.held_out import Explained, HeldOut
from training.evaluation.measures import DECILES, auc_of, gains_of, rate_of

INPUTS_SHOWN: Final = 15
"""Inputs in the plots of drivers, the strongest first; a page with all of hundreds could not be read."""
_POINTS: Final = 800
_BINS: Final = 10


def roc(held: HeldOut) -> str:
    """True against false positive rate, the baseline beside it."""

    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
        for name, scores, color in _scored(held):
            alarms, hits, _ = roc_curve(held.labels, scores)
            axes.plot(alarms, hits, color=color, label=f"{name}, AUC {auc_of(held.labels, scores).value:.3f}")
        axes.set(xlabel="false positive rate", ylabel="true positive rate")
        axes.legend(loc="lower right", frameon=False)

    return draw(paint)


def precision_recall(held: HeldOut) -> str:
    """Precision against recall."""

    def paint(axes: Axes) -> None:
        rate = float(held.labels.mean())
        axes.axhline(rate, color=GREY, linewidth=0.8, linestyle=":", label=f"chance, {rate:.2f}")
        for name, scores, color in _scored(held):
            precision, recall, _ = precision_recall_curve(held.labels, scores)
            axes.plot(recall[:-1], precision[:-1], color=color, label=name)
        axes.set(xlabel="recall", ylabel="precision", ylim=(0, 1.02))
        axes.legend(loc="upper right", frameon=False)

    return draw(paint)


def gains(held: HeldOut) -> str:
    """Which share of the positives is found in which share of the rows."""

    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":", label="at random")
        for name, scores, color in _scored(held):
            found = gains_of(held.labels, scores)
            axes.plot(found.targeted, found.found, color=color, marker="o", ms=3, label=name)
        axes.set(xlabel="share of customers, highest score first", ylabel="share of positives found")
        axes.legend(loc="lower right", frameon=False)

    return draw(paint)


def lift(held: HeldOut) -> str:
    """The rate of each tenth over the rate of all."""

    def paint(axes: Axes) -> None:
        found = gains_of(held.labels, held.probabilities)
        axes.bar(np.arange(1, DECILES + 1), np.nan_to_num(found.lift), color=BLUE, width=0.7)
        axes.axhline(1.0, color=GREY, linewidth=0.8, linestyle=":")
        axes.set(xlabel="tenth of customers, highest score first", ylabel="times the overall rate")
        axes.set_xticks(np.arange(1, DECILES + 1))

    return draw(paint)


def calibration(held: HeldOut) -> str:
    """What happened against what was promised, in ten bins of equally many rows with Wilson intervals."""

    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
        for name, scores, color, marker in (
            ("before calibration", held.uncalibrated, ORANGE, "x"),
            ("after", held.probabilities, BLUE, "o"),
        ):
            promised, seen, below, above = _rates(scores, held.labels)
            axes.errorbar(
                promised,
                seen,
                yerr=(below, above),
                color=color,
                marker=marker,
                ms=4,
                lw=1,
                elinewidth=0.6,
                label=name,
            )
        axes.set(xlabel="promised", ylabel="seen")
        axes.legend(loc="upper left", frameon=False)

    return draw(paint)


def scores(held: HeldOut) -> str:
    """How probabilities of the two labels are distributed."""

    def paint(axes: Axes) -> None:
        edges = np.linspace(0.0, 1.0, 41).tolist()
        for name, kept, color in (
            ("label 0", held.labels <= 0.5, GREY),
            ("label 1", held.labels > 0.5, ORANGE),
        ):
            axes.hist(held.probabilities[kept], edges, color=color, alpha=0.6, label=name)
        axes.set(xlabel="probability", ylabel="rows")
        axes.legend(loc="upper right", frameon=False)

    return draw(paint)


def importance(held: Explained, *, unit: str = "log-odds") -> str:
    """Mean absolute Shapley value of the strongest inputs."""
    order = strongest(held)[::-1]
    strength = np.abs(held.shares).mean(axis=0)

    def paint(axes: Axes) -> None:
        axes.barh(np.arange(len(order)), strength[order], 0.6, color=BLUE)
        axes.set_yticks(np.arange(len(order)), [held.names[place] for place in order])
        axes.set(xlabel=f"mean |Shapley value|, {unit}")

    return draw(paint, width=WIDE, height=_tall(len(order)))


def summary(held: Explained, *, seed: int, unit: str = "log-odds") -> str:
    """Each row a dot: how far the input moves its score, coloured by the input's value among the rows."""
    order = strongest(held)[::-1]
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(held.rows))[:_POINTS]

    def paint(axes: Axes) -> None:
        axes.axvline(0.0, color=GREY, linewidth=0.8)
        points = None
        for line, place in enumerate(order):
            values = held.rows[chosen, place].astype(np.float64)
            shares = held.shares[chosen, place]
            known = ~np.isnan(values)
            heights = line + _swarm(shares, rng)
            axes.scatter(shares[~known], heights[~known], s=3, color=GREY, rasterized=True)
            points = axes.scatter(
                shares[known],
                heights[known],
                s=3,
                c=_places_among(values[known]),
                cmap="coolwarm",
                vmin=0,
                vmax=1,
                rasterized=True,
            )
        axes.set_yticks(np.arange(len(order)), [held.names[place] for place in order])
        axes.set(xlabel=f"Shapley value, {unit}")
        if points is not None and axes.figure is not None:
            bar = axes.figure.colorbar(points, ax=axes, ticks=[0, 1], aspect=40)
            bar.ax.set_yticklabels(["low", "high"])
            bar.set_label("value of the input; grey where missing")

    return draw(paint, width=WIDE, height=max(2.8, _tall(len(order))))


def by_group(groups: tuple[Group, ...]) -> str:
    """AUC of each part that is large enough, with its interval."""
    shown = [group for group in groups if group.auc is not None and group.judged][::-1]

    def paint(axes: Axes) -> None:
        for line, group in enumerate(shown):
            assert group.auc is not None
            axes.plot([group.auc.low, group.auc.high], [line, line], color=BLUE, linewidth=1.2)
            axes.plot([group.auc.value], [line], color=BLUE, marker="o", ms=4)
        axes.set_yticks(np.arange(len(shown)), [f"{g.attribute} = {g.value}" for g in shown])
        axes.set(xlabel="AUC with 95 % interval")

    return draw(paint, width=WIDE, height=_tall(len(shown)))


def strongest(held: Explained) -> list[int]:
    """Places of the inputs that move scores most, strongest first."""
    strength = np.abs(held.shares).mean(axis=0)
    return [int(place) for place in np.argsort(-strength, kind="stable")[:INPUTS_SHOWN]]


def _scored(held: HeldOut) -> list[tuple[str, Floats, str]]:
    both = [("model", held.probabilities, BLUE)]
    if held.baseline is not None:
        both.insert(0, ("logistic regression", held.baseline, ORANGE))
    return both


def _rates(probabilities: Floats, labels: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    bins = [b for b in np.array_split(np.argsort(probabilities, kind="stable"), _BINS) if len(b)]
    seen = [rate_of(float(labels[b].sum()), len(b)) for b in bins]
    rates = np.array([rate.value for rate in seen])
    return (
        np.array([probabilities[b].mean() for b in bins]),
        rates,
        rates - np.array([rate.low for rate in seen]).clip(max=rates),
        np.array([rate.high for rate in seen]).clip(min=rates) - rates,
    )


def _places_among(values: Floats) -> Floats:
    """Where each value stands among the others, from 0 to 1; ties stand together."""
    known = np.unique(values)
    if len(known) < 2:
        return np.full(len(values), 0.5)
    return np.searchsorted(known, values) / (len(known) - 1)


def _swarm(shares: Floats, rng: np.random.Generator) -> Floats:
    """Heights about 0, wider where many dots fall together."""
    counts, edges = np.histogram(shares, 40)
    crowd = counts[np.clip(np.searchsorted(edges, shares, "right") - 1, 0, 39)]
    widest: Floats = rng.uniform(-0.38, 0.38, len(shares)) * np.sqrt(crowd / max(1, counts.max()))
    return widest


def _tall(lines: int) -> float:
    return 0.8 + 0.24 * max(1, lines)
