"""What the evaluation of a classifier says to those who decide whether it may serve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.pages.page import Grid, Headline, Page, Plot, Section, Warned
from training.calibration import calibration_error
from training.evaluation import plots
from training.evaluation.groups import FEWEST_OF_A_LABEL, FEWEST_ROWS, Gap, Group, gaps_of, groups_of
from training.evaluation.held_out import Explained, HeldOut
from training.evaluation.measures import DECILES, Estimate, auc_gain_of, auc_of, gains_of

MOST_ECE = 0.03


@dataclass(frozen=True, slots=True)
class Facts:
    """What a report says beside what was measured: who, what, from what."""

    name: str
    version: str
    intended_use: str
    made: str
    training: Sequence[tuple[str, str]]  # what and its value: source, rows, split, seeds, libraries
    columns: Sequence[tuple[str, str, str, str]]  # column, type inferred, missing share, use
    warned: Sequence[Warned] = ()
    gates: Sequence[tuple[str, str, str, bool]] = ()  # gate, figure, limit, passed


def evaluation_page(held: HeldOut, facts: Facts, *, seed: int) -> Page:
    """The whole report. `seed` draws bootstraps and the dots of the Shapley plot."""
    groups = groups_of(held)
    sections = [
        _discrimination(held),
        _calibrated(held),
        drivers(held, seed=seed),
        *([_fairness(groups, gaps_of(held, seed=seed))] if groups else []),
        origin(facts),
    ]
    return Page(
        title=f"{facts.name} {facts.version}".strip(),
        subtitle="Evaluation on rows that neither training nor calibration saw",
        lead=facts.intended_use,
        headlines=_headlines(held),
        warned=facts.warned,
        sections=sections,
        made=facts.made,
    )


def _headlines(held: HeldOut) -> list[Headline]:
    auc = auc_of(held.labels, held.probabilities)
    error = calibration_error(probabilities=held.probabilities, labels=held.labels)
    first = float(gains_of(held.labels, held.probabilities).lift[0])
    told = [
        Headline("AUC", f"{auc.value:.3f}", f"95 % interval {auc.low:.3f} to {auc.high:.3f}"),
        Headline(
            "Calibration error", f"{error:.3f}", "ECE, ten bins", "good" if error <= MOST_ECE else "bad"
        ),
        Headline("Lift of the first tenth", f"{first:.1f}x"),
        Headline("Rows held out", f"{len(held.labels):,}", f"{held.labels.mean():.1%} positive"),
    ]
    if held.baseline is not None:
        gain = auc_gain_of(held.labels, held.probabilities, held.baseline)
        told.insert(1, Headline("AUC over logistic regression", f"{gain.value:+.3f}", _within(gain)))
    return told


def _within(gain: Estimate) -> str:
    where = f"{gain.low:+.3f} to {gain.high:+.3f}"
    return where if gain.low > 0 or gain.high < 0 else f"{where}: no clear difference"


def _discrimination(held: HeldOut) -> Section:
    found = gains_of(held.labels, held.probabilities)
    grid = Grid(
        title="By tenth of customers",
        head=("tenth", "lift", "positives found so far"),
        lines=[
            (str(part + 1), f"{found.lift[part]:.2f}", f"{found.found[part + 1]:.1%}")
            for part in range(DECILES)
        ],
        numbers=frozenset({0, 1, 2}),
    )
    return Section(
        title="How well it ranks",
        lead="A model ranks well where customers with the label stand above those without.",
        blocks=[
            Plot("ROC", plots.roc(held), _words("ROC curve", auc_of(held.labels, held.probabilities))),
            Plot("Precision and recall", plots.precision_recall(held), "Precision against recall"),
            Plot("Gains", plots.gains(held), f"{found.found[2]:.0%} of positives in the first two tenths"),
            Plot("Lift", plots.lift(held), f"Lift of {found.lift[0]:.1f} in the first tenth"),
            grid,
        ],
    )


def _words(what: str, estimate: Estimate) -> str:
    return f"{what}, area {estimate}"


def _calibrated(held: HeldOut) -> Section:
    before = calibration_error(probabilities=held.uncalibrated, labels=held.labels)
    after = calibration_error(probabilities=held.probabilities, labels=held.labels)
    return Section(
        title="Whether it keeps its promises",
        lead="Of customers scored 0.3, three in ten should have the label. The mean gap is "
        f"{after:.3f}, and was {before:.3f} before calibration.",
        blocks=[
            Plot("Calibration", plots.calibration(held), f"Calibration error {after:.3f}"),
            Plot("Scores", plots.scores(held), "Distribution of probabilities by label"),
        ],
    )


def drivers(held: Explained, *, seed: int, unit: str = "log-odds") -> Section:
    """Shapley values, in the unit of the margin: a part of the report of any kind of model."""
    first = ", ".join(held.names[place] for place in plots.strongest(held)[:3])
    return Section(
        title="What drives it",
        lead="Exact Shapley values, the same that reasons are told from. They say what the score rests on, "
        "not what causes the outcome.",
        blocks=[
            Plot("Importance", plots.importance(held, unit=unit), f"Strongest inputs: {first}", wide=True),
            Plot(
                "Summary",
                plots.summary(held, seed=seed, unit=unit),
                "Shapley values by value of each input",
                wide=True,
            ),
        ],
    )


def _fairness(groups: tuple[Group, ...], gaps: tuple[Gap, ...]) -> Section:
    return Section(
        title="Among parts of the customers",
        lead="Selected means among the fifth with the highest scores. Parts of fewer than "
        f"{FEWEST_ROWS} rows or {FEWEST_OF_A_LABEL} of a label are shown, not compared. The two parts of a "
        "gap are the ones furthest apart, which makes gaps between many parts look larger than they are.",
        blocks=[
            Plot("AUC by part", plots.by_group(groups), "AUC of each part with its interval", wide=True),
            Grid(
                title="Parts",
                head=("part", "rows", "rate", "mean probability", "ECE", "AUC", "selected", "found"),
                lines=[_group_line(group) for group in groups],
                numbers=frozenset(range(1, 8)),
            ),
            Grid(
                title="Largest gaps",
                head=("attribute", "measure", "gap (95 % interval)", "lowest", "highest"),
                lines=[
                    (gap.attribute, _MEASURES[gap.measure], str(gap.size), gap.lowest, gap.highest)
                    for gap in gaps
                ],
                numbers=frozenset({2}),
            ),
        ],
    )


_MEASURES = {
    "auc": "AUC",
    "tpr": "true positive rate",
    "selection": "share selected",
    "promise": "promised minus seen",
}


def _group_line(group: Group) -> tuple[str, ...]:
    return (
        f"{group.attribute} = {group.value}",
        f"{group.rows:,}",
        f"{group.rate:.3f}",
        f"{group.mean_probability:.3f}",
        f"{group.ece:.3f}",
        "–" if group.auc is None else str(group.auc),
        f"{group.selected:.1%}",
        "–" if group.found is None else f"{group.found:.1%}",
    )


def origin(facts: Facts) -> Section:
    """Gates, training and columns: the last part of the report of any kind of model."""
    blocks: list[Plot | Grid] = []
    if facts.gates:
        verdicts = {True: "passed", False: "FAILED"}
        blocks.append(
            Grid(
                title="Gates",
                head=("gate", "figure", "limit", ""),
                lines=[
                    (gate, figure, limit, verdicts[passed]) for gate, figure, limit, passed in facts.gates
                ],
                numbers=frozenset({1, 2}),
            )
        )
    blocks.append(Grid(title="Training", head=("what", "value"), lines=list(facts.training)))
    if facts.columns:
        blocks.append(
            Grid(
                title="Columns",
                head=("column", "read as", "missing", "use"),
                lines=list(facts.columns),
                numbers=frozenset({2}),
            )
        )
    return Section(
        title="Where it comes from", lead="All that is needed to make the same model again.", blocks=blocks
    )
