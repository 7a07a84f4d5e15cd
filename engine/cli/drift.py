"""`arbiter drift`: what has changed in what models read and said, and in what is proposed."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.console import (
    EXIT_ERRORS,
    effective_settings,
    fail,
    out,
    print_document,
    require_data,
)
from engine.cli.options import AsJson, DataDir, Registry
from engine.cli.values import instant_option
from engine.logfiles import DECISIONS, DRIFT, OUTCOMES, log_directory
from engine.monitor.drift.windows import DAY_MS, WindowFolder
from engine.settings import Settings

if TYPE_CHECKING:
    from engine.monitor.drift.report import DriftReport, Observed
    from engine.service.performance import Answered

app = typer.Typer(
    help="Show what has changed in inputs, scores and actions, and declare what is normal.",
    no_args_is_help=True,
    add_completion=False,
)

Since = Annotated[
    str | None,
    typer.Option("--since", help="Date or instant from which windows are shown; a day ago by default."),
]
_CUSTOMER, _LEFT = "customer_id", "churned_at"


@app.command()
def report(
    model: Annotated[
        str | None,
        typer.Option("--model", help="Only this model, such as churn, or version, such as churn/1."),
    ] = None,
    window: Annotated[
        str | None,
        typer.Option("--window", help="Only windows of this length: hour, day, or such as '15 min'."),
    ] = None,
    since: Since = None,
    churned: Annotated[
        Path | None,
        typer.Option("--churned", help=f"CSV of who left when, with the columns {_CUSTOMER} and {_LEFT}."),
    ] = None,
    within_days: Annotated[
        int,
        typer.Option("--within-days", help="With --churned: days in which leaving counts as churn.", min=1),
    ] = 90,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write the report with plots to this file.")
    ] = None,
    data_dir: DataDir = None,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Compare what was counted with what is normal: alarms first, then each variable and model.

    Needs no server. Alarms do not change the exit code: they are news, not an error.
    """
    settings = effective_settings(data_dir=data_dir, registry=registry, log_level="error")
    folder = require_data(settings, DRIFT)
    now_ms = time.time_ns() // 1_000_000
    since_ms = _since_ms(since, now_ms - DAY_MS)
    leavers = None if churned is None else _leavers(churned)
    found = _report(settings, folder, since_ms, now_ms)
    observed = tuple(_observed(settings, leavers, since_ms, now_ms, within_ms=within_days * DAY_MS))
    found = _narrowed(replace(found, observed=observed), model, window)
    if html is not None:
        _write(html, found)
    if as_json:
        from engine.monitor.drift.report import document

        print_document(document(found))
    elif html is None:
        from engine.cli.drift_view import show

        show(found)


