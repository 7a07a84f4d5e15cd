"""The suites beside the rules folder, ready to run."""

from __future__ import annotations

from functools import partial

from engine.core.rulebook import Rulebook
from engine.core.scoring import Scorer
from engine.core.snapshot import assemble
from engine.errors import SetupInvalid
from engine.models.errors import ModelRefused
from engine.models.scorer import build_scorer
from engine.release import engine_version
from engine.ruleset.diagnostics import Diagnostic, RuleSetInvalid
from engine.ruleset.sources import RuleSources
from engine.ruleset.trace import RulePlaces
from engine.settings import Settings
from engine.suites.cases import ConcreteCase, expand_suites, read_suites
from engine.suites.running import SuiteRun
from engine.suites.scores import TableScorer
from feature_store.schema import FeatureSchema


def suite_cases(
    settings: Settings, rulebook: Rulebook, schema: FeatureSchema
) -> tuple[list[ConcreteCase], list[Diagnostic]]:
    """Every case, and what is wrong with the suites."""
    try:
        sources = read_suites(settings.rules)
    except RuleSetInvalid as error:
        return [], list(error.diagnostics)
    return expand_suites(sources or {}, rulebook, schema)


def suite_run(settings: Settings, rulebook: Rulebook, schema: FeatureSchema) -> SuiteRun:
    """What runs cases against the rules folder. Raises SetupInvalid where a case asks for a bad model."""
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
