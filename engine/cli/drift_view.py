"""The drift report on a terminal: alarms first, then the latest window of each model and channel."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from engine.cli.console import present
from engine.monitor.drift.estimating import Figure
from engine.monitor.drift.examining import Section
from engine.monitor.drift.judging import Measure, Measured, Verdict
from engine.monitor.drift.report import DriftReport, comparison, moment

_SHORT = {
    Measure.PSI: "PSI",
    Measure.JENSEN_SHANNON: "JS",
    Measure.KOLMOGOROV_SMIRNOV: "KS",
    Measure.MISSING: "missing",
    Measure.UNKNOWN: "unknown",
}
_SHARES = (Measure.MISSING, Measure.UNKNOWN)


def show(report: DriftReport) -> None:
    """Prints the report."""
    present(_headline(report), *([_alarms(report)] if report.drifting else []))
    for section in report.latest():
        present(Text(), _title(section), *([_variables(section)] if section.verdicts else []))
        if section.estimates:
            present(_estimates(section))
    if report.observed:
        present(Text(), _performance(report))


def _headline(report: DriftReport) -> Text:
    count = len(report.drifting)
    words = f"{count} alarm{'' if count == 1 else 's'} since {moment(report.since_ms)}"
    text = Text(words, style="bold red" if count else "bold green")
    if report.baseline:
        text.append(f"\nbaseline: {report.baseline}", style="not bold default")
    if report.uncounted:
        text.append(f"\n{report.uncounted:,} decisions were not counted", style="not bold yellow")
    return text


def _alarms(report: DriftReport) -> Table:
    table = Table("subject", "variable", "window", "alarms", "first", "last", "by how much, the last time")
    for run in report.drifting:
        table.add_row(
            run.section.subject,
            Text(run.verdict.variable.name, style="bold"),
            run.section.window,
            str(run.windows),
            moment(run.first_ms),
            moment(run.section.from_ms),
            ", ".join(f"{_SHORT[m]} {_told(m, run.verdict.measures[m])}" for m in run.verdict.alarms),
        )
    return table


def _title(section: Section) -> Text:
    text = Text(f"{section.subject}, {section.window} from {moment(section.from_ms)}", style="bold")
    told = f": {section.decisions:,} decisions, worth {section.effective:,.0f} customers"
    return text.append(f"{told}; {comparison(section)}", style="not bold dim")


def _variables(section: Section) -> Table:
    measures = [m for m in Measure if any(m in verdict.measures for verdict in section.verdicts)]
    table = Table("variable", *(_SHORT[m] for m in measures), "", caption_justify="left")
    for column in table.columns[1:-1]:
        column.justify = "right"
    for verdict in sorted(section.verdicts, key=lambda v: (not v.alarms, -_psi(v))):
        cells = [_cell(m, verdict.measures.get(m)) for m in measures]
        judged = "alarm" if verdict.alarms else "" if verdict.measures else "too few"
        table.add_row(
            verdict.variable.name, *cells, Text(judged, style="bold red" if verdict.alarms else "dim")
        )
    table.caption = "each measure beside its threshold: what matters, and what chance explains"
    return table


def _psi(verdict: Verdict) -> float:
    return verdict.measures[Measure.PSI].value if Measure.PSI in verdict.measures else 0.0


def _cell(measure: Measure, measured: Measured | None) -> Text:
    if measured is None:
        return Text()
    return Text(_told(measure, measured), style="bold red" if measured.over else "")


def _told(measure: Measure, measured: Measured) -> str:
    """The measure beside its threshold. What chance explains may be over what matters, and no alarm."""
    sign = ">" if measured.value > measured.threshold else "<"
    return f"{_value(measure, measured.value)} {sign} {_value(measure, measured.threshold)}"


def _value(measure: Measure, value: float) -> str:
    return f"{100 * value:.1f}%" if measure in _SHARES else f"{value:.3f}"


def _estimates(section: Section) -> Table:
    table = Table("score", "decisions", "says yes", "AUC, estimated", "accuracy, estimated")
    for column in table.columns[1:]:
        column.justify = "right"
    for target, estimate in section.estimates.items():
        auc = "too few" if estimate.auc is None else _interval(estimate.auc)
        share, accuracy = f"{100 * estimate.positives:.1f}%", f"{100 * estimate.accuracy:.1f}%"
        table.add_row(target, f"{estimate.decisions:,}", share, auc, accuracy)
    table.title = "What the scores promise, before outcomes are known"
    return table


def _performance(report: DriftReport) -> Table:
    table = Table("model", "outcomes", "yes", "AUC", "ECE", title="What outcomes say")
    for each in report.observed:
        found = each.performance
        row = (f"{found.outcomes:,}", f"{found.positives:,}", _interval(found.auc), _interval(found.ece))
        table.add_row(each.model, *row)
    return table


def _interval(figure: Figure) -> str:
    return f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"
