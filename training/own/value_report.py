"""What the evaluation of a model of customers' value says to those who spend by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes

from engine.pages.drawing import BLUE, GREY, ORANGE, draw
from engine.pages.page import Grid, Headline, Page, Plot, Section
from training.evaluation.measures import DECILES
from training.evaluation.report import Facts, drivers, origin
from training.evaluation.value import errors_of, lorenz, rank_correlation

if TYPE_CHECKING:
    from training.own.value_evidence import GroupWorth, ValueEvidence

_POINTS = 1500


def value_page(evidence: ValueEvidence, facts: Facts, groups: tuple[GroupWorth, ...], *, seed: int) -> Page:
    """The whole report. `seed` draws the dots of the plots."""
    sections = [
        _ranking(evidence),
        _amounts(evidence, seed=seed),
        drivers(evidence, seed=seed, unit="logarithm of the value"),
        *([_among_groups(groups)] if groups else []),
        origin(facts),
    ]
    return Page(
        title=f"{facts.name} {facts.version}".strip(),
        subtitle=f"Value in {evidence.currency}, evaluated on rows that training never saw",
        lead=facts.intended_use,
        headlines=_headlines(evidence),
        warned=facts.warned,
        sections=sections,
        made=facts.made,
    )


def _headlines(evidence: ValueEvidence) -> list[Headline]:
    gini, gain = evidence.gini
    own, beside = (errors_of(evidence.counted, each) for each in (evidence.predicted, evidence.baseline))
    clear = gain.low > 0.0 or gain.high < 0.0
    capped = (evidence.amounts > evidence.counted).sum()
    return [
        Headline(
            "Gini of value captured", f"{gini.value:.3f}", f"95 % interval {gini.low:.3f} to {gini.high:.3f}"
        ),
        Headline(
            "Gini over linear regression",
            f"{gain.value:+.3f}",
            f"{gain.low:+.3f} to {gain.high:+.3f}" + ("" if clear else ": no clear difference"),
        ),
        Headline(
            "Predicted over actual total",
            f"{evidence.total.value:.2f}",
            f"95 % interval {evidence.total.low:.2f} to {evidence.total.high:.2f}",
            "good" if evidence.total.low <= 1.0 <= evidence.total.high else "bad",
        ),
        Headline("Mean error", f"{own.mae:,.0f} {evidence.currency}", f"linear regression {beside.mae:,.0f}"),
        Headline(
            "Rows held out",
            f"{len(evidence.counted):,}",
            f"mean {evidence.counted.mean():,.0f} {evidence.currency}"
            + (f"; {capped:,} count as {evidence.cap:,.0f}" if evidence.cap is not None else ""),
        ),
    ]


def _ranking(evidence: ValueEvidence) -> Section:
    own, beside = (rank_correlation(evidence.counted, s) for s in (evidence.predicted, evidence.baseline))
    first = evidence.tenths[0]
    return Section(
        title="How well it ranks",
        lead=f"The first tenth holds {first.captured:.0%} of the value. The rank correlation with the actual "
        f"amounts is {own:.3f}, of the linear regression {beside:.3f}.",
        blocks=[
            Plot("Value captured", _captured_plot(evidence), f"{first.captured:.0%} in the first tenth"),
            Plot("By tenth", _tenths_plot(evidence), "Mean amount predicted and actual, by tenth"),
            Grid(
                title="By tenth of customers, highest prediction first",
                head=("tenth", "rows", "predicted sum", "actual sum", "ratio", "value captured so far"),
                lines=[
                    (
                        str(number),
                        f"{tenth.rows:,}",
                        f"{tenth.predicted:,.0f}",
                        f"{tenth.actual:,.0f}",
                        f"{tenth.ratio:.2f}" if np.isfinite(tenth.ratio) else "–",
                        f"{tenth.captured:.1%}",
                    )
                    for number, tenth in enumerate(evidence.tenths, 1)
                ],
                numbers=frozenset(range(6)),
            ),
        ],
    )


def _amounts(evidence: ValueEvidence, *, seed: int) -> Section:
    lines = []
    for name, predicted in (("model", evidence.predicted), ("linear regression", evidence.baseline)):
        errors = errors_of(evidence.counted, predicted)
        mape = f"{errors.mape:.0%}" if np.isfinite(errors.mape) else "–"
        lines.append((name, f"{errors.mae:,.1f}", f"{errors.rmse:,.1f}", mape, f"{predicted.sum():,.0f}"))
    counted = (
        f"amounts count as {evidence.cap:,.2f} at most"
        if evidence.cap is not None
        else "all amounts count in full"
    )
    return Section(
        title="How near it comes",
        lead=f"The actual total is {evidence.counted.sum():,.0f} {evidence.currency}; {counted}.",
        blocks=[
            Plot("Actual against predicted", _scatter(evidence, seed=seed), "Each dot a customer"),
            Plot("Distribution", _distribution(evidence), "Amounts actual and predicted"),
            Grid(
                title=f"Errors in {evidence.currency}",
                head=("", "mean absolute", "root mean square", "mean of positive amounts, relative", "total"),
                lines=lines,
                numbers=frozenset(range(1, 5)),
            ),
        ],
    )


def _among_groups(groups: tuple[GroupWorth, ...]) -> Section:
    return Section(
        title="Among parts of the customers",
        lead="Selected means among the fifth with the highest predictions. A ratio above 1 is too much.",
        blocks=[
            Grid(
                title="Parts",
                head=(
                    "part",
                    "rows",
                    "mean actual",
                    "mean predicted",
                    "ratio",
                    "rank correlation",
                    "selected",
                ),
                lines=[
                    (
                        f"{group.attribute} = {group.value}",
                        f"{group.rows:,}",
                        f"{group.actual:,.1f}",
                        f"{group.predicted:,.1f}",
                        f"{group.ratio:.2f}" if np.isfinite(group.ratio) else "–",
                        f"{group.rank_correlation:.2f}",
                        f"{group.selected:.0%}",
                    )
                    for group in groups
                ],
                numbers=frozenset(range(1, 7)),
            )
        ],
    )


def _captured_plot(evidence: ValueEvidence) -> str:
    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":", label="at random")
        for name, scores, style in (
            ("best possible", evidence.counted, {"color": GREY, "linewidth": 0.8}),
            ("linear regression", evidence.baseline, {"color": ORANGE, "linewidth": 1.0}),
            ("model", evidence.predicted, {"color": BLUE}),
        ):
            shares, captured = lorenz(evidence.counted, scores)
            places = np.linspace(0, 1, 201)
            axes.plot(places, np.interp(places, shares, captured), label=name, **style)
        axes.set(xlabel="share of customers, highest first", ylabel="share of the value")
        axes.legend(loc="lower right", frameon=False)

    return draw(paint)


def _tenths_plot(evidence: ValueEvidence) -> str:
    def paint(axes: Axes) -> None:
        places = np.arange(1, DECILES + 1)
        actual, predicted = (
            [getattr(t, what) / max(1, t.rows) for t in evidence.tenths] for what in ("actual", "predicted")
        )
        axes.bar(places, actual, color=GREY, width=0.7, label="actual")
        axes.plot(places, predicted, color=BLUE, marker="o", ms=3, label="predicted")
        axes.set(xlabel="tenth of customers, highest first", ylabel=f"mean {evidence.currency}")
        axes.set_xticks(places)
        axes.legend(loc="upper right", frameon=False)

    return draw(paint)


def _scatter(evidence: ValueEvidence, *, seed: int) -> str:
    chosen = np.random.default_rng(seed).permutation(len(evidence.counted))[:_POINTS]

    def paint(axes: Axes) -> None:
        predicted, actual = np.log1p(evidence.predicted[chosen]), np.log1p(evidence.counted[chosen])
        ends = [float(min(predicted.min(), actual.min())), float(max(predicted.max(), actual.max()))]
        axes.plot(ends, ends, color=GREY, linewidth=0.8, linestyle=":")
        axes.scatter(predicted, actual, s=3, color=BLUE, alpha=0.5, rasterized=True)
        axes.set(xlabel="log(1 + predicted)", ylabel="log(1 + actual)")

    return draw(paint)


def _distribution(evidence: ValueEvidence) -> str:
    def paint(axes: Axes) -> None:
        both = np.log1p(np.concatenate([evidence.counted, evidence.predicted]))
        edges = np.linspace(float(both.min()), float(both.max()), 41).tolist()
        axes.hist(np.log1p(evidence.counted), edges, color=GREY, alpha=0.6, label="actual")
        axes.hist(np.log1p(evidence.predicted), edges, color=BLUE, alpha=0.6, label="predicted")
        axes.set(xlabel=f"log(1 + {evidence.currency})", ylabel="rows")
        axes.legend(loc="upper right", frameon=False)

    return draw(paint)
