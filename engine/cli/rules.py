"""`arbiter rules`: check what authors wrote."""

from __future__ import annotations

import sys

import typer

from engine.cli.console import EXIT_ERRORS, effective_settings, out, setup_errors
from engine.cli.options import AsJson, Registry, Rules
from engine.ruleset.diagnostics import counted, render, to_json

app = typer.Typer(help="Check the rule set.", no_args_is_help=True, add_completion=False)


@app.callback()
def _group() -> None:
    """Keeps `check` a sub-command while it is the only one."""


@app.command()
def check(rules: Rules = None, registry: Registry = None, as_json: AsJson = False) -> None:
    """Report every problem of every rule file at once, with its place and what to do."""
    from engine.rulefiles import check_rules  # here, so that --help is quick

    settings = effective_settings(rules=rules, registry=registry, log_level="warning")
    with setup_errors():
        problems, rulebook = check_rules(settings)
    if as_json:
        sys.stdout.write(to_json(problems) + "\n")
    elif rulebook is None:
        sys.stdout.write(f"{render(problems)}\n\n{counted(len(problems))} in {settings.rules}\n")
    else:
        count = len(rulebook.before_scores.rules) + len(rulebook.after_scores.rules)
        out.print(
            f"{settings.rules}: fine: {len(rulebook.actions)} actions, {count} rules, "
            f"{len(rulebook.contact)} contact policies, {len(rulebook.consent.purposes)} purposes; "
            f"{rulebook.version[:19]}",
            soft_wrap=True,
        )
    if rulebook is None:
        raise typer.Exit(EXIT_ERRORS)
