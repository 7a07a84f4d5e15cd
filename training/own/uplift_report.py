"""What the evaluation of an uplift model says to those who decide whom to treat by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from engine.pages.drawing import BLUE, GREEN, GREY, ORANGE, draw
from engine.pages.page import Grid, Headline, Page, Plot, Section
from training.dataset import Floats
from training.evaluation.measures import DECILES, Estimate
from training.evaluation.report import Facts, drivers, origin
from training.evaluation.uplift import Effect, curve_of, effect_of

if TYPE_CHECKING:
    from training.own.uplift_evidence import UpliftEvidence

GroupEffect = tuple[str, str, npt.NDArray[np.bool_], Effect]


def uplift_page(
    evidence: UpliftEvidence, facts: Facts, groups: tuple[GroupEffect, ...], *, seed: int
) -> Page:
    """The whole report. `seed` draws the dots of the Shapley plot."""
    sections = [
        _ranking(evidence),
        _policy(evidence),
        _promises(evidence),
        drivers(evidence, seed=seed, unit="uplift"),
        *([_among_groups(evidence, groups)] if groups else []),
        origin(facts),
    ]
    return Page(
        title=f"{facts.name} {facts.version}".strip(),
        subtitle="What the treatment changes, on rows that training never saw",
        lead=facts.intended_use,
        headlines=_headlines(evidence),
        warned=facts.warned,
        sections=sections,
        made=facts.made,
    )


def _headlines(evidence: UpliftEvidence) -> list[Headline]:
    qini, overall = evidence.qini, evidence.overall
    trial = evidence.trial
    return [
        Headline(
            "Qini coefficient",
            f"{qini.model.value:.4f}",
            f"95 % interval {qini.model.low:.4f} to {qini.model.high:.4f}; at random 0",
            "good" if qini.model.low > 0.0 else "bad",
        ),
        Headline("Qini over a response model", f"{qini.gain.value:+.4f}", _signed(qini.gain)),
        Headline("Uplift of treating all", f"{overall.uplift.value:+.2%}", _percents(overall.uplift)),
        Headline(
            "Worth treating",
            f"{evidence.worth_treating.mean():.0%}",
            f"uplift above {evidence.treat_above:g}",
        ),
        Headline(
            "Rows held out", f"{len(trial.outcomes):,}", f"{trial.treated.mean():.0%} treated, at random"
        ),
    ]


def _ranking(evidence: UpliftEvidence) -> Section:
    first = evidence.tenths[0]
    return Section(
        title="Whom the treatment changes",
        lead="Outcomes that the treatment adds, per customer of all, where so many are treated from the "
        "highest score down. The Qini coefficient is the mean height above the line of treating at random; a "
        "response model ranks by how likely the outcome is once treated, not by what the treatment adds.",
        blocks=[
            Plot("Qini curve", _qini_plot(evidence), f"Qini coefficient {evidence.qini.model.value:.4f}"),
            Plot(
                "Uplift by tenth",
                _tenths_plot(evidence),
                f"Uplift of {first.uplift.value:.1%} in the first tenth",
            ),
            Grid(
                title="By tenth of customers, highest score first",
                head=("tenth", "rows", "treated", "control", "uplift (95 % interval)", "promised"),
                lines=[(str(n), *_effect_line(effect)) for n, effect in enumerate(evidence.tenths, 1)],
                numbers=frozenset(range(6)),
            ),
        ],
    )


def _policy(evidence: UpliftEvidence) -> Section:
    worth = evidence.worth_treating
    curve = curve_of(evidence.trial, evidence.scores)
    best = int(curve.gains.argmax())
    parts = {
        f"promised more than {evidence.treat_above:g}: treat": worth,
        "the others: leave alone": ~worth,
        "promised less than 0: never treat": evidence.scores < 0.0,
        "all": np.ones(len(worth), dtype=np.bool_),
    }
    return Section(
        title="What to do with it",
        lead=f"Of 1,000 customers, treating the {1000 * float(worth.mean()):,.0f} promised more than "
        f"{evidence.treat_above:g} adds {1000 * _added(evidence, worth):,.1f} outcomes; treating all adds "
        f"{1000 * float(curve.gains[-1]):,.1f}. On these rows the most, "
        f"{1000 * float(curve.gains[best]):,.1f}, was added by treating "
        f"{float(curve.shares[best]):.0%}: the best of many shares looks better than it will be.",
        blocks=[
            Grid(
                title="Parts",
                head=("who", "share", "rows", "treated", "control", "uplift (95 % interval)", "promised"),
                lines=[
                    (
                        name,
                        f"{members.mean():.1%}",
                        *_effect_line(effect_of(evidence.trial.where(members), evidence.scores[members])),
                    )
                    for name, members in parts.items()
                ],
                numbers=frozenset(range(1, 7)),
            )
        ],
    )


def _added(evidence: UpliftEvidence, members: npt.NDArray[np.bool_]) -> float:
    """Outcomes more per customer of all; 0 where nobody is treated."""
    if not members.any():
        return 0.0
    effect = effect_of(evidence.trial.where(members), evidence.scores[members])
    return float(members.mean()) * effect.uplift.value


def _promises(evidence: UpliftEvidence) -> Section:
    slope = evidence.qini.slope
    return Section(
        title="Whether it keeps its promises",
        lead=f"Uplift seen rises by {slope.value:.2f} ({slope.low:.2f} to {slope.high:.2f}) for each 1 "
        "promised: 1 is right, less than 1 promises differences that are not there.",
        blocks=[
            Plot("Calibration", _calibration_plot(evidence), "Uplift seen against promised, by tenth"),
            Plot("Scores", _scores_plot(evidence), "Distribution of promised uplift"),
        ],
    )


def _among_groups(evidence: UpliftEvidence, groups: tuple[GroupEffect, ...]) -> Section:
    return Section(
        title="Among parts of the customers",
        lead="Intervals that overlap are no difference. Worth treating: promised more than it costs.",
        blocks=[
            Grid(
                title="Parts",
                head=(
                    "part",
                    "rows",
                    "treated",
                    "control",
                    "uplift (95 % interval)",
                    "promised",
                    "worth treating",
                ),
                lines=[
                    (
                        f"{attribute} = {value}",
                        *_effect_line(effect),
                        f"{evidence.worth_treating[members].mean():.0%}",
                    )
                    for attribute, value, members, effect in groups
                ],
                numbers=frozenset(range(1, 7)),
            )
        ],
    )


def _qini_plot(evidence: UpliftEvidence) -> str:
    def paint(axes: Axes) -> None:
        model, rival = (curve_of(evidence.trial, s) for s in (evidence.scores, evidence.response))
        axes.plot([0, 1], [0, model.gains[-1]], color=GREY, linewidth=0.8, linestyle=":", label="at random")
        places = np.linspace(0, 1, 201)
        axes.plot(places, rival.at(places), color=ORANGE, linewidth=1, label="response model")
        axes.plot(places, model.at(places), color=BLUE, label="uplift model")
        axes.set(xlabel="share of customers treated", ylabel="outcomes added per customer")
        axes.legend(loc="best", frameon=False)

    return draw(paint)


def _tenths_plot(evidence: UpliftEvidence) -> str:
    seen, below, above = _seen(evidence.tenths)

    def paint(axes: Axes) -> None:
        places = np.arange(1, DECILES + 1)
        axes.bar(places, np.nan_to_num(seen), color=GREEN, width=0.7, alpha=0.8)
        axes.errorbar(places, seen, yerr=(below, above), color=GREY, fmt="none", lw=1)
        axes.plot(
            places, [e.promised for e in evidence.tenths], color=BLUE, marker="o", ms=3, label="promised"
        )
        axes.axhline(0.0, color=GREY, linewidth=0.8)
        axes.set(xlabel="tenth of customers, highest score first", ylabel="uplift")
        axes.set_xticks(places)
        axes.legend(loc="upper right", frameon=False)

    return draw(paint)


def _calibration_plot(evidence: UpliftEvidence) -> str:
    seen, below, above = _seen(evidence.tenths)
    promised = np.array([effect.promised for effect in evidence.tenths])

    def paint(axes: Axes) -> None:
        ends = [promised.min(), promised.max()]
        axes.plot(ends, ends, color=GREY, linewidth=0.8, linestyle=":")
        axes.errorbar(promised, seen, yerr=(below, above), color=BLUE, fmt="o", ms=4, lw=1)
        axes.set(xlabel="promised", ylabel="seen, with 95 % interval")

    return draw(paint)


def _scores_plot(evidence: UpliftEvidence) -> str:
    def paint(axes: Axes) -> None:
        axes.hist(evidence.scores, 40, color=BLUE, alpha=0.7)
        axes.axvline(evidence.treat_above, color=ORANGE, linewidth=1, label="worth treating from here")
        axes.set(xlabel="promised uplift", ylabel="rows")
        axes.legend(loc="best", frameon=False)

    return draw(paint)


def _seen(effects: tuple[Effect, ...]) -> tuple[Floats, Floats, Floats]:
    seen = np.array([e.uplift.value for e in effects])
    return (
        seen,
        seen - np.array([e.uplift.low for e in effects]),
        np.array([e.uplift.high for e in effects]) - seen,
    )


def _effect_line(effect: Effect) -> tuple[str, str, str, str, str]:
    if not np.isfinite(effect.uplift.value):
        return (f"{effect.rows:,}", "–", "–", "an arm is empty", "–")
    return (
        f"{effect.rows:,}",
        f"{effect.treated.value:.1%}",
        f"{effect.control.value:.1%}",
        f"{effect.uplift.value:+.1%} ({_percents(effect.uplift)})",
        f"{effect.promised:+.1%}",
    )


def _percents(estimate: Estimate) -> str:
    return f"{estimate.low:+.1%} to {estimate.high:+.1%}"


def _signed(estimate: Estimate) -> str:
    where = f"{estimate.low:+.4f} to {estimate.high:+.4f}"
    return where if estimate.low > 0.0 or estimate.high < 0.0 else f"{where}: no clear difference"
