"""`python -m training`: from the data to published models, stopping where a gate fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Literal

import typer
from rich.console import Console
from rich.table import Table

from feature_store.schema import SchemaError, load_schema
from model_registry.errors import RegistryError
from training.candidate import Candidate
from training.churn import train_churn
from training.customers import write_customers, write_labelled
from training.errors import TrainingError
from training.gates import check_metrics
from training.history_cli import app as history_app
from training.propensity import train_propensity
from training.publication import Artefacts, build_artefacts, champion_of, publish_candidate
from training.purchases import drawn_purchases, write_purchases
from training.report import Trained, write_report
from training.telco import Telco, read_telco
from training.trial import drawn_trial, write_trial

SEED: Final = 1
ROOT: Final = Path(__file__).resolve().parent.parent
REPORT_DPI: Final = 120
CARD_DPI: Final = 72
"""The cards are committed: their figures stay under 200 kB together."""

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
app.add_typer(history_app, name="history")
console = Console(stderr=True, highlight=False)

SchemaOption = Annotated[Path, typer.Option("--schema", help="Feature schema file.")]
CustomersOption = Annotated[Path, typer.Option("--customers", help="Customer file to write.")]
RegistryOption = Annotated[Path, typer.Option("--registry", help="Where models are published.")]
ReportOption = Annotated[Path, typer.Option("--report", help="Folder of the report.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of split, hidden values and boosting.")]

SCHEMA: Final = ROOT / "feature_store/demo/telco.toml"
CUSTOMERS: Final = ROOT / "feature_store/demo/customers.csv.gz"
REGISTRY: Final = ROOT / "model_registry"
REPORT: Final = ROOT / "build/training"
CARDS: Final = ROOT / "training/MODEL_CARDS.md"


@dataclass(frozen=True, slots=True)
class _Passed:
    candidate: Candidate
    artefacts: Artefacts


@app.command("data")
def data_command(
    schema: SchemaOption = SCHEMA,
    customers: CustomersOption = CUSTOMERS,
    labelled: Annotated[
        Path | None,
        typer.Option("--labelled", help="Write instead a table with the label, for `arbiter train`."),
    ] = None,
) -> None:
    """Writes the demo's customer file, or the same customers with the label."""
    telco = read_telco(load_schema(schema))
    if labelled is None:
        _write_data(telco, customers)
    else:
        write_labelled(telco, labelled)
        console.print(f"customers    {len(telco.ids)} written: {labelled}", soft_wrap=True)


@app.command("example")
def example_command(
    table: Annotated[Literal["trial", "purchases"], typer.Argument(help="Which table.")],
    path: Annotated[Path, typer.Argument(help="The CSV to write.")],
) -> None:
    """Writes the made-up table of an example of `arbiter train`, drawn from a known truth."""
    if table == "trial":
        write_trial(path, drawn_trial())
    else:
        write_purchases(path, drawn_purchases())
    console.print(f"written: {path}", soft_wrap=True)


@app.command("check")
def check_command(
    schema: SchemaOption = SCHEMA,
    registry: RegistryOption = REGISTRY,
    report: ReportOption = REPORT,
    seed: SeedOption = SEED,
) -> None:
    """Trains, exports and tries every gate; publishes nothing."""
    telco = read_telco(load_schema(schema))
    passed = _train(telco, registry=registry, seed=seed)
    models = tuple(Trained(p.candidate, p.artefacts.parity, None) for p in passed)
    _report(models, telco, report / "report.md", REPORT_DPI)


@app.command("all")
def all_command(
    schema: SchemaOption = SCHEMA,
    customers: CustomersOption = CUSTOMERS,
    registry: RegistryOption = REGISTRY,
    report: ReportOption = REPORT,
    cards: Annotated[Path, typer.Option("--cards", help="Model cards to write.")] = CARDS,
    seed: SeedOption = SEED,
    created: Annotated[
        str, typer.Option("--created", help="Date of the run, YYYY-MM-DD; default today.")
    ] = "",
) -> None:
    """Data, training, gates, export, publication and report. Nothing is published unless all models pass."""
    telco = read_telco(load_schema(schema))
    _write_data(telco, customers)
    passed = _train(telco, registry=registry, seed=seed)
    date = created or datetime.now(UTC).date().isoformat()
    models = tuple(_publish(p, registry=registry, created=date) for p in passed)
    _report(models, telco, report / "report.md", REPORT_DPI)
    _report(models, telco, cards, CARD_DPI)


def main() -> None:
    """Runs the command line; a run that must not go on ends with its reason and exit code 1."""
    try:
        app()
    except (TrainingError, RegistryError, SchemaError) as error:
        console.print(f"[bold red]stopped[/] {type(error).__name__}: {error}", soft_wrap=True)
        raise SystemExit(1) from error


def _write_data(telco: Telco, path: Path) -> None:
    written = "written" if write_customers(telco, path) else "unchanged"
    console.print(f"customers    {len(telco.ids)} {written}: {path}", soft_wrap=True)


def _train(telco: Telco, *, registry: Path, seed: int) -> tuple[_Passed, ...]:
    trainers: tuple[Callable[[], Candidate], ...] = (
        lambda: train_churn(telco, seed=seed),
        lambda: train_propensity(telco, seed=seed),
    )
    passed = []
    for train in trainers:
        with console.status("training ..."):
            candidate = train()
        _show_metrics(candidate)
        champion = champion_of(registry, candidate.task.name)
        check_metrics(candidate, champion=champion.manifest if champion else None)
        with console.status("exporting ..."):
            artefacts = build_artefacts(candidate)
        parity = artefacts.parity
        console.print(
            f"{candidate.task.name:12} parity on {parity.rows} rows: margins equal, "
            f"probabilities within {parity.largest_difference:.1e}"
        )
        passed.append(_Passed(candidate, artefacts))
    return tuple(passed)


def _publish(passed: _Passed, *, registry: Path, created: str) -> Trained:
    publication = publish_candidate(
        passed.candidate,
        passed.artefacts,
        registry=registry,
        created=created,
        reason="passed the gates of training",
    )
    done = "published, champion" if publication.changed else "unchanged"
    console.print(f"{passed.candidate.task.name:12} version {publication.version} {done}")
    return Trained(passed.candidate, passed.artefacts.parity, publication)


def _report(models: tuple[Trained, ...], telco: Telco, page: Path, dpi: int) -> None:
    write_report(page, models=models, telco=telco, dpi=dpi)
    console.print(f"report       {page}", soft_wrap=True)


def _show_metrics(candidate: Candidate) -> None:
    table = Table("metric", "value", title=candidate.task.name, title_justify="left")
    for name, value in sorted(candidate.metrics.items()):
        table.add_row(name, f"{value:.4f}")
    console.print(table)
