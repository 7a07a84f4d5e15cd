"""`arbiter rules test`: run the suites beside the rules, and say what they cover."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from engine.cli.console import EXIT_ERRORS, EXIT_FAILED, effective_settings, err, fail, setup_errors
from engine.cli.options import AsJson, Registry, Rules
from engine.rulefiles import check_rules
from engine.ruleset.diagnostics import Diagnostic, counted, render, to_json
from engine.suites.report import as_json as results_json
from engine.suites.report import as_junit, as_text, coverage_text
from engine.suites.running import chosen
from engine.suitesets import suite_cases, suite_run
from feature_store.schema import load_schema


def register(app: typer.Typer) -> None:
    """Adds the command to `arbiter rules`."""
    app.command(name="test")(run_suites)


def run_suites(
    rules: Rules = None,
    registry: Registry = None,
    only: Annotated[
        str, typer.Option("--filter", help="Only cases whose `suite: name` holds this; * and ? match.")
    ] = "",
    coverage: Annotated[bool, typer.Option("--coverage", help="Say what the cases cover.")] = False,
    min_coverage: Annotated[
        float | None,
        typer.Option(min=0, max=100, help="Fail where rules or branches are covered less, in percent."),
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML to this file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run the suites beside the rules; a failing case shows what its rules saw."""
    settings = effective_settings(rules=rules, registry=registry, log_level="warning")
    with setup_errors():
        problems, rulebook = check_rules(settings)
        schema = load_schema(settings.feature_schema)
        cases, wrong = ([], []) if rulebook is None else suite_cases(settings, rulebook, schema)
        if rulebook is None or problems or wrong:
            _refuse([*problems, *wrong], as_json=as_json)
        run = suite_run(settings, rulebook, schema)
        results = run.run(chosen(cases, only))
    if not results:
        fail(f"no case matches {only!r}" if cases else f"{settings.rules}: no suites", EXIT_ERRORS)
    if junit is not None:
        _write(junit, as_junit(results))
    wanted = coverage or min_coverage is not None
    if as_json:
        sys.stdout.write(results_json(results, run.coverage if wanted else None) + "\n")
    else:
        text = as_text(results)
        sys.stdout.write(f"{text}\n\n{coverage_text(run.coverage)}\n" if wanted else f"{text}\n")
    _judge(all(result.holds for result in results), run.coverage.totals().percent, min_coverage)


def _refuse(problems: list[Diagnostic], *, as_json: bool) -> NoReturn:
    sys.stdout.write((to_json(problems) if as_json else render(problems)) + "\n")
    err.print(f"\n{counted(len(problems))}")
    raise typer.Exit(EXIT_ERRORS)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        fail(f"{path}: cannot be written: {error.strerror}", EXIT_ERRORS)


def _judge(hold: bool, percent: float, wanted: float | None) -> None:
    """Ends the command with its exit code."""
    low = wanted is not None and percent < wanted
    if low:
        err.print(f"coverage is {percent:.1f} %, below {wanted:g} %")
    if low or not hold:
        raise typer.Exit(EXIT_FAILED)
