"""`arbiter status`: how a server stands, in one look."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from engine.cli.access import NO_ACCESS_FILES, AccessFiles
from engine.cli.console import EXIT_FAILED, EXIT_UNAVAILABLE, effective_settings, out, print_document
from engine.cli.options import AsJson, DataDir, Store, Target, TlsCa, TlsCert, TlsKey

if TYPE_CHECKING:
    from engine.condition import Condition, FilesCondition, MetricsCondition
    from engine.running import RunningServer
    from engine.settings import Settings

app = typer.Typer(add_completion=False)

MetricsAt = Annotated[
    str | None,
    typer.Option("--metrics", help="Address of its metrics. By default where the server says they are."),
]
_SERVICES = {
    "": "decisions",
    "arbiter.v1.OutcomeService": "outcomes",
    "arbiter.v1.ConsentService": "consents",
    "arbiter.v1.EventService": "events",
}
_DAY_S, _HOUR_S, _MINUTE_S = 86_400, 3_600, 60


@app.command()
def status(
    data_dir: DataDir = None,
    store: Store = None,
    target: Target = None,
    metrics: MetricsAt = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    as_json: AsJson = False,
) -> None:
    """Show in one look how a server stands, and what is wrong.

    Exit code 0 where all is well, 4 where something is to be looked at, 5 where no server answers.
    """
    settings = effective_settings(data_dir=data_dir, store=store, log_level="error")
    seen = look(settings, target=target, metrics=metrics, files=AccessFiles(tls_ca, tls_cert, tls_key))
    if as_json:
        print_document(asdict(seen))
    else:
        out.print(_table(seen))
        for concern in seen.concerns:
            out.print(f"! {concern}", style="bold red", markup=False, soft_wrap=True)
    if seen.concerns:
        raise typer.Exit(EXIT_FAILED if seen.up else EXIT_UNAVAILABLE)


def look(
    settings: Settings, *, target: str | None, metrics: str | None, files: AccessFiles = NO_ACCESS_FILES
) -> Condition:
    """Everything that can be seen of a server from here."""
    from engine.condition import (
        Condition,
        concerns_of,
        metrics_address,
        seen_in_files,
        seen_in_metrics,
        server_of,
    )
    from engine.monitor.scraping import MetricsUnreachable, scrape
    from engine.running import running_servers

    server = None if target else server_of(running_servers(settings.data_dir))
    address = target or (f"localhost:{settings.port}" if server is None else _reachable(server.address))
    health = _health(address, files)
    asked = metrics_address(metrics, server, settings)
    found, trouble = None, "they are off; `arbiter serve --metrics HOST:PORT` turns them on"
    if asked and (health or metrics):
        try:
            found, trouble = seen_in_metrics(scrape(asked)), ""
        except MetricsUnreachable as error:
            trouble = str(error)
    seen = Condition(
        address=address,
        up=bool(health),
        health=health,
        server=server,
        files=None if target else seen_in_files(settings),
        metrics=found,
        metrics_trouble=trouble,
    )
    return replace(seen, concerns=concerns_of(seen))


def _reachable(address: str) -> str:
    """Where to call a server that listens everywhere."""
    host, _, port = address.rpartition(":")
    return f"localhost:{port}" if host in ("0.0.0.0", "::", "[::]") else address  # noqa: S104  # not bound here


def _health(address: str, files: AccessFiles) -> Mapping[str, bool]:
    """What health checks say of each service, by what people call it; nothing where nobody answers."""
    from engine.client import ArbiterClient, CallFailed

    try:
        with ArbiterClient(address, timeout_s=2.0, channels=1, access=files.read(address)) as remote:
            return {name: remote.is_ready(service) for service, name in _SERVICES.items()}
    except CallFailed:
        return {}


def _table(seen: Condition) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, told in _rows(seen):
        table.add_row(name, told)
    return table


def _rows(seen: Condition) -> Iterator[tuple[str, str]]:
    yield "server", _server_words(seen)
    if seen.health:
        yield "ready", ", ".join(name for name, ready in seen.health.items() if ready) or "nothing"
    told = seen.metrics or seen.files
    if told is not None and told.rules:
        yield "rules", ", ".join(version.removeprefix("sha256:")[:12] for version in told.rules)
    if told is not None and told.models:
        yield "models", ", ".join(f"{name}/{version}" for name, version in sorted(told.models.items()))
    if seen.files is not None:
        yield from _file_rows(seen.files)
    if seen.metrics is not None:
        yield from _metric_rows(seen.metrics)
    elif seen.up:
        yield "metrics", seen.metrics_trouble


def _server_words(seen: Condition) -> str:
    from engine.condition import up_for

    if not seen.up:
        return f"{seen.address}, no answer"
    if seen.server is None:
        return f"{seen.address}, answers"
    return f"{seen.address}, {_since_words(seen.server)} (up {duration(up_for(seen.server))})"


def _since_words(server: RunningServer) -> str:
    workers = f"{server.workers} worker{'s' if server.workers > 1 else ''}"
    return f"Arbiter {server.engine}, {workers}, since {instant(server.started_ms)}"


def _file_rows(files: FilesCondition) -> Iterator[tuple[str, str]]:
    if files.shares:
        yield "rollouts", ", ".join(f"{version} {share:g} %" for version, share in files.shares.items())
    answer = "no answer" if files.store_answer_ms is None else f"answers in {files.store_answer_ms:.2f} ms"
    yield "store", f"{files.store}, {answer}"
    for log, held in files.logs.items():
        noted = "never" if held.checkpointed_ms is None else instant(held.checkpointed_ms)
        yield f"log {log}", f"{size(held.bytes)} in {held.files} files, last checkpoint {noted}"
    if files.disk_free_bytes is not None and files.disk_size_bytes is not None:
        yield "disk", f"{size(files.disk_free_bytes)} free of {size(files.disk_size_bytes)}"
    yield "drift", ", ".join(files.drift_alarms) or "no alarm"


def _metric_rows(metrics: MetricsCondition) -> Iterator[tuple[str, str]]:
    yield "unsynced", f"{size(metrics.unsynced_bytes)} of decisions"
    yield "reload", "the last one went well" if metrics.last_reload_successful else "the last one was refused"
    calls, faults, shed, degraded = (
        metrics.recent.get(what, 0) for what in ("calls", "faults", "shed", "degraded")
    )
    told = f"{calls:,} calls, {faults:,} failed, {shed:,} shed, {degraded:,} degraded decisions"
    yield "last minute", f"{told}; {metrics.in_flight} in flight"


def instant(at_ms: int) -> str:
    """An instant for people."""
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}Z"


def duration(seconds: float) -> str:
    """A span of time for people, in its two largest units."""
    whole = int(seconds)
    days, hours, minutes = whole // _DAY_S, whole % _DAY_S // _HOUR_S, whole % _HOUR_S // _MINUTE_S
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % _MINUTE_S} s" if minutes else f"{whole} s"


def size(count: int) -> str:
    """A size for people."""
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{count} B" if unit == "B" else f"{value:,.1f} {unit}"
