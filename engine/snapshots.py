"""What a server decides by: rules, models and schema of files and versions, compiled into snapshots."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import structlog

from engine.core.change import NumberRange
from engine.core.snapshot import Snapshot, assemble
from engine.domain import Action, Versions
from engine.errors import SetupInvalid
from engine.lineup import Lineups
from engine.models.errors import ModelRefused
from engine.models.ranges import number_ranges
from engine.models.scorer import OnnxScorer, build_scorer
from engine.models.shelf import ModelShelf
from engine.release import engine_version
from engine.rulefiles import champions, model_reasons, read_files
from engine.ruleset.archive import ArchivedSet, RuleArchive
from engine.ruleset.build import build_rulebook
from engine.ruleset.diagnostics import RuleSetInvalid
from engine.ruleset.versions import RuleVersions, VersionError
from engine.settings import Settings
from feature_store.schema import FeatureSchema, SchemaError, parse_schema
from model_registry import Root
from model_registry.errors import RegistryError

if TYPE_CHECKING:
    pass

_log = structlog.get_logger("engine.snapshots")

PAST_SNAPSHOTS = 8
"""How many past versions explanations and replays keep compiled."""
_SHELF: Final = ModelShelf()
"""Models proven in this process: what was loaded once, serves, decides again or comes back without delay."""


def load_snapshot(settings: Settings, models: Mapping[str, int] | None = None) -> Snapshot:
    """The snapshot to serve: of the active version, else of what the files say now, kept in the archive.

    `models` are versions instead of the champions. Raises SetupInvalid.
    """
    active = active_version(settings)
    if active is not None:
        if "rules" in settings.model_fields_set:
            advice = "an active version comes first; publish and activate the folder to serve it"
            _log.warning("rules.folder_not_served", folder=str(settings.rules), active=active, advice=advice)
        return version_snapshot(settings, active, models)
    archived = read_files(settings)
    snapshot = compile_snapshot(archived, settings.registry, models)
    _keep(settings, archived, snapshot.versions.rules, snapshot.versions.feature_schema)
    return snapshot


def version_snapshot(settings: Settings, rules: str, models: Mapping[str, int] | None = None) -> Snapshot:
    """The snapshot of a published version with today's schema and champions. Raises SetupInvalid.

    `models` are versions instead of the champions.
    The last few stay compiled, so that a switch to a version that was served or prepared takes no time.
    """
    try:
        sources = rule_versions(settings).sources(rules)
        text = settings.feature_schema.read_text(encoding="utf-8")
        schema = parse_schema(text, source=str(settings.feature_schema)).digest
        scoring = tuple(sorted((champions(settings.registry) if models is None else models).items()))
    except (VersionError, SchemaError, RegistryError) as error:
        raise SetupInvalid(str(error)) from error
    except (OSError, UnicodeDecodeError) as error:
        raise SetupInvalid(f"{settings.feature_schema}: cannot be read: {error}") from error
    _keep(settings, ArchivedSet(sources, text), rules, schema)
    return _past_snapshot(settings, rules, schema, scoring)


def lineups(settings: Settings) -> Lineups:
    """What turns the registry's champions, rollouts and shadows into snapshots."""

    def compiled(rules: str, schema: str, models: Mapping[str, int]) -> Snapshot:
        return _past_snapshot(settings, rules, schema, tuple(sorted(models.items())))

    return Lineups(settings.registry, compiled=compiled, shelf=_SHELF)


