"""`arbiter retrain`: from logged decisions and what came of them to a challenger that passed the gates."""

from __future__ import annotations

import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, cast

import typer
from rich.table import Table

from engine.cli.console import (
    EXIT_ERRORS,
    EXIT_FAILED,
    effective_settings,
    err,
    fail,
    out,
    print_document,
    require_data,
    setup_errors,
)
from engine.cli.options import AsJson, DataDir, Registry
from engine.cli.values import instant_option
from engine.decisionlog.errors import LogError
from engine.logfiles import DECISIONS, DRIFT
from engine.retraining.errors import PlanUnusable, RetrainingError
from engine.retraining.plan import KIND, RetrainingPlan
from engine.ruleset.diagnostics import render
from engine.ruleset.documents import Document
from engine.ruleset.reading import read_documents
from engine.ruleset.schemas import schema_texts
from engine.settings import Settings
from feature_store.errors import LoadError, SchemaError, StoreError
from model_registry.errors import RegistryError
from training.errors import LeakRefused, TrainingError

if TYPE_CHECKING:
    from engine.retraining.company import Company
    from engine.retraining.running import Asked, Result

app = typer.Typer(add_completion=False)

KINDS: Final = {KIND: cast(type[Document], RetrainingPlan)}
"""As rule files are read: a plan is typed by pydantic too, and has its places in the file."""
_DAY_MS: Final = 86_400_000


@app.command()
def retrain(
    config: Annotated[
        Path | None, typer.Argument(metavar="[PLAN]", help="The plan of retraining, a YAML file.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", help="Date or instant of the first decision; by `window_days` if not given."),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--until", help="Date or instant up to which outcomes are known; today's beginning."),
    ] = None,
    if_drift: Annotated[
        bool,
        typer.Option("--if-drift", help="Only where the champion's inputs or scores drift; else end with 0."),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show rows, signs of leakage and the split; write and train nothing."),
    ] = False,
    print_schema: Annotated[
        bool, typer.Option("--print-schema", help="Print the JSON Schema of plans, for editors, and end.")
    ] = False,
    data_dir: DataDir = None,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Train a challenger on logged decisions and what came of them, if it passes the gates.

    Ends with 0 where there is a challenger, nothing is new, or nothing drifts; 3 where plan or logs are
    wrong; 4 where outcomes are too few, a gate is not passed, or another run is under way. A run that was
    killed goes on where it stopped when the command is given again.
    """
    if print_schema:
        sys.stdout.write(plan_schema())
        return
    if config is None:
        raise typer.BadParameter("name the plan", param_hint="PLAN")
    plan = _read_plan(config)
    settings = effective_settings(data_dir=data_dir, registry=registry, log_level="error")
    require_data(settings, DECISIONS)
    now_ms = time.time_ns() // 1_000_000
    with _refusals(), setup_errors():
        if if_drift and not _drifts(settings, plan, now_ms, as_json=as_json):
            return
        part = _asked(plan, config.parent, since, until, now_ms)
        if dry_run:
            _show_rows(settings, part, now_ms, as_json=as_json)
            return
        result = _retrained(settings, part, now_ms)
    if as_json:
        print_document({**asdict(result), "next": _next(result, registry)})
        return
    _tell(result, registry)


def plan_schema() -> str:
    """The JSON Schema of plans; the same bytes each time."""
    (text,) = schema_texts(KINDS).values()
    return text


def _read_plan(path: Path) -> RetrainingPlan:
    """Ends the command with every problem of the file at its place."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{path}: cannot be read: {error}", EXIT_ERRORS)
    reading = read_documents({str(path): text}, kinds=KINDS)
    if reading.diagnostics:
        err.print(render(reading.diagnostics), markup=False, soft_wrap=True)
        raise typer.Exit(EXIT_ERRORS)
    (located,) = reading.documents
    return cast(RetrainingPlan, located.document)


@contextmanager
def _refusals() -> Iterator[None]:
    """Ends the command with the reason where there is no challenger."""
    from engine.promotion.errors import PromotionError

    try:
        yield
    except PlanUnusable as error:
        fail(str(error), EXIT_ERRORS)
    except (RetrainingError, LeakRefused) as error:
        fail(str(error), EXIT_FAILED)
    except (TrainingError, PromotionError, RegistryError, LogError, StoreError, LoadError) as error:
        fail(str(error), EXIT_ERRORS)
    except ImportError as error:
        advice = "which is not installed; run: pip install 'arbiter-nba[training]'"
        fail(f"`arbiter retrain` needs {error.name}, {advice}", EXIT_ERRORS)


def _asked(plan: RetrainingPlan, folder: Path, since: str | None, until: str | None, now_ms: int) -> Asked:
    from engine.retraining.running import asked

    since_ms, until_ms = (
        None if text is None else int(instant_option(text).timestamp() * 1000) for text in (since, until)
    )
    return asked(plan, folder=folder, since_ms=since_ms, until_ms=until_ms, now_ms=now_ms)


