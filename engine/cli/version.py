"""`arbiter version`."""

from __future__ import annotations

import typer

from engine.release import engine_version

app = typer.Typer(add_completion=False)


@app.command()
def version() -> None:
    """Show the version of the engine."""
    typer.echo(engine_version())
