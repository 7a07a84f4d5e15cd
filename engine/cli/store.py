"""`arbiter store`: whether the store is well, what it holds, and features in and out in bulk."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from engine.cli.console import (
    EXIT_ERRORS,
    EXIT_FAILED,
    EXIT_UNAVAILABLE,
    effective_settings,
    err,
    fail,
    out,
    print_document,
    require_data,
    require_folder,
)
from engine.cli.options import AsJson, DataDir, Store
from engine.cli.values import instant_option
from engine.decisionlog.errors import LogError
from engine.logfiles import ERASED, log_directory
from engine.service.erased import ErasedCustomers, nobody
from engine.settings import EMBEDDED, Settings
from engine.stores import open_store, store_place
from feature_store.bulk import NOTHING_DONE, ErasedNow, check_table, load_table, mark_name
from feature_store.differing import refuse_taken_version, shared_versions
from feature_store.errors import FeatureStoreError, LoadError, SchemaError, StoreCorrupt, StoreUnavailable
from feature_store.exporting import Exported, exported, write_parquet
from feature_store.inspecting import Findings, look_through, sampled
from feature_store.oversight import StoreCondition, mebibytes
from feature_store.schema import FeatureSchema, parse_schema
from feature_store.store import OnlineStore
from feature_store.tables import ColumnMap, CustomerTable, open_table
from feature_store.versions import SchemaVersions

app = typer.Typer(
    help="Check the store, say what it holds, load and export features.",
    no_args_is_help=True,
    add_completion=False,
)
_PATIENCE_MS = 5_000
"""How long Redis may take for what comes in bulk; the setting is for decisions."""

Schema = Annotated[Path | None, typer.Option("--schema", help="Feature schema; the settings' by default.")]


@app.command()
def check(
    store: Store = None,
    data_dir: DataDir = None,
    every: Annotated[bool, typer.Option("--all", help="Look at every customer, not at a sample.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check that the store answers, is set up well, and holds nothing that cannot be read.

    Ends with 0 where all is well, 4 where something is damaged or set up badly, 5 where nothing answers.
    """
    with _opened(store, data_dir, must_exist=True) as (opened, _):
        condition = opened.condition()
        with err.status("looking at customers"):
            findings = look_through(opened, opened.customers() if every else sampled(opened))
        in_use = {digest: text for digest, text in opened.schemas().items() if digest in findings.schemas}
        condition = replace(condition, warnings=(*condition.warnings, *shared_versions(in_use)))
        names = _schema_names(opened)
    if as_json:
        print_document(_check_document(condition, findings, names))
    else:
        _print_condition(condition)
        _print_findings(findings, names)
    if findings.unreadable or condition.warnings:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def stats(store: Store = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show how many customers, values, identities and budgets the store holds, and the room they take."""
    with _opened(store, data_dir, must_exist=True) as (opened, _):
        held = opened.stats()
    if as_json:
        print_document(asdict(held))
        return
    table = Table("kind", "values", "size")
    for kind, size in held.kinds.items():
        table.add_row(kind, f"{size.count:,}", mebibytes(size.bytes))
    out.print(table)
    about = "about " if held.is_estimate else ""
    out.print(
        f"{about}{held.customers:,} customers, {held.identities:,} links of identities, "
        f"{held.budgets:,} budgets with units"
    )


@app.command()
def export(
    customer_ids: Annotated[list[str] | None, typer.Argument(help="Customers; all by default.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="File to write; .parquet for Parquet. stdout by default.")
    ] = None,
    store: Store = None,
    data_dir: DataDir = None,
    schema: Schema = None,
) -> None:
    """Write features as JSON lines, or as Parquet that `arbiter store load` reads."""
    with _opened(store, data_dir, must_exist=True) as (opened, settings):
        read = _schema(settings, schema)[0]
        rows = exported(opened, customer_ids or opened.customers(), read, SchemaVersions(opened.schemas))
        if output is not None and output.suffix == ".parquet":
            count = write_parquet(output, read, rows)
        elif output is not None:
            with _writing(output), output.open("w", encoding="utf-8") as file:
                count = sum(file.write(_json_line(row)) > 0 for row in rows)
        else:
            count = sum(sys.stdout.write(_json_line(row)) > 0 for row in rows)
    err.print(f"{count:,} customers exported")


@app.command()
def load(
    files: Annotated[list[Path], typer.Argument(help="CSV (also .gz) or Parquet files.")],
    store: Store = None,
    data_dir: DataDir = None,
    schema: Schema = None,
    customer_id: Annotated[
        str, typer.Option("--id", metavar="COLUMN", help="Column of the customer id.")
    ] = "customer_id",
    maps: Annotated[
        list[str] | None,
        typer.Option(
            "--map", metavar="FEATURE=COLUMN", help="Column of a feature, where it is named otherwise."
        ),
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option("--ignore", metavar="COLUMN", help="Column to pass over.")
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option("--as-of", metavar="INSTANT", help="How old the values are; when the file was written."),
    ] = None,
    skip_bad: Annotated[
        Path | None,
        typer.Option(
            "--skip-bad", metavar="FILE", help="Leave rows with bad cells out, and list them there."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Load features of customers; a load that was killed goes on where it was when it is started again."""
    columns = ColumnMap(customer_id, _mapped(maps or ()), frozenset(ignore or ()))
    with _opened(store, data_dir, must_exist=False) as (opened, settings):
        read, text = _schema(settings, schema)
        refuse_taken_version(read, opened.schemas(), source=str(schema or settings.feature_schema))
        tables = [open_table(path, schema=read, columns=columns) for path in files]
        opened.put_schema(read.digest, text)
        if skip_bad is None:
            with _bar(tables, "checking") as bar:
                for table in tables:
                    check_table(table, bar.within)
                    bar.finish(table)
        loaded = _load_all(opened, settings, tables, as_of=as_of, skip_bad=skip_bad)
    if as_json:
        print_document(loaded)
        return
    for row in loaded:
        left_out = f"; {row['rejected']:,} rows left out, see {skip_bad}" if row["rejected"] else ""
        if row["erased"]:
            left_out += f"; {row['erased']:,} customers were erased and are left out; `arbiter customer "
            left_out += "readmit` lets them in"
        out.print(
            f"{row['file']}: {row['customers']:,} customers in {row['seconds']:.1f} s{left_out}",
            markup=False,
            soft_wrap=True,
        )


def _load_all(
    opened: OnlineStore,
    settings: Settings,
    tables: Sequence[CustomerTable],
    *,
    as_of: str | None,
    skip_bad: Path | None,
) -> list[dict[str, object]]:
    loaded: list[dict[str, object]] = []
    erased = _erased_now(settings)
    with _bar(tables, "loading") as bar:
        for place, table in enumerate(tables):
            began, progress = time.monotonic(), NOTHING_DONE
            as_of_ms = _as_of_ms(as_of, table.path)
            mark_file = settings.data_dir / "loads" / mark_name(table, store_place(settings))
            rejects = None if skip_bad is None else _rejects_of(skip_bad, place)
            for progress in load_table(
                opened, table, as_of_ms=as_of_ms, mark_file=mark_file, rejects=rejects, erased=erased
            ):
                bar.within(progress.done_bytes)
            bar.finish(table)
            seconds = round(time.monotonic() - began, 3)
            loaded.append(
                {
                    "file": str(table.path),
                    "customers": progress.customers,
                    "rejected": progress.rejected,
                    "erased": progress.erased,
                    "seconds": seconds,
                }
            )
    return loaded


def _erased_now(settings: Settings) -> ErasedNow:
    """Who is erased by the register of the data directory, as it is at each question."""
    register = ErasedCustomers(log_directory(settings, ERASED))

    def erased() -> Callable[[str], object] | None:
        entry = register.now()
        return None if entry is nobody else entry

    return erased


def _rejects_of(skip_bad: Path, place: int) -> Path:
    """The file of rejects of each file loaded: a load that goes on must find its own."""
    return skip_bad if place == 0 else skip_bad.with_name(f"{skip_bad.stem}.{place + 1}{skip_bad.suffix}")


class _Bar:
    """A progress bar over the bytes of several files."""

    def __init__(self, progress: Progress, tables: Sequence[CustomerTable], what: str) -> None:
        self._progress = progress
        self._task = progress.add_task(what, total=sum(table.size_bytes for table in tables))
        self._behind = 0

    def within(self, done_bytes: int) -> None:
        """How much of the present file is done."""
        self._progress.update(self._task, completed=self._behind + done_bytes)

    def finish(self, table: CustomerTable) -> None:
        """The present file is done."""
        self._behind += table.size_bytes
        self.within(0)


@contextmanager
def _bar(tables: Sequence[CustomerTable], what: str) -> Iterator[_Bar]:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        yield _Bar(progress, tables, what)


@contextmanager
def _opened(
    store: str | None, data_dir: Path | None, *, must_exist: bool
) -> Iterator[tuple[OnlineStore, Settings]]:
    """The store of the settings; ends the command with the text of what goes wrong with it."""
    settings = effective_settings(store=store, data_dir=data_dir, log_level="warning")
    patience_ms = max(settings.store_timeout_ms, _PATIENCE_MS)
    settings = settings.model_copy(update={"store_timeout_ms": patience_ms})
    require_folder(settings)
    if must_exist and settings.store == EMBEDDED:
        require_data(settings)
    try:
        opened = open_store(settings, patient=True)
        try:
            yield opened, settings
        finally:
            opened.close()
    except (StoreUnavailable, LogError) as error:
        fail(str(error), EXIT_UNAVAILABLE)
    except StoreCorrupt as error:
        fail(str(error), EXIT_FAILED)
    except FeatureStoreError as error:
        fail(str(error), EXIT_ERRORS)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LoadError(f"{path}: cannot be written: {error.strerror}") from error


def _schema(settings: Settings, path: Path | None) -> tuple[FeatureSchema, str]:
    """The schema and its text. Raises SchemaError."""
    path = path or settings.feature_schema
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SchemaError(f"{path}: cannot be read: {error}") from error
    return parse_schema(text, source=str(path)), text


def _mapped(maps: Sequence[str]) -> Mapping[str, str]:
    columns = {}
    for given in maps:
        feature, equals, column = given.partition("=")
        if not (feature and equals and column):
            raise typer.BadParameter(f"--map {given!r} is not FEATURE=COLUMN")
        columns[feature] = column
    return columns


def _as_of_ms(as_of: str | None, path: Path) -> int:
    if as_of is None:
        return path.stat().st_mtime_ns // 1_000_000
    return round(instant_option(as_of).timestamp() * 1_000)


def _json_line(row: Exported) -> str:
    return json.dumps(asdict(row), ensure_ascii=False) + "\n"


def _schema_names(opened: OnlineStore) -> Mapping[str, str]:
    """What schemas are called, by digest, where the store keeps them and this version can read them."""
    versions, names = SchemaVersions(opened.schemas), {}
    for digest in opened.schemas():
        schema = versions.of(digest, now_ms=0)
        if schema is not None:
            names[digest] = f"{schema.name} version {schema.version}"
    return names


def _check_document(
    condition: StoreCondition, findings: Findings, names: Mapping[str, str]
) -> dict[str, object]:
    return {
        **asdict(condition),
        "customers_looked_at": findings.customers,
        "unreadable": findings.unreadable,
        "unreadable_customers": findings.named,
        "schemas": {
            digest: {"name": names.get(digest, ""), "customers": count}
            for digest, count in findings.schemas.most_common()
        },
    }


def _print_condition(condition: StoreCondition) -> None:
    out.print(f"{condition.engine} {condition.version} at {condition.place}", markup=False, soft_wrap=True)
    for name, value in condition.facts.items():
        out.print(f"  {name}: {value}", markup=False, soft_wrap=True)
    for warning in condition.warnings:
        err.print(f"warning: {warning}", markup=False, soft_wrap=True)


def _print_findings(findings: Findings, names: Mapping[str, str]) -> None:
    out.print(f"{findings.customers:,} customers looked at, {findings.unreadable:,} unreadable")
    for digest, count in findings.schemas.most_common():
        name = names.get(digest, "a schema that is not kept: nobody can read these")
        out.print(f"  {count:,} of {name} ({digest[:19]})", markup=False, soft_wrap=True)
    for text in findings.named.values():
        err.print(f"unreadable: {text}", markup=False, soft_wrap=True)
