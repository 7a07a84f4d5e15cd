"""`arbiter serve`: the server."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from engine import supervising
from engine.cli.console import effective_settings, err, require_folder, setup_errors
from engine.cli.demo import load
from engine.cli.options import DataDir, Registry, Rules, Store
from engine.demo.cast import CAST
from engine.settings import Settings, load_settings

app = typer.Typer(add_completion=False)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on; 0 for any that is free.", min=0, max=65535)
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Server processes; one for each core is best.", min=1, max=64)
    ] = None,
    data_dir: DataDir = None,
    store: Store = None,
    rules: Rules = None,
    registry: Registry = None,
    metrics: Annotated[
        str | None, typer.Option(help="Serve metrics for Prometheus at HOST:PORT; off by default.")
    ] = None,
    web: Annotated[
        str | None, typer.Option(help="Serve pages and JSON over HTTP at HOST:PORT; off by default.")
    ] = None,
    reflection: Annotated[bool | None, typer.Option(help="Serve gRPC reflection.")] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="First load the demo company, unless it is there.")
    ] = False,
) -> None:
    """Serve decisions over gRPC until SIGTERM or Ctrl-C.

    SIGHUP loads rules, models, certificates, keys and roles anew; where they are bad, the server goes on with
    those it has.
    """
    settings = effective_settings(
        host=host,
        port=port,
        workers=workers,
        data_dir=data_dir,
        store=store,
        rules=rules,
        registry=registry,
        metrics=metrics,
        web=web,
        reflection=reflection,
    )
    require_folder(settings)
    with setup_errors():
        if demo:
            load(settings)
        if sys.stderr.isatty():
            _introduce(settings, demo=demo)
        supervising.serve(settings)


def _introduce(settings: Settings, *, demo: bool) -> None:
    """For a person at a terminal: where the server will be, and how to try it."""
    port = settings.port or "PORT"
    place = "a free port, PORT below" if settings.port == 0 else f"{settings.host}:{settings.port}"
    customer = next(iter(CAST)) if demo else "ID"
    target = "" if settings.port == load_settings({}).port else f" --target localhost:{port}"
    over_http = "" if settings.web_address is None else _pages(f"http://{settings.web}", demo=demo)
    err.print(
        f"[bold]Arbiter[/] listens on {place} as soon as it says server.ready. In another terminal, try\n"
        f"    arbiter decide --customer {customer} --channel web{target}\n"
        f"{over_http}Data: {settings.data_dir}. Ctrl-C stops.\n"
    )


def _pages(address: str, *, demo: bool) -> str:
    """Where the pages are; in the demo also that of a customer who calls."""
    lines = [f"Pages and JSON over HTTP: {address}", f"    calls of agents    {address}/pop"]
    if demo:
        call = f"{address}/pop?identity=phone:+41791000131&call=first"
        lines.append(f"    a customer calls   {call}")
    return "\n".join(lines) + "\n"
