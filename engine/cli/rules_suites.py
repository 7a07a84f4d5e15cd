"""`arbiter rules test`: run the suites beside the rules, and say what they cover."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from engine.cli.console import EXIT_ERRORS, EXIT_FAILED, effective_settings, err, fail, setup_errors
from engine.cli.options import AsJson, Registry, Rules
from engine.core.rulebook import Rulebook
from engine.core.scoring import Scorer
from engine.core.snapshot import assemble
from engine.errors import SetupInvalid
from engine.models.errors import ModelRefused
from engine.models.scorer import build_scorer
from engine.release import engine_version
from engine.rulefiles import check_rules
from engine.ruleset.diagnostics import Diagnostic, RuleSetInvalid, counted, render, to_json
from engine.ruleset.sources import RuleSources
from engine.ruleset.trace import RulePlaces
from engine.settings import Settings
from engine.suites.cases import ConcreteCase, expand_suites, read_suites
from engine.suites.report import as_json as results_json
from engine.suites.report import as_junit, as_text, coverage_text
from engine.suites.running import SuiteRun, chosen
from engine.suites.scores import TableScorer
from feature_store.schema import FeatureSchema, load_schema


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
        cases, wrong = ([], []) if rulebook is None else _cases(settings, rulebook, schema)
        if rulebook is None or problems or wrong:
            _refuse([*problems, *wrong], as_json=as_json)
        run = _suite_run(settings, rulebook, schema)
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


def _cases(
    settings: Settings, rulebook: Rulebook, schema: FeatureSchema
) -> tuple[list[ConcreteCase], list[Diagnostic]]:
    try:
        sources = read_suites(settings.rules)
    except RuleSetInvalid as error:
        return [], list(error.diagnostics)
    return expand_suites(sources or {}, rulebook, schema)


def _suite_run(settings: Settings, rulebook: Rulebook, schema: FeatureSchema) -> SuiteRun:
    scorer = TableScorer(actions=rulebook.actions)
    snapshot = assemble(rulebook=rulebook, schema=schema, scorer=scorer, engine_version=engine_version())
    places = RulePlaces(RuleSources.from_directory(settings.rules))
    return SuiteRun(snapshot, places, partial(_champion, settings, schema, rulebook))


def _champion(settings: Settings, schema: FeatureSchema, rulebook: Rulebook) -> Scorer:
    """The promoted models. Raises SetupInvalid."""
    try:
        return build_scorer(registry_root=settings.registry, schema=schema, actions=rulebook.actions)
    except ModelRefused as error:
        raise SetupInvalid(str(error)) from error


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
