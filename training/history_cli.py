"""`python -m training history`: tables as they were known, and leaks in tables made elsewhere."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from feature_store.schema import FeatureSchema, load_schema
from training.history import read_events, read_observations, read_offered, read_snapshots, write_rows
from training.leaks import check_table, rows_seen
from training.pointintime import History

app = typer.Typer(no_args_is_help=True, help="Training tables from the event history, as it was known.")
console = Console(stderr=True, highlight=False)

SchemaOption = Annotated[Path, typer.Option("--schema", help="Feature schema file.")]
EventsOption = Annotated[
    list[Path] | None, typer.Option("--events", help="Events as JSON lines, each with received_time.")
]
SnapshotsOption = Annotated[
    list[Path] | None,
    typer.Option("--snapshots", help="Loaded features, with view_time and known_time: CSV or Parquet."),
]
IgnoreOption = Annotated[list[str] | None, typer.Option("--ignore", help="Column of the rows to pass over.")]
SnapshotIgnoreOption = Annotated[
    list[str] | None, typer.Option("--ignore-in-snapshots", help="Column of the snapshots to pass over.")
]
SCHEMA: Final = Path(__file__).resolve().parent.parent / "feature_store/demo/telco.toml"


@app.command("build")
def build_command(
    observations: Annotated[Path, typer.Argument(help="Rows: customer_id, at, label, label_known.")],
    out: Annotated[Path, typer.Option("--out", help="Table to write, .parquet or .csv.")],
    schema: SchemaOption = SCHEMA,
    events: EventsOption = None,
    snapshots: SnapshotsOption = None,
    ignore: IgnoreOption = None,
    ignore_in_snapshots: SnapshotIgnoreOption = None,
) -> None:
    """Writes every feature of every row as a decision at its instant would have read it."""
    declared = load_schema(schema)
    rows = read_observations(observations, schema=declared, ignored=ignore or ())
    seen = rows_seen(_history(declared, events, snapshots, ignore_in_snapshots), rows)
    write_rows(out, rows, seen, schema=declared)
    console.print(f"table        {len(rows)} rows written: {out}", soft_wrap=True)


@app.command("check")
def check_command(
    table: Annotated[Path, typer.Argument(help="A table with the rows' columns and features.")],
    schema: SchemaOption = SCHEMA,
    events: EventsOption = None,
    snapshots: SnapshotsOption = None,
    ignore: IgnoreOption = None,
    ignore_in_snapshots: SnapshotIgnoreOption = None,
) -> None:
    """Computes a table again from the history; exit code 1 names what was not known at its instant."""
    declared = load_schema(schema)
    offered = read_offered(table, schema=declared, ignored=ignore or ())
    check_table(_history(declared, events, snapshots, ignore_in_snapshots), offered)
    console.print(
        f"table        {len(offered.rows)} rows, {len(offered.values)} features: no leak", soft_wrap=True
    )


def _history(
    schema: FeatureSchema, events: list[Path] | None, snapshots: list[Path] | None, ignored: list[str] | None
) -> History:
    return History(
        schema,
        events=chain.from_iterable(map(read_events, events or ())),
        snapshots=chain.from_iterable(
            read_snapshots(path, schema=schema, ignored=ignored or ()) for path in snapshots or ()
        ),
    )
