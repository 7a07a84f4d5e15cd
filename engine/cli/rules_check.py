"""`arbiter rules check`: everything that is wrong or odd about the rules, at once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer
from pydantic import TypeAdapter, ValidationError

from engine.cli.console import EXIT_ERRORS, effective_settings, out, setup_errors
from engine.cli.options import AsJson, Registry, Rules
from engine.core.rulebook import Rulebook
from engine.release import engine_version
from engine.rulefiles import analyse_rules
from engine.ruleset.diagnostics import Diagnostic, counted_by_severity, render, to_json
from engine.ruleset.documents import Instant
from engine.ruleset.sarif import to_sarif


class OutputFormat(StrEnum):
    """How the diagnostics are written."""

    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"


AsOf = Annotated[
    str | None,
    typer.Option("--as-of", help="Ask about one instant, e.g. 2027-01-31: what is not in force is noted."),
]
Format = Annotated[OutputFormat, typer.Option("--format", help="How to write what was found.")]


def register(app: typer.Typer) -> None:
    """Adds the command to `arbiter rules`."""
    app.command()(check)


def check(
    rules: Rules = None,
    registry: Registry = None,
    output: Format = OutputFormat.TEXT,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Report every problem of every rule file at once, with its place and what to do.

    Ends with 0 where there is no error, 3 where there is one; warnings and notes refuse nothing.
    """
    at_ms = _instant(as_of)
    settings = effective_settings(rules=rules, registry=registry, log_level="warning")
    with setup_errors():
        found, rulebook = analyse_rules(settings, as_of_ms=at_ms)
    written = OutputFormat.JSON if as_json else output
    sys.stdout.write(_WRITERS[written](found, settings.rules))
    if written is OutputFormat.TEXT:
        _sum_up(found, rulebook, settings.rules)
    if rulebook is None:
        raise typer.Exit(EXIT_ERRORS)


def _instant(as_of: str | None) -> int | None:
    """Milliseconds of the option. Ends the command with a usage error where it is no instant."""
    if as_of is None:
        return None
    try:
        adapter: TypeAdapter[int] = TypeAdapter(Instant)
        return adapter.validate_python(as_of)
    except ValidationError as error:
        raise typer.BadParameter(error.errors()[0]["msg"], param_hint="--as-of") from None


def _text(found: Sequence[Diagnostic], _: Path) -> str:
    return render(found) + "\n" if found else ""


def _json(found: Sequence[Diagnostic], _: Path) -> str:
    return to_json(found) + "\n"


def _sarif(found: Sequence[Diagnostic], folder: Path) -> str:
    here = Path.cwd()
    inside = folder.resolve().is_relative_to(here)
    root = folder.resolve().relative_to(here).as_posix() if inside else ""
    return to_sarif(found, version=engine_version(), root="" if root == "." else root) + "\n"


_WRITERS: Final[Mapping[OutputFormat, Callable[[Sequence[Diagnostic], Path], str]]] = {
    OutputFormat.TEXT: _text,
    OutputFormat.JSON: _json,
    OutputFormat.SARIF: _sarif,
}


def _sum_up(found: Sequence[Diagnostic], rulebook: Rulebook | None, folder: Path) -> None:
    if found:
        out.print(f"\n{counted_by_severity(found)} in {folder}", soft_wrap=True)
    if rulebook is not None:
        counts = {
            "actions": len(rulebook.actions),
            "rules": len(rulebook.before_scores.rules) + len(rulebook.after_scores.rules),
            "contact policies": len(rulebook.contact),
            "purposes": len(rulebook.consent.purposes),
        }
        told = ", ".join(f"{n} {what}" for what, n in counts.items())
        out.print(f"{folder}: fine: {told}; {rulebook.version[:19]}", soft_wrap=True)
