"""The drift report as one HTML file, with plots."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from engine.monitor.drift.estimating import Figure
from engine.monitor.drift.examining import Section
from engine.monitor.drift.judging import Measure, Measured, Verdict
from engine.monitor.drift.report import DriftReport, comparison, moment, shares
from engine.pages import page as pages
from engine.pages.drawing import BLUE, GREY, ORANGE, RED, draw

_PLOTTED = 3
"""Variables of a section that are drawn: all that drift, and those nearest to it."""
_NAMES = {
    Measure.PSI: "PSI",
    Measure.JENSEN_SHANNON: "Jensen-Shannon",
    Measure.KOLMOGOROV_SMIRNOV: "KS",
    Measure.MISSING: "missing",
    Measure.UNKNOWN: "unknown",
}
_SHARES = (Measure.MISSING, Measure.UNKNOWN)


def page(report: DriftReport) -> pages.Page:
    """The whole page."""
    latest = report.latest()
    warned = []
    if report.uncounted:
        text = f"{report.uncounted:,} decisions came too fast to be counted, or with unknown versions."
        warned.append(pages.Warned("Not all was counted.", text))
    if any("previous" in section.compared_with for section in latest):
        text = "Scores and actions are compared with the windows before, which may have drifted already."
        warned.append(pages.Warned("No baseline is activated.", text))
    return pages.Page(
        title="Drift report",
        subtitle=f"{moment(report.since_ms)} to {moment(report.made_ms)}",
        lead="What models read and said, and what was proposed, beside what is normal. An alarm is a "
        "difference that is larger than matters and than chance explains.",
        headlines=_headlines(report, latest),
        warned=warned,
        sections=[
            *_alarms(report),
            *(_section(section, report) for section in latest),
            *_performance(report),
        ],
        made=f"Made {moment(report.made_ms)} by arbiter drift report."
        + (f" Baseline: {report.baseline}." if report.baseline else ""),
    )


def _headlines(report: DriftReport, latest: Sequence[Section]) -> list[pages.Headline]:
    drifting = {(run.section.subject, run.verdict.variable.name) for run in report.drifting}
    found = [
        pages.Headline("variables that drift", str(len(drifting)), verdict="bad" if drifting else "good")
    ]
    for section in latest:
        if section.window == "day" or len(latest) < 4:
            note = f"worth {section.effective:,.0f} customers"
            found.append(
                pages.Headline(f"{section.subject}, {section.window}", f"{section.decisions:,}", note)
            )
    return found


def _alarms(report: DriftReport) -> list[pages.Section]:
    if not report.drifting:
        return []
    rows = [
        (
            run.section.subject,
            run.verdict.variable.name,
            run.section.window,
            str(run.windows),
            moment(run.first_ms),
            moment(run.section.from_ms),
            ", ".join(f"{_NAMES[m]} {_told(m, run.verdict.measures[m])}" for m in run.verdict.alarms),
        )
        for run in report.drifting
    ]
    head = ("subject", "variable", "window", "alarms", "first", "last", "by how much, the last time")
    grid = pages.Grid("What drifts, latest first", head, rows, frozenset({3}))
    return [
        pages.Section("Alarms", "Measures over their thresholds, in the last window with an alarm.", [grid])
    ]


def _section(section: Section, report: DriftReport) -> pages.Section:
    judged = sorted(
        (verdict for verdict in section.verdicts if verdict.measures),
        key=lambda v: (not v.alarms, -_nearness(v)),
    )
    blocks: list[pages.Plot | pages.Grid] = []
    for place, verdict in enumerate(judged):
        if verdict.alarms or place < _PLOTTED:
            blocks.append(_bars(verdict))
            over_time = _over_time(verdict, section, report)
            blocks += [] if over_time is None else [over_time]
    if judged:
        blocks.append(_measures(judged))
    if section.estimates:
        blocks.append(_estimates(section))
    return pages.Section(
        f"{section.subject}: {section.window} from {moment(section.from_ms)}",
        f"{section.decisions:,} decisions, worth {section.effective:,.0f} independent customers; "
        f"{comparison(section)}.",
        blocks,
    )


def _nearness(verdict: Verdict) -> float:
    """How near the variable is to an alarm: its largest measure over its threshold."""
    return max(m.value / m.threshold if m.threshold else 0.0 for m in verdict.measures.values())


def _bars(verdict: Verdict) -> pages.Plot:
    rows = [row for row in shares(verdict) if max(row[1:]) >= 0.002]
    name = verdict.variable.name

    def paint(axes: Axes) -> None:
        places = range(len(rows))
        axes.barh([p - 0.2 for p in places], [row[1] for row in rows], 0.38, color=GREY, label="reference")
        now = ORANGE if verdict.alarms else BLUE
        axes.barh([p + 0.2 for p in places], [row[2] for row in rows], 0.38, color=now, label="now")
        axes.set_yticks(list(places), [row[0] for row in rows], fontsize=7 if len(rows) > 14 else 8)
        axes.invert_yaxis()
        axes.set_xlabel("share")
        axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2)

    told = ", ".join(f"{row[0]}: {100 * row[1]:.1f} % before, {100 * row[2]:.1f} % now" for row in rows)
    title = f"{name}{': alarm' if verdict.alarms else ''}"
    return pages.Plot(title, draw(paint, height=max(2.2, 0.26 * len(rows) + 1.0)), told)


def _over_time(verdict: Verdict, section: Section, report: DriftReport) -> pages.Plot | None:
    """What alarmed, else PSI, of each window with its threshold; None where there is only one."""
    name = verdict.variable.name
    measure = verdict.alarms[0] if verdict.alarms else Measure.PSI
    series = [
        (s.from_ms, v.measures[measure].value, v.measures[measure].threshold)
        for s in report.sections
        if (s.subject, s.window) == (section.subject, section.window)
        for v in s.verdicts
        if v.variable.name == name and measure in v.measures
    ]
    if len(series) < 2:
        return None

    def paint(axes: Axes) -> None:
        times = list(range(len(series)))
        axes.plot(times, [row[1] for row in series], "o-", color=BLUE, markersize=3, label=_NAMES[measure])
        axes.step(
            times, [row[2] for row in series], where="mid", color=RED, linestyle="--", label="threshold"
        )
        shown = times[:: max(1, len(times) // 5)]
        axes.set_xticks(shown, [moment(series[t][0])[5:16].replace("T", "\n") for t in shown])
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)

    first, last = series[0], series[-1]
    told = f"from {first[1]:.3f} to {last[1]:.3f}; the threshold of the last window is {last[2]:.3f}"
    return pages.Plot(f"{name}: {_NAMES[measure]} by {section.window}", draw(paint, height=2.6), told)


def _measures(judged: Sequence[Verdict]) -> pages.Grid:
    measures = [m for m in Measure if any(m in verdict.measures for verdict in judged)]
    rows = [
        (
            verdict.variable.name,
            *(_told(m, found) if (found := verdict.measures.get(m)) else "" for m in measures),
        )
        for verdict in judged
    ]
    head = ("variable", *(_NAMES[m] for m in measures))
    return pages.Grid("Each measure beside its threshold", head, rows, frozenset(range(1, len(head))))


def _estimates(section: Section) -> pages.Grid:
    rows = [
        (
            target,
            f"{estimate.decisions:,}",
            f"{100 * estimate.positives:.1f}%",
            "too few" if estimate.auc is None else _interval(estimate.auc),
            f"{100 * estimate.accuracy:.1f}%",
        )
        for target, estimate in section.estimates.items()
    ]
    head = ("score", "decisions", "says yes", "AUC, estimated", "accuracy, estimated")
    title = "What the scores promise, before outcomes are known"
    return pages.Grid(title, head, rows, frozenset(range(1, len(head))))


def _performance(report: DriftReport) -> list[pages.Section]:
    if not report.observed:
        return []
    rows = [
        (
            each.model,
            f"{each.performance.outcomes:,}",
            f"{each.performance.positives:,}",
            _interval(each.performance.auc),
            _interval(each.performance.ece),
        )
        for each in report.observed
    ]
    grid = pages.Grid("Outcomes", ("model", "outcomes", "yes", "AUC", "ECE"), rows, frozenset({1, 2, 3, 4}))
    lead = (
        "Answers so far, beside the probabilities their decisions were made with; intervals hold 95 in 100."
    )
    return [pages.Section("What outcomes say", lead, [grid])]


def _value(measure: Measure, value: float) -> str:
    return f"{100 * value:.1f}%" if measure in _SHARES else f"{value:.3f}"


def _told(measure: Measure, measured: Measured) -> str:
    sign = ">" if measured.value > measured.threshold else "<"
    return f"{_value(measure, measured.value)} {sign} {_value(measure, measured.threshold)}"


def _interval(figure: Figure) -> str:
    return f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"
