"""`arbiter train`: from a plan and a company's own table to a registered model."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, cast

import typer
from rich.table import Table

from engine.cli.console import EXIT_ERRORS, EXIT_FAILED, err, fail, out, print_document
from engine.cli.options import AsJson
from engine.release import engine_version
from engine.ruleset import diagnostics as codes
from engine.ruleset.diagnostics import Diagnostic, render
from engine.ruleset.documents import Document
from engine.ruleset.reading import Located, read_documents
from engine.ruleset.schemas import schema_texts
from model_registry.errors import RegistryError
from training.errors import DataRefused, GateFailed, LeakSuspected, PlanRefused, TrainingError
from training.own.plan import KIND, TrainingPlan

if TYPE_CHECKING:
    from training.own.registering import Registered
    from training.own.run import Prepared, TrainedModel
    from training.own.signs import Sign

app = typer.Typer(add_completion=False)

KINDS: Final = {KIND: cast(type[Document], TrainingPlan)}
"""As rule files are read: a plan is typed by pydantic too, and has its places in the file."""
REPORT: Final = "report.html"
_LOOK: Final = {True: "bold red", False: "yellow"}


@dataclass(frozen=True, slots=True)
class _PlanFile:
    """A plan, and where everything in it stands."""

    plan: TrainingPlan
    located: Located[Document]
    folder: Path

    def diagnostics(self, refused: PlanRefused) -> list[Diagnostic]:
        """What is wrong with the plan in view of the data, at its places."""
        return sorted(
            self.located.problem(p.path, codes.WRONG_VALUE, p.message, p.advice) for p in refused.problems
        )


@app.command()
def train(
    config: Annotated[Path | None, typer.Argument(help="The plan, a YAML file.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show types, signs of leakage and the split; train nothing.")
    ] = False,
    registry: Annotated[
        str | None, typer.Option("--registry", help="Where to register, instead of the plan's `register`.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", help="Folder for report, card, account, schema and drafts of reasons."),
    ] = None,
    created: Annotated[
        str, typer.Option("--created", help="Date of the run, YYYY-MM-DD; today by default.")
    ] = "",
    print_schema: Annotated[
        bool, typer.Option("--print-schema", help="Print the JSON Schema of plans, for editors, and end.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train, calibrate, measure, export and register a model on a table of your own.

    Ends with 0 where the model is registered, or passed its gates where no registry is named; 3 where plan or
    data are wrong, 4 where a column looks like a leak or a gate is not passed. Then nothing is registered.
    """
    if print_schema:
        sys.stdout.write(plan_schema())
        return
    if config is None:
        raise typer.BadParameter("name the plan", param_hint="CONFIG")
    file = _read_plan(config)
    with _refusals(file), _training_installed():
        prepared = _prepared(file, quiet=as_json)
        if dry_run:
            _end_dry_run(prepared, as_json=as_json)
            return
        trained = _trained(prepared, quiet=as_json)
        place, day = _place(file, registry), created or datetime.now(UTC).date().isoformat()
        page = b"" if place is None and report is None else _page(trained, day)
        registered = _registered(trained, place, created=day, page=page)
        _told(trained, registered, place, report, page=page, as_json=as_json)


def plan_schema() -> str:
    """The JSON Schema of plans; the same bytes each time."""
    (text,) = schema_texts(KINDS).values()
    return text


def _read_plan(path: Path) -> _PlanFile:
    """Ends the command with every problem of the file at its place."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        fail(f"{path}: not UTF-8: {error}", EXIT_ERRORS)
    except OSError as error:
        fail(f"{path}: cannot be read: {error.strerror}", EXIT_ERRORS)
    reading = read_documents({str(path): text}, kinds=KINDS)
    if reading.diagnostics:
        _fail_with(reading.diagnostics)
    (located,) = reading.documents
    return _PlanFile(cast(TrainingPlan, located.document), located, path.parent)


def _fail_with(found: tuple[Diagnostic, ...] | list[Diagnostic]) -> None:
    err.print(render(found), markup=False, soft_wrap=True)
    raise typer.Exit(EXIT_ERRORS)


@contextmanager
def _refusals(file: _PlanFile) -> Iterator[None]:
    """Ends the command with the reason where a run must not go on; nothing is registered then."""
    try:
        yield
    except PlanRefused as error:
        _fail_with(file.diagnostics(error))
    except DataRefused as error:
        fail(str(error), EXIT_ERRORS)
    except LeakSuspected as error:
        fail(f"{error}\nnothing was trained", EXIT_FAILED)
    except GateFailed as error:
        fail(f"{error}; nothing was registered", EXIT_FAILED)
    except (TrainingError, RegistryError) as error:
        fail(str(error), EXIT_ERRORS)


@contextmanager
def _training_installed() -> Iterator[None]:
    """Ends the command where the libraries of training, which are an extra, are missing."""
    try:
        yield
    except ImportError as error:
        advice = "which is not installed; run: pip install 'arbiter-nba[training]'"
        fail(f"`arbiter train` needs {error.name}, {advice}", EXIT_ERRORS)


def _prepared(file: _PlanFile, *, quiet: bool) -> Prepared:
    from training.own.run import prepare  # here, as --print-schema and a wrong plan need none of it

    with err.status("reading the data"):
        prepared = prepare(file.plan, folder=file.folder)
    if not quiet:
        _show_columns(prepared)
    _warn(prepared.signs)
    return prepared


def _trained(prepared: Prepared, *, quiet: bool) -> TrainedModel:
    from training.own.run import train as train_prepared

    with err.status("training"):
        trained = train_prepared(prepared)
    if not quiet:
        _show_figures(trained)
    return trained


def _place(file: _PlanFile, registry: str | None) -> str | None:
    """Where to register: the option as it is, the plan's path relative to the plan."""
    if registry is not None or file.plan.register_ is None:
        return registry
    planned = file.plan.register_.registry
    return planned if "://" in planned else os.path.normpath(file.folder / planned)


