"""`python -m loadtest`: measures a running server, or one it starts on a core of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from loadtest.latency import measure, stay_on

app = typer.Typer(help="Measure Arbiter from the client's side.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Measure Arbiter from the client's side."""


@app.command()
def latency(
    calls: Annotated[int, typer.Option(min=1, help="Calls that count.")] = 10_000,
    warm_up: Annotated[int, typer.Option(min=1, help="Calls before that do not.")] = 1_000,
    target: Annotated[
        str, typer.Option(help="A running server. Default: start one on core 0, and call from core 1.")
    ] = "",
    data_dir: Annotated[str, typer.Option(help="Data directory of the server it starts.")] = "data/demo",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Latency of Decide at concurrency 1 over the demo customers: p50, p90, p99, p99.9 and the worst."""
    if target:
        found = measure(target, calls=calls, warm_up=warm_up)
    else:
        with _own_server(data_dir) as own:
            stay_on(1 % (os.cpu_count() or 1))
            found = measure(own, calls=calls, warm_up=warm_up)
    figures = {f"p{p:g}_ms": round(found.at(p), 3) for p in (50, 90, 99, 99.9, 100)}
    if as_json:
        sys.stdout.write(json.dumps({"calls": calls, "failed": found.failed, **figures}) + "\n")
    else:
        told = ", ".join(f"{name.removesuffix('_ms')} {value} ms" for name, value in figures.items())
        typer.echo(f"{calls} calls, {found.failed} failed: {told}")
    if found.failed:
        raise typer.Exit(4)


@contextmanager
def _own_server(data_dir: str) -> Iterator[str]:
    """A server with the demo company on core 0."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "engine", "serve", "--demo", "--port", str(port), "--data-dir", data_dir]
    server = subprocess.Popen(command, env={**os.environ, "ARBITER_LOG_LEVEL": "warning"})  # noqa: S603  # ours
    os.sched_setaffinity(server.pid, {0})
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)


app()
