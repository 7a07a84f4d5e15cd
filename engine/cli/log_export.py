"""`arbiter log export` and `arbiter log query`: decisions as tables, masked by policy."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.console import (
    EXIT_ERRORS,
    EXIT_UNAVAILABLE,
    effective_settings,
    err,
    fail,
    out,
    present,
    print_document,
    require_data,
    setup_errors,
)
from engine.cli.options import AsJson, DataDir
from engine.cli.values import instant_ms

if TYPE_CHECKING:
    from engine.decisionlog.analysis import Answer
    from engine.decisionlog.exporting import Exported, Range
    from engine.decisionlog.masking import FeatureNames, Mask, MaskingPolicy
    from engine.domain import Versions
    from engine.settings import Settings

_PARQUET = "parquet"
_TABLE, _JSON, _CSV = "table", "json", "csv"
_SCHEMAS = 16
"""Feature schemas that stay ready."""

Masking = Annotated[
    Path | None,
    typer.Option("--masking", help="Masking policy, a TOML file. By default only pseudonyms leave the log."),
]
Since = Annotated[str | None, typer.Option("--since", help="Only from this date or instant on.")]
Until = Annotated[str | None, typer.Option("--until", help="Only before this date or instant.")]


def export(
    folder: Annotated[Path, typer.Option("--out", help="Folder of the export; made where it is missing.")],
    kind: Annotated[str, typer.Option("--format", help="parquet, which is all there is.")] = _PARQUET,
    since: Since = None,
    until: Until = None,
    masking: Masking = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Export decisions and outcomes to Parquet, a folder for each day; the next time only what is new.

    Of a range of time all of it, into a folder of its own. What was erased since leaves the files too.
    """
    if kind != _PARQUET:
        raise typer.BadParameter(f"{kind!r} is no format; write parquet", param_hint="--format")
    settings = effective_settings(data_dir=data_dir, log_masking=masking, log_level="error")
    require_data(settings, "decisions")
    done = _exported(settings, folder, within(since, until), quiet=as_json)
    if as_json:
        print_document(asdict(done))
        return
    out.print(f"{done.decisions:,} decisions and {done.outcomes:,} outcomes in {done.files} files")
    if done.removed:
        out.print(f"{done.removed:,} rows removed, as their records were erased")


def query(
    sql: Annotated[str, typer.Argument(help="One SELECT over decisions, candidates and outcomes.")],
    over: Annotated[
        Path | None, typer.Option("--over", help="Folder of an export. By default a temporary one is made.")
    ] = None,
    style: Annotated[str, typer.Option("--format", help="table, json or csv.")] = _TABLE,
    memory_mb: Annotated[int, typer.Option("--memory", help="Most memory to use, in MB.", min=64)] = 1024,
    since: Since = None,
    until: Until = None,
    masking: Masking = None,
    data_dir: DataDir = None,
) -> None:
    """Ask decisions and outcomes a question in SQL.

    Over an export, or without one over the log itself, which takes longer. It reads nothing else.
    """
    if style not in (_TABLE, _JSON, _CSV):
        raise typer.BadParameter(f"{style!r} is no format; write table, json or csv", param_hint="--format")
    if over is not None and (since or until or masking):
        raise typer.BadParameter("the export has its own range and policy; leave these options out")
    settings = effective_settings(data_dir=data_dir, log_masking=masking, log_level="error")
    with _exports(settings, over, within(since, until)) as folder, setup_errors(), _extra("analysis"):
        from engine.decisionlog.analysis import ask

        _print(ask(folder, sql, memory_mb=memory_mb), style)


@contextmanager
def _exports(settings: Settings, over: Path | None, span: Range) -> Iterator[Path]:
    """The folder to ask: the one given, or one that is made now and goes again."""
    if over is not None:
        if not (over / "cursor.json").is_file():
            fail(f"{over}: holds no export; make one with `arbiter log export --out {over}`", EXIT_ERRORS)
        yield over
        return
    require_data(settings, "decisions")
    with TemporaryDirectory(prefix="arbiter-query-") as made:
        _exported(settings, Path(made), span, quiet=True)
        yield Path(made)