def _page(trained: TrainedModel, day: str) -> bytes:
    from training.own.run import check_gates
    from training.own.seam import report_html

    check_gates(trained)
    with err.status("drawing the report"):
        return report_html(trained, version="", made=day)


def _registered(trained: TrainedModel, place: str | None, *, created: str, page: bytes) -> Registered | None:
    from training.own.registering import register
    from training.own.run import check_gates

    if place is None:
        check_gates(trained)
        return None
    planned = trained.prepared.plan.register_
    if "://" not in place:
        Path(place).mkdir(parents=True, exist_ok=True)
    return register(
        trained,
        registry=place,
        alias="challenger" if planned is None else planned.alias,
        created=created,
        code=engine_version(),
        pages={REPORT: page},
    )


def _end_dry_run(prepared: Prepared, *, as_json: bool) -> None:
    from training.own.account import found_document
    from training.own.signs import unaccepted

    if as_json:
        print_document(found_document(prepared))
    severe = unaccepted(prepared.plan, prepared.signs)
    if severe:
        raise LeakSuspected(tuple(map(str, severe)))


def _show_columns(prepared: Prepared) -> None:
    table = Table("column", "type", "missing", "values", "such as", "use")
    for column in prepared.inferred.columns:
        table.add_row(
            column.column,
            column.type or "–",
            f"{column.missing:,}" if column.missing else "",
            f"{column.distinct:,}",
            ", ".join(column.examples)[:40],
            column.why or (f"input {column.feature}" if column.feature != column.column else "input"),
        )
    out.print(table)
    labels = prepared.examples.labels
    out.print(f"{len(labels):,} rows to learn from, {prepared.kind.told(labels)}; {prepared.parts.words}")
    for note in prepared.labelled.notes:
        out.print(note)


def _warn(signs: tuple[Sign, ...]) -> None:
    """Loud: to stderr, with --json too."""
    for sign in signs:
        err.print(f"[{_LOOK[sign.severe]}]{'LEAK?' if sign.severe else 'warning'}[/]:", end=" ")
        err.print(str(sign), markup=False, soft_wrap=True)


def _show_figures(trained: TrainedModel) -> None:
    metrics = trained.candidate.metrics
    told = [] if trained.evidence is None else trained.evidence.told()
    table = Table("figure", "model", "beside it" if told else "logistic regression")
    for line in told:
        table.add_row(*line)
    for name, beside in (("auc_test", "baseline_auc_test"), ("cv_auc", "baseline_cv_auc")):
        if name in metrics:
            table.add_row(name, f"{metrics[name]:.4f}", f"{metrics[beside]:.4f}")
    if told:
        table.add_row("trees", f"{metrics['trees']:.0f}", "")
    for name in () if told else ("ece_test", "cv_ece", "log_loss_test", "brier_test", "trees"):
        if name in metrics:
            table.add_row(name, f"{metrics[name]:.4f}", "")
    out.print(table)
    for gate in trained.gates:
        passed = "passed" if gate.passed else "[bold red]FAILED[/]"
        out.print(f"gate {gate.name}: {gate.figure}, limit {gate.limit}: {passed}")


def _told(
    trained: TrainedModel,
    registered: Registered | None,
    place: str | None,
    report: Path | None,
    *,
    page: bytes,
    as_json: bool,
) -> None:
    from training.own.account import trained_document, write_folder

    written = [] if report is None else write_folder(trained, registered, report, pages={REPORT: page})
    if as_json:
        print_document(trained_document(trained, registered))
        return
    for path in written:
        out.print(f"written: {path}", soft_wrap=True)
    if registered is None:
        out.print("passed its gates; registered nowhere: name a registry in `register` or with --registry")
        return
    done = "registered" if registered.changed else "unchanged"
    alias = f", {registered.alias}" if registered.alias else ""
    out.print(f"{registered.name}/{registered.version} {done}{alias} in {place}", soft_wrap=True)
    out.print(f"feed it: {_feeding(trained, registered, str(place))}", markup=False, soft_wrap=True)


def _feeding(trained: TrainedModel, registered: Registered, place: str) -> str:
    """The command that loads the same file for the server."""
    from training.own.account import load_command

    prepared = trained.prepared
    schema = f"{place}/{registered.name}/{registered.version}/schema.toml"
    if not prepared.plan.features.inferred:
        schema = os.path.normpath(prepared.folder / str(prepared.plan.features.schema_path))
    return shlex.join(load_command(prepared, schema))
