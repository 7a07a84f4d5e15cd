"""`arbiter rules diff`: what a change of rules does, and to whom."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from engine.cli.console import effective_settings, out, setup_errors
from engine.cli.diff_markdown import markdown
from engine.cli.options import AsJson, DataDir, Registry, Rules
from engine.comparing import Asked
from engine.comparing import diff as compare_rules

_NAMES = "A version, current, latest, shadow, git:REVISION, or a folder."


def register(app: typer.Typer) -> None:
    """Adds the command to `arbiter rules`."""
    app.command()(diff)


def diff(
    before: Annotated[str, typer.Argument(help=_NAMES, metavar="A")],
    after: Annotated[str, typer.Argument(help=_NAMES, metavar="B")],
    channel: Annotated[
        list[str] | None,
        typer.Option(help="Decide on this channel; may be given several times. By default all, in turn."),
    ] = None,
    log: Annotated[
        int, typer.Option(help="Decide the last N logged decisions again, not the customers.", min=0)
    ] = 0,
    by: Annotated[
        list[str] | None, typer.Option(help="Feature to count by; may be given several times.")
    ] = None,
    customers: Annotated[int | None, typer.Option(help="At most so many customers.", min=1)] = None,
    rules: Rules = None,
    data_dir: DataDir = None,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Compare two rule sets: what changes, in words, and which customers gain and lose which actions.

    Prints Markdown for a pull request. git:REVISION is the --rules folder as that revision has it.
    """
    settings = effective_settings(rules=rules, data_dir=data_dir, registry=registry, log_level="error")
    asked = Asked(
        channels=tuple(channel or ()), logged=log, by=tuple(by or ("contract",)), customers=customers
    )
    with setup_errors():
        found = compare_rules(settings, before, after, asked=asked)
    if as_json:
        sys.stdout.write(json.dumps(asdict(found), indent=2, ensure_ascii=False) + "\n")
    elif sys.stdout.isatty():
        from rich.markdown import Markdown  # here, as a file or a pipe needs none of it

        out.print(Markdown(markdown(found)))
    else:
        sys.stdout.write(markdown(found))
