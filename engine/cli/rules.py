"""`arbiter rules`: check what authors wrote."""

from __future__ import annotations

import typer

from engine.cli import rules_check, rules_diff, rules_fmt, rules_repl, rules_suites, rules_versions

app = typer.Typer(help="Check the rule set.", no_args_is_help=True, add_completion=False)
rules_check.register(app)
rules_versions.register(app)
rules_diff.register(app)
rules_suites.register(app)
rules_fmt.register(app)
rules_repl.register(app)


@app.callback()
def _group() -> None:
    """Keeps every command a sub-command."""
