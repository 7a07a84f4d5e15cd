"""`arbiter events`: what may happen to customers, events sent by hand, and those that were refused."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from engine.cli import deadletters
from engine.cli.access import AccessFiles
from engine.cli.calls import arbiter
from engine.cli.console import (
    EXIT_ERRORS,
    EXIT_FAILED,
    EXIT_UNAVAILABLE,
    effective_settings,
    fail,
    out,
    present,
    print_document,
    require_data,
    setup_errors,
)
from engine.cli.options import (
    AsJson,
    DataDir,
    Local,
    LocalDataDir,
    LocalRules,
    Rules,
    Store,
    Stream,
    StreamName,
    Target,
    TlsCa,
    TlsCert,
    TlsKey,
    TokenFile,
)

if TYPE_CHECKING:
    from engine._pb.arbiter.v1 import event_service_pb2
    from engine.events.raw import RawEvent

BATCH = 500

app = typer.Typer(
    help="Show event types, send events, and mend those that were refused.",
    no_args_is_help=True,
    add_completion=False,
)
app.add_typer(deadletters.app, name="dlq")


@app.command()
def types(rules: Rules = None, as_json: AsJson = False) -> None:
    """Show the declared types of events: what each carries, how late it may come, what it does."""
    from engine.events.compile import event_types
    from engine.ruleset.diagnostics import RuleSetInvalid
    from engine.ruleset.sources import RuleSources

    settings = effective_settings(rules=rules, log_level="warning")
    try:
        declared = event_types(RuleSources.from_directory(settings.rules)).by_name
    except RuleSetInvalid as error:
        fail(str(error), EXIT_ERRORS)
    told = [
        {
            "type": kind.name,
            "description": kind.description,
            "attributes": {
                name: attribute.type.value + (", required" if attribute.required else "")
                for name, attribute in kind.attributes.items()
            },
            "maxLatenessHours": kind.max_lateness_ms / 3_600_000,
            "effects": [
                name for name in ("contact", "consent", "features") if getattr(kind, name) not in (None, {})
            ],
        }
        for _, kind in sorted(declared.items())
    ]
    if as_json:
        print_document(told)
        return
    table = Table("type", "carries", "late", "does", box=None)
    for kind in told:
        carries = ", ".join(f"{name} ({what})" for name, what in kind["attributes"].items())  # type: ignore[attr-defined]  # a dict
        late = f"{kind['maxLatenessHours']:g} h"
        table.add_row(str(kind["type"]), carries, late, ", ".join(kind["effects"]))  # type: ignore[arg-type]  # text
    present(table)


@app.command()
def send(
    file: Annotated[Path, typer.Argument(help="Events as JSON, one to a line; - for standard input.")],
    target: Target = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    token_file: TokenFile = None,
    local: Local = False,
    data_dir: LocalDataDir = None,
    rules: LocalRules = None,
    stream: Stream = None,
    name: StreamName = "arbiter:{events}",
    as_json: AsJson = False,
) -> None:
    """Send events from a file to a server, or to a stream; each has its own result.

    A line is {"event_id": ..., "type": ..., "customer_id": ..., "occur_time": ..., "attributes": {...}}.
    Ends with 4 where an event was refused. To send a file again is harmless: ids count once.
    """
    events = _read(file)
    if stream is not None:
        _add(events, stream, name)
        return
    counts: Counter[str] = Counter()
    refused: list[dict[str, str]] = []
    access = AccessFiles(tls_ca, tls_cert, tls_key, token_file)
    with arbiter(target, local=local, data_dir=data_dir, rules=rules, access=access) as callee:
        while batch := list(islice(events, BATCH)):
            response = callee.ingest(deadletters.request_of(batch))
            for event, result in zip(batch, response.results, strict=True):
                counts[_status(result)] += 1
                if result.HasField("error"):
                    refused.append(_refusal(event, result))
    if as_json:
        print_document({**counts, "errors": refused})
    else:
        for one in refused:
            out.print(f"{one['event_id']}: {one['reason']}: {one['message']}", markup=False, soft_wrap=True)
        out.print(", ".join(f"{n} {what}" for what, n in sorted(counts.items())) or "no events")
    if refused:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def refresh(data_dir: DataDir = None, store: Store = None, rules: Rules = None) -> None:
    """Compute streaming features and signals of all customers anew, such as after a load or new rules."""
    from engine.bootstrap import open_application
    from engine.errors import StateUnavailable

    settings = effective_settings(data_dir=data_dir, store=store, rules=rules, log_level="warning")
    require_data(settings, "rulesets")
    with setup_errors(), open_application(settings) as application:
        try:
            count = application.events.refresh_all(application.store.customers())
        except StateUnavailable as error:
            fail(f"{error}: {error.__cause__}", EXIT_UNAVAILABLE)
    out.print(f"{count} customers")


def _read(file: Path) -> Iterator[RawEvent]:
    """The events of a file. Ends the command at the first line that holds none."""
    from engine.events.raw import read_event
    from engine.events.types import EventRefused

    for number, line in enumerate(_lines(file), start=1):
        if not line.strip():
            continue
        try:
            yield read_event(line, received_ms=0)
        except EventRefused as error:
            fail(f"{file}:{number}: {error}", EXIT_ERRORS)


def _lines(file: Path) -> Iterable[str]:
    if str(file) == "-":
        yield from sys.stdin
        return
    try:
        with file.open(encoding="utf-8") as opened:
            yield from opened
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{file}: cannot be read: {error}", EXIT_ERRORS)


def _add(events: Iterator[RawEvent], url: str, name: str) -> None:
    from engine.events.raw import write_event
    from feature_store.errors import StoreError

    count = 0
    try:
        with deadletters.open_named(url, name) as opened:
            while batch := [write_event(event) for event in islice(events, BATCH)]:
                opened.add(batch)
                count += len(batch)
    except StoreError as error:
        fail(str(error), EXIT_UNAVAILABLE)
    out.print(f"{count} added")


def _status(result: event_service_pb2.EventResult) -> str:
    from engine._pb.arbiter.v1 import event_service_pb2

    return event_service_pb2.EventStatus.Name(result.status).removeprefix("EVENT_STATUS_").lower()


def _refusal(event: RawEvent, result: event_service_pb2.EventResult) -> dict[str, str]:
    from google.rpc import error_details_pb2

    info = error_details_pb2.ErrorInfo()
    for detail in result.error.details:
        detail.Unpack(info)
    return {"event_id": event.id, "reason": info.reason, "message": result.error.message}
