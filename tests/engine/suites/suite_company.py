"""A small rule set with suites: the compiler's golden base, and what its tests need to run cases."""

from __future__ import annotations

from pathlib import Path

from engine.core.rulebook import Rulebook
from engine.core.snapshot import assemble
from engine.ruleset.build import build_rulebook
from engine.ruleset.diagnostics import Diagnostic
from engine.ruleset.sources import RuleSources
from engine.ruleset.trace import RulePlaces
from engine.suites.cases import ConcreteCase, expand_suites
from engine.suites.running import Result, SuiteRun
from engine.suites.scores import TableScorer
from feature_store.schema import parse_schema

BASE = Path(__file__).parent.parent / "ruleset" / "golden" / "base"
_FEATURES = {
    "tenure": 'type = "int"\ndata_class = "contractual"',
    "monthly": 'type = "double"\ndata_class = "billing"',
    "contract": 'type = "category"\ndata_class = "contractual"\n'
    'categories = ["month-to-month", "one-year", "two-year"]',
    "calls": 'type = "int"\ndata_class = "behavioural"',
    "fiber": 'type = "bool"\ndata_class = "contractual"',
}
SCHEMA = parse_schema(
    'name = "small"\nversion = 1\n[[view]]\nname = "all"\nkind = "batch"\nowner = "tests"\n'
    'freshness_hours = 24\ndescription = "All"\n'
    + "".join(
        f'[[feature]]\nname = "{name}"\nview = "all"\ndescription = "d"\n{rest}\n'
        for name, rest in _FEATURES.items()
    ),
    source="small",
)
SOURCES = RuleSources.from_mapping({p.name: p.read_text(encoding="utf-8") for p in BASE.glob("*.yaml")})
RULEBOOK: Rulebook = build_rulebook(SOURCES, SCHEMA)

HEAD = """\
apiVersion: arbiter/v1
kind: TestSuite
metadata: {name: small, owner: tests, description: d}
now: 2026-06-01T10:00:00Z
customers:
  nora:
    features: {tenure: 30, monthly: 80.0, contract: month-to-month, calls: 0, fiber: true}
    consents: {marketing: granted, profiling: granted}
    scores: {churn: 0.7, propensity: {discount: 0.4}}
cases:
"""


def expanded(cases: str, *, head: str = HEAD) -> tuple[list[ConcreteCase], list[Diagnostic]]:
    """The concrete cases of a suite text, and what is wrong with it."""
    return expand_suites({"suites/small_test.yaml": head + cases}, RULEBOOK, SCHEMA)


def suite_run() -> SuiteRun:
    """A run against the small rule set without models."""
    scorer = TableScorer(actions=RULEBOOK.actions)
    snapshot = assemble(rulebook=RULEBOOK, schema=SCHEMA, scorer=scorer, engine_version="test")
    return SuiteRun(snapshot, RulePlaces(SOURCES), lambda: scorer)


def ran(cases: str, *, head: str = HEAD) -> tuple[list[Result], SuiteRun]:
    """The results of a suite text without mistakes."""
    concrete, problems = expanded(cases, head=head)
    assert problems == []
    run = suite_run()
    return run.run(concrete), run