def within(since: str | None, until: str | None) -> Range:
    """The range that options name."""
    with _extra("bulk"):
        from engine.decisionlog.exporting import Range

    return Range(instant_ms(since), instant_ms(until))


def _exported(settings: Settings, folder: Path, span: Range, *, quiet: bool) -> Exported:
    from engine.decisionlog.errors import LogCorrupt, LogError, LogUnavailable
    from engine.logfiles import DECISIONS, OUTCOMES, log_directory

    with _extra("bulk"):
        from engine.decisionlog.exporting import export as export_logs
    with setup_errors():
        mask = mask_of(settings)
    try:
        with err.status("exporting") if not quiet and err.is_terminal else _silence():
            return export_logs(
                folder,
                decisions=log_directory(settings, DECISIONS),
                outcomes=log_directory(settings, OUTCOMES),
                mask=mask,
                within=span,
            )
    except LogUnavailable as error:
        fail(str(error), EXIT_UNAVAILABLE)
    except (LogCorrupt, LogError) as error:
        fail(str(error), EXIT_ERRORS)


def mask_of(settings: Settings) -> Mask:
    """The mask that the settings name, and by default the strictest. Raises SetupInvalid."""
    from engine.decisionlog.masking import Handling, Mask, MaskingPolicy, read_policy
    from engine.logfiles import identity_key

    key = identity_key(settings)
    if settings.log_masking is not None:
        policy = read_policy(settings.log_masking)
        _warn_of_unknown(policy, settings)
    elif key:
        policy = MaskingPolicy()
    else:
        policy = MaskingPolicy(customer_id=Handling.DROP)
        err.print(
            "no ARBITER_IDENTITY_KEY to make pseudonyms with: customers are left out",
            markup=False,
            soft_wrap=True,
        )
    return Mask(policy, key=key, feature_names=_feature_names(settings))


def _warn_of_unknown(policy: MaskingPolicy, settings: Settings) -> None:
    """Says which features the policy names that there are not: misspelt, they would be dropped in silence."""
    from engine.decisionlog.masking import unknown_names
    from feature_store.errors import SchemaError
    from feature_store.schema import load_schema

    try:
        features = frozenset(feature.name for feature in load_schema(settings.feature_schema).feature)
    except SchemaError:
        return  # only a hint was to come of it
    for name in unknown_names(policy, features=features):
        err.print(
            f"{settings.log_masking}: {name}: the schema has no such feature", markup=False, soft_wrap=True
        )


def _feature_names(settings: Settings) -> FeatureNames:
    from engine.snapshots import rule_archive
    from feature_store.schema import parse_schema

    archive = rule_archive(settings)

    @lru_cache(maxsize=_SCHEMAS)
    def names(rules: str, feature_schema: str) -> tuple[str, ...]:
        found = archive.find(rules=rules, feature_schema=feature_schema)
        if found is None:
            return ()
        return tuple(feature.name for feature in parse_schema(found.feature_schema, source="archive").feature)

    def of(versions: Versions) -> tuple[str, ...]:
        return names(versions.rules, versions.feature_schema)

    return of


@contextmanager
def _extra(name: str) -> Iterator[None]:
    """Ends the command where a package of an extra is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        fail(f"needs {error.name}; install it with: pip install 'arbiter-nba[{name}]'", EXIT_ERRORS)


@contextmanager
def _silence() -> Iterator[None]:
    yield


def _print(answer: Answer, style: str) -> None:
    if style == _JSON:
        print_document([dict(zip(answer.columns, map(_plain, row), strict=True)) for row in answer.rows])
    elif style == _CSV:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(answer.columns)
        writer.writerows([[_text(value) for value in row] for row in answer.rows])
    else:
        from rich.table import Table

        table = Table(*answer.columns)
        for row in answer.rows:
            table.add_row(*(_text(value) for value in row))
        present(table)


def _plain(value: object) -> object:
    """A value as JSON has it."""
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _text(value: object) -> str:
    if value is None:
        return ""
    return json.dumps(_plain(value), ensure_ascii=False) if isinstance(value, (list, dict)) else str(value)