def _drifts(settings: Settings, plan: RetrainingPlan, now_ms: int, *, as_json: bool) -> bool:
    """Whether the champion drifts, told either way."""
    from engine.monitor.drift.report import moment
    from engine.retraining.drifting import alarms_of
    from feature_store.schema import load_schema

    since_ms, name = now_ms - plan.drift.days * _DAY_MS, plan.metadata.name
    folder = settings.data_dir / DRIFT
    try:
        schema = load_schema(settings.feature_schema)
    except SchemaError as error:
        fail(str(error), EXIT_ERRORS)
    alarms = alarms_of(
        folder, registry=settings.registry, schema=schema, model=name, since_ms=since_ms, now_ms=now_ms
    )
    if not alarms:
        words = f"{name}: no drift since {moment(since_ms)}"
        if as_json:
            print_document({"model": name, "drift": [], "since": moment(since_ms)})
        else:
            out.print(words, markup=False)
        return False
    told = ", ".join(sorted({alarm.verdict.variable.name for alarm in alarms}))
    err.print(f"{name}: drift since {moment(since_ms)}: {told}", markup=False, soft_wrap=True)
    return True


def _show_rows(settings: Settings, part: Asked, now_ms: int, *, as_json: bool) -> None:
    """What would be learnt from, in a folder that is gone afterwards."""
    from engine.retraining.candidate import training_plan
    from engine.retraining.company import open_company
    from engine.retraining.running import check_enough, rows_of
    from engine.retraining.tables import write_actions, write_table
    from training.own.run import prepare

    with open_company(settings) as company, tempfile.TemporaryDirectory() as name:
        rows, left_out = rows_of(company, part, now_ms=now_ms)
        check_enough(part, rows, left_out)
        folder = Path(name)
        written = write_table(
            folder, rows, schema=company.schema, schema_text=company.schema_text,
            horizon_ms=part.period.horizon_ms,
        )  # fmt: skip
        if part.plan.task.action_features:
            write_actions(folder, company.rulebook.actions, part.plan.task.action_features)
        prepared = prepare(training_plan(part.plan), folder=folder)
    signs = [str(sign) for sign in prepared.signs]
    table = {**asdict(written), "left_out": dict(left_out)}
    if as_json:
        told = {"model": part.name, "source": part.words, "table": table}
        print_document({**told, "signs": signs, "split": prepared.parts.words})
        return
    out.print(f"{part.name}: {part.words}", markup=False, soft_wrap=True)
    _tell_rows(table)
    out.print(prepared.parts.words, markup=False, soft_wrap=True)
    for sign in signs:
        err.print(f"warning: {sign}", markup=False, soft_wrap=True)


def _retrained(settings: Settings, part: Asked, now_ms: int) -> Result:
    from engine.retraining.company import open_company
    from engine.retraining.journal import only_run
    from engine.retraining.running import retrain as run

    with only_run(settings.data_dir / "retraining"), open_company(settings) as company:
        return _run(run, company, part, now_ms)


def _run(run: Any, company: Company, part: Asked, now_ms: int) -> Result:  # noqa: ANN401  # imported late
    with err.status("retraining") as status:
        result: Result = run(
            company, part, now_ms=now_ms, told=lambda step: status.update(f"retraining: {step} done")
        )
        return result


def _tell_rows(table: dict[str, Any]) -> None:
    from engine.retraining.observing import counted

    out.print(
        f"{table['rows']:,} rows of {table['customers']:,} customers, {table['positives']:,} positive, "
        f"{table['answered']:,} answered; left out: {', '.join(counted(table['left_out'])) or 'nothing'}",
        markup=False, soft_wrap=True,
    )  # fmt: skip


def _tell(result: Result, registry: str | None) -> None:
    if result.same_rows_as:
        out.print(f"nothing new: the rows are those of run {result.same_rows_as}", markup=False)
        return
    if result.again:
        out.print(f"nothing new: run {result.run} was finished before", markup=False)
    _tell_rows(result.table)
    gates = Table("gate", "verdict", "what it says")
    for gate in result.gates:
        gates.add_row(gate["name"], str(gate["verdict"]), gate["words"])
    out.print(gates)
    if result.promoted:
        out.print(f"{result.model}/{result.version} is champion; run {result.run}", markup=False)
        return
    out.print(f"{result.model}/{result.version} is challenger; run {result.run}", markup=False)
    out.print("look at it, then give it customers, or promote it:", markup=False)
    for command in _next(result, registry):
        out.print(f"  {command}", markup=False, soft_wrap=True)


def _next(result: Result, registry: str | None) -> list[str]:
    """What a person does next, to be copied."""
    if result.promoted or result.version is None:
        return []
    name, version = result.model, str(result.version)
    why = ["--reason", f"retrained in run {result.run}", "--actor", "YOU"]
    commands = [["promote", name, version, *why]]
    if result.champion is not None:
        commands = [
            ["compare", f"{name}/{result.champion}", f"{name}/{version}"],
            ["rollout", "start", name, version, *why],
            *commands,
        ]
    where = [] if registry is None else ["--registry", registry]
    return [shlex.join(["arbiter", "models", *command, *where]) for command in commands]