@app.command()
def baseline(
    since: Annotated[
        str | None, typer.Option("--since", help="Date or instant from which decisions are normal.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", help="Date or instant up to which they are; now by default.")
    ] = None,
    actor: Annotated[str, typer.Option("--actor", help="Who says so, such as ds:4; kept with it.")] = "",
    remove: Annotated[
        bool, typer.Option("--remove", help="Compare with training and the windows before again.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Declare the decisions of a time normal: windows are compared with them from now on.

    Servers take it up the next time they judge a window.
    """
    from engine.monitor.drift.counts import added_up
    from engine.monitor.drift.windows import activate_baseline, remove_baseline

    settings = effective_settings(data_dir=data_dir, log_level="error")
    folder = require_data(settings, DRIFT)
    if remove:
        out.print("removed" if remove_baseline(folder) else "there was none")
        return
    if since is None or not actor:
        raise typer.BadParameter("give --since and --actor, or --remove")
    now_ms = time.time_ns() // 1_000_000
    windows = WindowFolder(folder).windows(since_ms=_since_ms(since, 0), until_ms=_since_ms(until, now_ms))
    try:
        normal = added_up(windows)
    except ValueError as error:
        fail(
            f"the windows of that time do not add up: {error}; choose a time with one set of bins",
            EXIT_ERRORS,
        )
    if normal is None:
        fail("nothing was counted in that time; choose another --since and --until", EXIT_ERRORS)
    activate_baseline(folder, normal, actor=actor, now_ms=now_ms)
    told = ", ".join(f"{name} {counts.decisions:,}" for name, counts in sorted(normal.models.items()))
    out.print(f"{len(windows)} windows are normal now; decisions by model: {told or 'none'}", markup=False)


def _since_ms(text: str | None, otherwise_ms: int) -> int:
    return otherwise_ms if text is None else int(instant_option(text).timestamp() * 1000)


def _report(settings: Settings, folder: Path, since_ms: int, now_ms: int) -> DriftReport:
    from engine.drifted import drift_report
    from feature_store.schema import SchemaError

    try:
        found = drift_report(settings, since_ms=since_ms, now_ms=now_ms)
    except SchemaError as error:
        fail(str(error), EXIT_ERRORS)
    if found is None:
        fail(f"{folder}: holds no counts yet; servers write them within seconds of a decision", EXIT_ERRORS)
    return found


def _narrowed(found: DriftReport, model: str | None, window: str | None) -> DriftReport:
    """The report of one model or length of window. Ends the command where there is none such."""

    def wanted(name: str) -> bool:
        return model is None or name == model or name.startswith(f"{model}/")

    sections = [s for s in found.sections if wanted(s.subject) and window in (None, s.window)]
    if found.sections and not sections:
        known = sorted({s.subject for s in found.sections}), sorted({s.window for s in found.sections})
        fail(
            f"nothing of that was counted; there are {', '.join(known[0])} by {', '.join(known[1])}",
            EXIT_ERRORS,
        )
    observed = tuple(each for each in found.observed if wanted(each.model))
    return replace(found, sections=tuple(sections), observed=observed)


def _observed(
    settings: Settings, leavers: Mapping[str, int] | None, since_ms: int, now_ms: int, *, within_ms: int
) -> Iterator[Observed]:
    """What outcomes say of each model, over all of the time asked for."""
    from engine.service.performance import measured

    found = list(_answers(settings, leavers, since_ms, now_ms, within_ms=within_ms))
    for each in measured(found, window_ms=max(now_ms, 1) + 1):
        yield replace(each, from_ms=since_ms, until_ms=now_ms)


def _answers(
    settings: Settings, leavers: Mapping[str, int] | None, since_ms: int, now_ms: int, *, within_ms: int
) -> Iterator[Answered]:
    from engine.decisionlog.errors import LogError
    from engine.decisionlog.ledger import outcome_log
    from engine.decisionlog.log import DecisionLog
    from engine.service.performance import answers, churn_answers

    log = DecisionLog(log_directory(settings, DECISIONS))
    try:
        if log_directory(settings, OUTCOMES).is_dir():
            outcomes = outcome_log(log_directory(settings, OUTCOMES)).replay()
            later = (outcome for outcome in outcomes if outcome.received_at_ms >= since_ms)
            yield from answers(later, log.read, since_ms=since_ms)
        if leavers is not None:
            records = log.scan(since_ms=since_ms)
            yield from churn_answers(records, leavers, within_ms=within_ms, now_ms=now_ms)
    except LogError as error:
        fail(str(error), EXIT_ERRORS)


def _leavers(path: Path) -> dict[str, int]:
    """When each customer of the file left. Ends the command where it cannot be read."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return {row[_CUSTOMER]: _instant_ms(row[_LEFT]) for row in csv.DictReader(file)}
    except KeyError as error:
        fail(f"{path}: has no column {error.args[0]}; it needs {_CUSTOMER} and {_LEFT}", EXIT_ERRORS)
    except (OSError, ValueError) as error:
        fail(f"{path}: cannot be read: {error}", EXIT_ERRORS)


def _instant_ms(text: str) -> int:
    parsed = datetime.fromisoformat(text)
    return int((parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed).timestamp() * 1000)


def _write(path: Path, found: DriftReport) -> None:
    try:
        from engine.cli.drift_page import page
    except ModuleNotFoundError as error:
        fail(f"--html needs {error.name}; install arbiter-nba[training]", EXIT_ERRORS)
    try:
        path.write_text(page(found).html(), encoding="utf-8")
    except OSError as error:
        fail(f"{path}: cannot be written: {error.strerror}", EXIT_ERRORS)
