"""The rule set as its files stand: read, and checked, without building anything that serves."""

from __future__ import annotations

from collections.abc import Mapping

from engine.core.rulebook import Rulebook
from engine.errors import SetupInvalid
from engine.ruleset.archive import ArchivedSet
from engine.ruleset.build import build_rulebook, check
from engine.ruleset.diagnostics import Diagnostic, RuleSetInvalid, errors
from engine.ruleset.sources import RuleSources
from engine.settings import Settings
from feature_store.schema import SchemaError, parse_schema
from model_registry import Root, open_alias, open_version
from model_registry.errors import AliasUnknown, ModelNotFound, RegistryError

MODELS = ("churn", "propensity")
"""Names of the models a decision uses, by kind."""


def read_files(settings: Settings) -> ArchivedSet:
    """Rule files and feature schema as they stand. Raises SetupInvalid."""
    try:
        schema = settings.feature_schema.read_text(encoding="utf-8")
        return ArchivedSet(RuleSources.from_directory(settings.rules), schema)
    except RuleSetInvalid as error:
        raise SetupInvalid(str(error)) from error
    except (OSError, UnicodeDecodeError) as error:
        raise SetupInvalid(f"{settings.feature_schema}: cannot be read: {error}") from error


def check_rules(settings: Settings) -> tuple[list[Diagnostic], Rulebook | None]:
    """Every problem of the rule set as it stands, and the compiled set where there is none.

    Raises SetupInvalid where schema or models, which rules refer to, cannot be read.
    """
    try:
        sources = RuleSources.from_directory(settings.rules)
        schema = parse_schema(
            settings.feature_schema.read_text(encoding="utf-8"), source=str(settings.feature_schema)
        )
        codes = model_reasons(settings.registry, champions(settings.registry))
        return [], build_rulebook(sources, schema, model_reasons=codes)
    except RuleSetInvalid as error:
        return list(error.diagnostics), None
    except (SchemaError, RegistryError, OSError, UnicodeDecodeError) as error:
        raise SetupInvalid(str(error)) from error


def analyse_rules(
    settings: Settings, *, as_of_ms: int | None = None
) -> tuple[list[Diagnostic], Rulebook | None]:
    """Every error, warning and note of the rule set as it stands; the compiled set where there is no error.

    Raises SetupInvalid where schema or models, which rules refer to, cannot be read.
    """
    try:
        sources = RuleSources.from_directory(settings.rules)
        text = settings.feature_schema.read_text(encoding="utf-8")
        schema = parse_schema(text, source=str(settings.feature_schema))
        codes = model_reasons(settings.registry, champions(settings.registry))
        found = check(sources, schema, model_reasons=codes, as_of_ms=as_of_ms)
        return found, None if errors(found) else build_rulebook(sources, schema, model_reasons=codes)
    except RuleSetInvalid as error:
        return list(error.diagnostics), None
    except (SchemaError, RegistryError, OSError, UnicodeDecodeError) as error:
        raise SetupInvalid(str(error)) from error


def champions(registry: Root) -> dict[str, int]:
    """Version of every model that serves, as promoted; a company may have one of them only.

    Raises RegistryError where one is damaged, or none is there: the registry is another, then.
    """
    found: dict[str, int] = {}
    missing: list[RegistryError] = []
    for name in MODELS:
        try:
            found[name] = open_alias(registry, name).manifest.version
        except (AliasUnknown, ModelNotFound) as error:
            missing.append(error)
    if not found:
        raise missing[0]
    return found


def model_reasons(registry: Root, models: Mapping[str, int]) -> frozenset[str]:
    """Reason codes that these model versions may give. Raises RegistryError."""
    manifests = [open_version(registry, name, number).manifest for name, number in models.items()]
    concepts = [concept for manifest in manifests for concept in manifest.concepts]
    return frozenset(code for c in concepts for code in (c.reason_raises, c.reason_lowers) if code)