class ServingSnapshots:
    """Loads what a server is to serve: rules and models anew, and with challengers for their customers.

    Bad models do not hold good rules up: once something serves, they are loaded with the models that do.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lineups = lineups(settings)
        self._last: Snapshot | None = None

    def load(self) -> Snapshot:
        """Raises SetupInvalid."""
        lined = self._lineups.line_up(self._base(), self._lineups.wanted())
        for name, cause in lined.refused.items():
            _log.error("models.refused", model=name, cause=cause)
        self._last = lined.snapshot
        return lined.snapshot

    def _base(self) -> Snapshot:
        try:
            return load_snapshot(self._settings)
        except SetupInvalid:
            last = self._last
            if last is None:
                raise
            base = load_snapshot(self._settings, last.versions.models)
            if base.versions.rules == last.versions.rules:
                raise
            return base


def rule_versions(settings: Settings) -> RuleVersions:
    """The published versions of the data directory."""
    return RuleVersions(settings.data_dir / "rulesets")


def active_version(settings: Settings) -> str | None:
    """Content address of the version that serves; None where the rules folder does. Raises SetupInvalid."""
    try:
        return rule_versions(settings).pointers().current
    except VersionError as error:
        raise SetupInvalid(str(error)) from error


def _keep(settings: Settings, archived: ArchivedSet, rules: str, feature_schema: str) -> None:
    try:
        rule_archive(settings).keep(archived, rules=rules, feature_schema=feature_schema)
    except OSError as error:
        raise SetupInvalid(
            f"{settings.data_dir}: the rule set cannot be archived: {error.strerror}; make room or choose "
            "another --data-dir"
        ) from error


def compile_snapshot(
    archived: ArchivedSet,
    registry: Root,
    models: Mapping[str, int] | None = None,
    *,
    beside: Snapshot | None = None,
) -> Snapshot:
    """A snapshot from texts and the champions, or past model versions.

    `beside` is another whose loaded models it shares where they are the same. Raises SetupInvalid with
    every problem found.
    """
    try:
        schema = parse_schema(archived.feature_schema, source="feature schema")
        models = champions(registry) if models is None else models
        codes = model_reasons(registry, models)
        rulebook = build_rulebook(archived.sources, schema, model_reasons=codes)
        scorer = _shared_scorer(beside, models, schema, rulebook.actions) or build_scorer(
            registry_root=registry,
            versions=models,
            schema=schema,
            actions=rulebook.actions,
            load=_SHELF.load,
        )
    except (SchemaError, RuleSetInvalid, ModelRefused, RegistryError) as error:
        raise SetupInvalid(str(error)) from error
    if scorer.unscored:
        _log.warning("models.targets_unknown", actions=scorer.unscored, advice="their prior is used")
    return assemble(rulebook=rulebook, schema=schema, scorer=scorer, engine_version=engine_version())


def _shared_scorer(
    beside: Snapshot | None, models: Mapping[str, int], schema: FeatureSchema, actions: tuple[Action, ...]
) -> OnnxScorer | None:
    """The models of another snapshot, where it has these very versions for this very schema."""
    if beside is None or not isinstance(beside.scorer, OnnxScorer) or beside.schema != schema:
        return None
    return beside.scorer.for_catalogue(actions) if dict(beside.scorer.versions) == dict(models) else None


def model_ranges(registry: Root, models: Mapping[str, int]) -> Mapping[str, NumberRange]:
    """The references of model versions; none where they cannot be read, which what-if can do without."""
    try:
        return number_ranges(registry, models)
    except (RegistryError, ValueError, KeyError) as error:
        _log.warning("models.ranges_unreadable", cause=str(error))
        return {}


def rule_archive(settings: Settings) -> RuleArchive:
    """The texts of all rule sets that ever served."""
    return RuleArchive(settings.data_dir / "rulesets")


def past_snapshot(settings: Settings, versions: Versions) -> Snapshot:
    """The snapshot of past versions from the archive. Raises SetupInvalid where it is not held."""
    key = tuple(sorted(versions.models.items()))
    return _past_snapshot(settings, versions.rules, versions.feature_schema, key)


@lru_cache(maxsize=PAST_SNAPSHOTS)
def _past_snapshot(
    settings: Settings, rules: str, feature_schema: str, models: tuple[tuple[str, int], ...]
) -> Snapshot:
    archived = rule_archive(settings).find(rules=rules, feature_schema=feature_schema)
    if archived is None:
        raise SetupInvalid(
            f"{settings.data_dir / 'rulesets'}: does not hold rule set {rules}; restore it from a copy"
        )
    return compile_snapshot(archived, settings.registry, dict(models))
