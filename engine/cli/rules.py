"""`arbiter rules`: check what authors wrote."""

from __future__ import annotations

import sys

import typer

from engine.bootstrap import check_rules
from engine.cli.common import (
    EXIT_ERRORS,
    AsJson,
    Registry,
    Rules,
    effective_settings,
    err,
    out,
    setup_errors,
)
from engine.ruleset.diagnostics import counted, render, to_json

app = typer.Typer(help="Check the rule set.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps `check` a sub-command while it is the only one."""


@app.command()
def check(rules: Rules = None, registry: Registry = None, as_json: AsJson = False) -> None:
    """Report every problem of every rule file at once, with its place and what to do."""
    settings = effective_settings(rules=rules, registry=registry, log_level="warning")
    with setup_errors():
        problems, rulebook = check_rules(settings)
    if as_json:
        sys.stdout.write(to_json(problems) + "\n")
    elif problems:
        sys.stdout.write(render(problems) + "\n")
        err.print(f"\n{counted(len(problems))}")
    if rulebook is None:
        raise typer.Exit(EXIT_ERRORS)
    if not as_json:
        count = len(rulebook.before_scores.rules) + len(rulebook.after_scores.rules)
        out.print(
            f"fine: {len(rulebook.actions)} actions, {count} rules, {len(rulebook.contact)} contact policies, "
            f"{len(rulebook.consent.purposes)} purposes; {rulebook.version[:19]}"
        )
