"""The suites of the demo company: they hold, they cover the rules, their files are in form."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from engine.core.snapshot import assemble
from engine.models.scorer import build_scorer
from engine.ruleset.build import build_rulebook
from engine.ruleset.sources import RuleSources
from engine.ruleset.trace import RulePlaces, Tracer
from engine.settings import Settings
from engine.suites.cases import expand_suites, read_suites
from engine.suites.recording import FALSE, TRUE, UNKNOWN, record
from engine.suites.report import as_text, coverage_text
from engine.suites.running import Result, SuiteRun
from engine.suites.scores import TableScorer
from feature_store.schema import load_schema

RULES = Path(__file__).parents[3] / "rules"
LEAST_PERCENT = 95.0


@cache
def _ran() -> tuple[list[Result], SuiteRun]:
    settings = Settings()
    schema = load_schema(settings.feature_schema)
    sources = RuleSources.from_directory(RULES)
    rulebook = build_rulebook(sources, schema)
    cases, problems = expand_suites(read_suites(RULES) or {}, rulebook, schema)
    assert problems == []
    scorer = TableScorer(actions=rulebook.actions)
    snapshot = assemble(rulebook=rulebook, schema=schema, scorer=scorer, engine_version="test")
    run = SuiteRun(
        snapshot,
        RulePlaces(sources),
        lambda: build_scorer(registry_root=settings.registry, schema=schema, actions=rulebook.actions),
    )
    return run.run(cases), run


def test_every_case_of_the_demo_rules_holds() -> None:
    """`arbiter rules test` passes."""
    results, _ = _ran()

    assert all(result.holds for result in results), as_text(results)


def test_the_demo_suites_cover_nearly_every_rule_and_branch() -> None:
    """What is not covered is listed in the failure."""
    _, run = _ran()

    assert run.coverage.totals().percent >= LEAST_PERCENT, coverage_text(run.coverage, every_rule=False)


@pytest.mark.parametrize("pack", sorted(p.stem for p in (RULES / "business").glob("*.yaml")))
def test_every_policy_pack_has_a_suite(pack: str) -> None:
    """Who owns rules owns their tests."""
    assert (RULES / "suites" / f"{pack}_test.yaml").is_file()


def test_traces_agree_with_what_decided() -> None:
    """Over all demo cases the traced value of a condition is the truth its rule was applied with."""
    settings = Settings()
    schema = load_schema(settings.feature_schema)
    rulebook = build_rulebook(RuleSources.from_directory(RULES), schema)
    cases, _ = expand_suites(read_suites(RULES) or {}, rulebook, schema)
    scorer = TableScorer(actions=rulebook.actions)
    snapshot = assemble(rulebook=rulebook, schema=schema, scorer=scorer, engine_version="test")
    tracer = Tracer.of(rulebook)
    differences = []

    for case in cases[::3]:
        table = TableScorer(
            actions=rulebook.actions, churn=case.facts.churn, propensity=case.facts.propensity
        )
        recorded = record(snapshot, case.facts, table)
        for asked in {a.rule.id: a for a in recorded.asked}.values():
            situation = recorded.situation(asked)
            value = tracer.trace(asked.rule.condition, situation, file=asked.rule.position.file).value
            if {True: TRUE, False: FALSE, None: UNKNOWN}[value] != asked.truth:  # type: ignore[index]  # a truth
                differences.append((case.id, asked.rule.id, value, asked.truth))

    assert differences == []
