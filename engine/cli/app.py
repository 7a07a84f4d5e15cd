"""The command `arbiter`: what it can do, in the order one needs it."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from engine import serving
from engine.bootstrap import engine_version
from engine.cli import consent, decide, demo, log, models, rules
from engine.cli.common import DataDir, Registry, Rules, effective_settings, out, setup_errors
from engine.demo.company import load_company
from engine.settings import Settings

app = typer.Typer(
    name="arbiter",
    help="Next-best-action decisions: which action, and why.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="Exit codes: 0 fine, 2 wrong usage, 3 errors in the input, 4 a check failed, 5 no server.",
)
app.add_typer(consent.app, name="consent")
app.add_typer(log.app, name="log")
app.add_typer(models.app, name="models")
app.add_typer(rules.app, name="rules")
app.command(name="decide")(decide.decide)
app.command(name="explain")(decide.explain)
app.command(name="demo")(demo.demo)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    workers: Annotated[int | None, typer.Option(help="Server processes; one for each core.")] = None,
    data_dir: DataDir = None,
    rules: Rules = None,
    registry: Registry = None,
    reflection: Annotated[bool | None, typer.Option(help="Serve gRPC reflection.")] = None,
    load_demo: Annotated[
        bool, typer.Option("--demo", help="First load the demo company into the data directory.")
    ] = False,
) -> None:
    """Serve decisions over gRPC until SIGTERM or Ctrl-C; SIGHUP loads rules and models anew."""
    settings = effective_settings(
        host=host,
        port=port,
        workers=workers,
        data_dir=data_dir,
        rules=rules,
        registry=registry,
        reflection=reflection,
    )
    with setup_errors():
        if load_demo:
            load_company(settings)
        serving.serve(settings)


@app.command()
def settings(data_dir: DataDir = None, rules: Rules = None, registry: Registry = None) -> None:
    """Show every setting: its value, where it comes from, and what it is for."""
    given = {"data_dir": data_dir, "rules": rules, "registry": registry}
    effective = effective_settings(**given)
    table = Table("setting", "value", "from", "what for")
    for name, field in Settings.model_fields.items():
        source = "option" if given.get(name) is not None else "environment"
        source = source if name in effective.model_fields_set else "default"
        table.add_row(f"ARBITER_{name.upper()}", str(getattr(effective, name)), source, field.description)
    out.print(table)


@app.command()
def version() -> None:
    """Show the version of the engine."""
    out.print(engine_version())


def main() -> None:
    """Runs the command line."""
    app()
