"""`arbiter ingest`: the process that reads events from a Redis Stream."""

from __future__ import annotations

from typing import Annotated

import typer

from engine.cli.console import effective_settings, require_folder, setup_errors
from engine.cli.options import DataDir, Registry, Rules, Store, StreamGroup, StreamName

app = typer.Typer(add_completion=False)


@app.command()
def ingest(
    stream: Annotated[str, typer.Option("--stream", help="URL of the Redis that holds the stream.")],
    name: StreamName = "arbiter:{events}",
    group: StreamGroup = "arbiter",
    batch: Annotated[
        int, typer.Option("--batch", help="Most events applied at once.", min=1, max=5000)
    ] = 500,
    idle_s: Annotated[
        float,
        typer.Option("--idle", help="Seconds after which what a dead process held is taken over.", min=0.1),
    ] = 30.0,
    keep_h: Annotated[
        float, typer.Option("--keep", help="Hours for which settled events stay in the stream.", min=0)
    ] = 168.0,
    data_dir: DataDir = None,
    store: Store = None,
    rules: Rules = None,
    registry: Registry = None,
) -> None:
    """Apply the events of a Redis Stream until SIGTERM or Ctrl-C.

    Several may run on one stream; each event counts once, whatever dies. What cannot be applied goes to the
    stream's dead letters.
    """
    from engine import ingesting  # here, as --help needs none of it
    from engine.events.stream import Pace

    settings = effective_settings(data_dir=data_dir, store=store, rules=rules, registry=registry)
    require_folder(settings)
    pace = Pace(batch=batch, idle_ms=round(idle_s * 1000), keep_ms=round(keep_h * 3_600_000))
    with setup_errors():
        ingesting.ingest(settings, ingesting.Source(stream, name, group, pace))
