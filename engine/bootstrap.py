"""The only place that builds the object graph: files and settings in, a working application out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from engine.core.change import NumberRange
from engine.core.snapshot import Snapshot, assemble
from engine.decisionlog.checkpointer import Checkpointer
from engine.decisionlog.errors import LogError
from engine.decisionlog.flusher import Flusher
from engine.decisionlog.ledger import (
    ConsentLedger,
    OutcomeLog,
    consent_ledger,
    model_shadow_log,
    outcome_log,
    shadow_log,
)
from engine.decisionlog.log import DecisionLog
from engine.decisionlog.record import DecisionRecord
from engine.domain import Action, Versions
from engine.errors import SetupInvalid, StateUnavailable
from engine.events.applying import EventRules
from engine.events.compile import event_types
from engine.events.deadletters import DiskDeadLetters
from engine.events.evaluating import SignalRunner
from engine.lineup import Lineups
from engine.logfiles import (
    CONSENTS,
    DEAD_LETTERS,
    DECISIONS,
    DRIFT,
    ERASED,
    MODEL_SHADOW,
    OUTCOMES,
    PROVEN,
    ROLLOUTS,
    SHADOW,
    checkpoints_of,
    log_directory,
)
from engine.models.errors import ModelRefused
from engine.models.ranges import number_ranges
from engine.models.scorer import OnnxScorer, build_scorer
from engine.models.shelf import ModelShelf
from engine.monitor.drift.alarms import DriftWatch
from engine.monitor.drift.windows import WindowFolder
from engine.processes import ProcessStates
from engine.promotion.errors import PromotionError
from engine.promotion.promoting import promote_through_gates
from engine.release import engine_version
from engine.rulefiles import champions, model_reasons, read_files
from engine.ruleset.archive import ArchivedSet, RuleArchive
from engine.ruleset.build import build_rulebook
from engine.ruleset.diagnostics import RuleSetInvalid
from engine.ruleset.versions import RuleVersions, VersionError
from engine.service.arms import Arms
from engine.service.consents import Consents
from engine.service.decisions import Decisions
from engine.service.drifting import DriftCounting, DriftCounts, drift_references, reference_of
from engine.service.erased import ErasedCustomers
from engine.service.events import Events, LiveEventRules
from engine.service.explanations import Explanations
from engine.service.following import RulesFollower
from engine.service.following_models import POLL_S, REMOTE_POLL_S, ModelServer, ModelsFollower
from engine.service.intake import Intake
from engine.service.late_writes import RegisteredErasures
from engine.service.live import LiveSnapshot
from engine.service.model_shadow import ModelShadow
from engine.service.outcomes import Outcomes
from engine.service.privacy_signals import LastingObjections
from engine.service.refreshing import Refresher
from engine.service.rollouts import ACTOR, RolloutLeader
from engine.service.shadowing import Shadow
from engine.service.watching import UNWATCHED, Watch
from engine.settings import Settings
from engine.signals.compile import signal_patterns
from engine.stores import consent_cipher, letter_cipher, open_store
from feature_store.differing import differences, refuse_taken_version, rivals
from feature_store.errors import SchemaVersionTaken, StoreError
from feature_store.identities import IdentityForms
from feature_store.schema import FeatureSchema, SchemaError, parse_schema
from feature_store.store import OnlineStore
from feature_store.versions import SchemaVersions
from model_registry import Root, registry_root
from model_registry.errors import RegistryError

if TYPE_CHECKING:
    from engine.api.server import ApiServer

_log = structlog.get_logger("engine.bootstrap")

PAST_SNAPSHOTS = 8
"""How many past versions explanations and replays keep compiled."""
_SHELF: Final = ModelShelf()
"""Models proven in this process: what was loaded once, serves, decides again or comes back without delay."""


@dataclass(frozen=True, slots=True)
class Application:
    """Everything a server or a command works with; closed by `open_application`."""

    settings: Settings
    live: LiveSnapshot
    store: OnlineStore
    log: DecisionLog
    ledger: ConsentLedger
    decisions: Decisions
    outcomes: Outcomes
    consents: Consents
    explanations: Explanations
    shadow: Shadow
    model_shadow: ModelShadow
    arms: Arms
    events: Events
    intake: Intake
    letters: DiskDeadLetters
    watch: Watch
    drift: DriftCounting


def wall_clock_ms() -> int:
    """Now, in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


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


class _Serving:
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
        _archive(settings).keep(archived, rules=rules, feature_schema=feature_schema)
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


def _ranges(registry: Root, models: Mapping[str, int]) -> Mapping[str, NumberRange]:
    """The references of model versions; none where they cannot be read, which what-if can do without."""
    try:
        return number_ranges(registry, models)
    except (RegistryError, ValueError, KeyError) as error:
        _log.warning("models.ranges_unreadable", cause=str(error))
        return {}


def _archive(settings: Settings) -> RuleArchive:
    return RuleArchive(settings.data_dir / "rulesets")


def past_snapshot(settings: Settings, versions: Versions) -> Snapshot:
    """The snapshot of past versions from the archive. Raises SetupInvalid where it is not held."""
    key = tuple(sorted(versions.models.items()))
    return _past_snapshot(settings, versions.rules, versions.feature_schema, key)


@lru_cache(maxsize=PAST_SNAPSHOTS)
def _past_snapshot(
    settings: Settings, rules: str, feature_schema: str, models: tuple[tuple[str, int], ...]
) -> Snapshot:
    archived = _archive(settings).find(rules=rules, feature_schema=feature_schema)
    if archived is None:
        raise SetupInvalid(
            f"{settings.data_dir / 'rulesets'}: does not hold rule set {rules}; restore it from a copy"
        )
    return compile_snapshot(archived, settings.registry, dict(models))


def _open_logs(
    settings: Settings, stack: ExitStack, watch: Watch
) -> tuple[DecisionLog, ConsentLedger, OutcomeLog]:
    """The logs that are proven, with what brings them to disk and vouches for them. Raises SetupInvalid."""
    interval_ms = settings.fsync_interval_ms
    directories = {log: log_directory(settings, log) for log in PROVEN}
    try:
        checkpoints = {log: checkpoints_of(settings, log) for log in PROVEN}
        log = stack.enter_context(
            DecisionLog(
                directories[DECISIONS], fsync_interval_ms=interval_ms, checkpoints=checkpoints[DECISIONS]
            )
        )
        ledger = stack.enter_context(consent_ledger(directories[CONSENTS], checkpoints=checkpoints[CONSENTS]))
        outcomes = stack.enter_context(
            outcome_log(
                directories[OUTCOMES], fsync_interval_ms=interval_ms, checkpoints=checkpoints[OUTCOMES]
            )
        )
    except LogError as error:
        raise SetupInvalid(str(error)) from error
    if interval_ms:
        stack.enter_context(Flusher([log, outcomes], interval_ms=interval_ms))
    stack.enter_context(
        Checkpointer(
            [log, ledger, outcomes],
            interval_s=settings.checkpoint_interval_s,
            told=lambda well: watch.checkpointed(well=well),
        )
    )
    return log, ledger, outcomes


@contextmanager
def open_application(settings: Settings, *, watch: Watch = UNWATCHED) -> Iterator[Application]:
    """The application on its data directory. Raises SetupInvalid where it cannot work."""
    with ExitStack() as stack:
        serving = _Serving(settings)
        try:
            store = open_store(settings)
            stack.callback(store.close)
            live = LiveSnapshot(lambda: fit_for(store, settings, serving.load()), watch=watch)
            _keep_first_schema(settings, store, live.current)
        except StoreError as error:
            raise SetupInvalid(str(error)) from error
        log, ledger, outcomes = _open_logs(settings, stack, watch)
        letters = stack.enter_context(
            DiskDeadLetters(settings.data_dir / DEAD_LETTERS, letter_cipher(settings))
        )
        erased = ErasedCustomers(settings.data_dir / ERASED)
        late = late_writes(settings, store, erased)
        consents = Consents(
            live=live,
            store=store,
            ledger=ledger,
            clock=wall_clock_ms,
            cipher=consent_cipher(settings),
            late=late,
        )
        arms = Arms(settings.data_dir / ROLLOUTS)
        reports = Outcomes(
            live=live,
            store=store,
            decisions=log,
            log=outcomes,
            clock=wall_clock_ms,
            late=late,
            counted=arms.answered,
        )
        events = Events(
            live=live,
            store=store,
            consents=consents,
            outcomes=reports,
            rules_of=LiveEventRules(partial(kept_event_rules, settings, store)),
            signals=stack.enter_context(SignalRunner()),
            clock=wall_clock_ms,
            erased=erased,
            late=late,
        )
        shadow = Shadow(
            shadow_log(log_directory(settings, SHADOW)), schema_versions(settings, store), late=late
        )
        model_shadow = ModelShadow(
            model_shadow_log(log_directory(settings, MODEL_SHADOW)), told=watch.shadow_scored, late=late
        )
        objections = LastingObjections(live=live, record=consents.record)
        drift = _drift_counting(settings, live)
        yield Application(
            settings=settings,
            live=live,
            store=store,
            log=log,
            ledger=ledger,
            decisions=Decisions(
                live=live,
                store=store,
                log=log,
                clock=wall_clock_ms,
                request_id_ttl_ms=settings.request_id_ttl_s * 1000,
                decided=_all_told(watch, shadow, model_shadow, objections, drift),
                late=late,
                compared=arms,
            ),
            outcomes=reports,
            consents=consents,
            explanations=Explanations(
                live=live,
                log=log,
                snapshot_of=partial(past_snapshot, settings),
                sources_of=_archive(settings).sources,
                ranges_of=partial(_ranges, settings.registry),
            ),
            shadow=shadow,
            model_shadow=model_shadow,
            arms=arms,
            watch=watch,
            drift=drift,
            events=events,
            intake=Intake(events=events, letters=letters, clock=wall_clock_ms),
            letters=letters,
        )


def fit_for(store: OnlineStore, settings: Settings, snapshot: Snapshot) -> Snapshot:
    """The snapshot, where its feature schema and those the store keeps do not share a version.

    Where the store cannot be asked now, that is found when it is written to. Raises SetupInvalid.
    """
    try:
        refuse_taken_version(snapshot.schema, store.schemas(), source=str(settings.feature_schema))
    except SchemaVersionTaken as error:
        raise SetupInvalid(str(error)) from error
    except StoreError as error:
        _log.warning("schema.not_compared", schema=snapshot.schema.digest, cause=str(error))
    return snapshot


_OF_CUSTOMERS: Final = (DECISIONS, CONSENTS, OUTCOMES, SHADOW, MODEL_SHADOW)
"""Logs with entries of customers, from which an erasure takes what was written late."""


def late_writes(settings: Settings, store: OnlineStore, erased: ErasedCustomers) -> RegisteredErasures:
    """What takes back writes that an erasure overtook."""
    return RegisteredErasures(
        register=erased,
        store=store,
        directories={log: log_directory(settings, log) for log in _OF_CUSTOMERS},
        checkpoints_of=lambda log: checkpoints_of(settings, log) if log in PROVEN else None,
        clock=wall_clock_ms,
    )


def keep_schema(settings: Settings, store: OnlineStore, snapshot: Snapshot) -> None:
    """Keeps a snapshot's feature schema in the store, where other versions find it to read its values.

    Raises SchemaVersionTaken and StoreError; then nothing of this schema may be written.
    """
    versions, schema = snapshot.versions, snapshot.schema
    archived = _archive(settings).find(rules=versions.rules, feature_schema=versions.feature_schema)
    if archived is None:
        return
    kept = store.schemas()
    refuse_taken_version(schema, kept, source=str(settings.feature_schema))
    if schema.digest not in kept:
        store.put_schema(schema.digest, archived.feature_schema)
    for rival in rivals(schema, kept):
        _log.warning("schema.version_shared", version=schema.version, differences=differences(schema, rival))


def _keep_first_schema(settings: Settings, store: OnlineStore, snapshot: Snapshot) -> None:
    """`keep_schema` at the start; a store that is away now is no obstacle, as events keep it before use."""
    try:
        keep_schema(settings, store, snapshot)
    except SchemaVersionTaken as error:
        raise SetupInvalid(str(error)) from error
    except StoreError as error:
        _log.warning("schema.not_kept", schema=snapshot.schema.digest, cause=str(error))


def archived_schemas(settings: Settings) -> SchemaVersions:
    """The schemas that logged features are of: those that decisions were made with."""
    return SchemaVersions(_archive(settings).feature_schemas)


def schema_versions(settings: Settings, store: OnlineStore) -> SchemaVersions:
    """The schemas that stored features are of: those the store keeps, and those of decisions."""
    return SchemaVersions(lambda: {**_archive(settings).feature_schemas(), **store.schemas()})


def event_rules(settings: Settings, snapshot: Snapshot) -> EventRules:
    """What events are judged and applied by under a snapshot. Raises SetupInvalid where it is not held."""
    rules = snapshot.versions.rules
    sources = _archive(settings).sources(rules)
    if sources is None:
        raise SetupInvalid(f"{settings.data_dir / 'rulesets'}: does not hold rule set {rules}")
    return EventRules.of(snapshot.rulebook, event_types(sources), signal_patterns(sources), snapshot.schema)


def kept_event_rules(settings: Settings, store: OnlineStore, snapshot: Snapshot) -> EventRules:
    """The event rules of a snapshot, once the store keeps the schema they write features of.

    Raises StateUnavailable where it cannot: no event is applied in a schema that others could not read.
    """
    try:
        keep_schema(settings, store, snapshot)
    except SchemaVersionTaken as error:
        _log.error("schema.refused", cause=str(error))
        raise StateUnavailable(
            "the feature schema cannot be written now; the server's operator sees why"
        ) from error
    except StoreError as error:
        raise StateUnavailable("events cannot be applied now; send them again") from error
    return event_rules(settings, snapshot)


def refresh_customers(application: Application) -> Refresher:
    """What looks at customers whom time changes, as a `with` block."""
    return Refresher(events=application.events, store=application.store, clock=wall_clock_ms)


def _all_told(
    watch: Watch,
    shadow: Shadow,
    model_shadow: ModelShadow,
    objections: LastingObjections,
    drift: DriftCounting,
) -> Callable[[DecisionRecord], None]:
    def decided(record: DecisionRecord) -> None:
        watch.decided(record.request.channel, "action" if record.decision.actions else "no_action")
        for by in record.decision.degraded_by:
            watch.degraded(by)
        shadow.offer(record)
        model_shadow.offer(record)
        objections.keep(record)
        drift.offer(record)

    return decided


def _drift_counting(settings: Settings, live: LiveSnapshot) -> DriftCounting:
    """What counts decisions for drift and looks for alarms, once it is entered."""
    folder = WindowFolder(settings.data_dir / DRIFT)
    window_ms = settings.drift_window_minutes * 60_000
    return DriftCounting(
        counts=DriftCounts(
            live=live, reference_of=partial(reference_of, settings.registry), window_ms=window_ms
        ),
        folder=folder,
        clock=wall_clock_ms,
        keep_days=settings.keep_drift_days,
        watch=DriftWatch(
            folder,
            lambda: drift_references(settings.registry, live.current.schema, folder.folder),
            window_ms=window_ms,
        ),
    )


def watch_rules(application: Application) -> RulesFollower:
    """What makes a server follow `arbiter rules activate`, as a `with` block."""
    settings = application.settings

    def prepare(rules: str) -> Snapshot:
        snapshot = version_snapshot(settings, rules, application.live.current.versions.models)
        return fit_for(application.store, settings, snapshot)

    return RulesFollower(
        versions=rule_versions(settings), live=application.live, shadow=application.shadow, prepare=prepare
    )


@contextmanager
def watch_models(application: Application) -> Iterator[ModelsFollower]:
    """Makes a server follow promotions and rollouts, and lead the latter, while the block runs."""
    settings = application.settings
    servers = model_servers(settings)
    follower = ModelsFollower(
        lineups=lineups(settings),
        live=application.live,
        shadow=application.model_shadow,
        arms=application.arms,
        servers=servers,
        watch=application.watch,
        every_s=POLL_S if isinstance(registry_root(settings.registry), Path) else REMOTE_POLL_S,
    )
    leader = RolloutLeader(
        registry=settings.registry,
        arms=application.arms,
        servers=servers,
        promote=partial(_promote, settings),
        clock=wall_clock_ms,
        watch=application.watch,
    )
    with follower, leader:
        yield follower


def model_servers(settings: Settings) -> ProcessStates[ModelServer]:
    """What server processes say of the models they score with."""
    return ProcessStates(settings.data_dir / ROLLOUTS / "servers", ModelServer)


def _promote(settings: Settings, model: str, version: int, reason: str) -> None:
    """Makes a completed challenger champion where it passes the gates; else a person decides."""
    try:
        promote_through_gates(settings.registry, model, version, reason=reason, actor=ACTOR)
    except PromotionError as error:
        _log.error("rollout.not_promoted", model=model, version=version, cause=str(error))


def build_server(application: Application, *, reuse_port: bool) -> ApiServer:
    """The gRPC server of an application, bound. Raises SetupInvalid where the address is taken."""
    # Imported here, as commands that do not serve need none of gRPC.
    from engine.api.event_servicer import EventServicer
    from engine.api.server import ApiServer, Servicers
    from engine.api.servicers import ConsentServicer, DecisionServicer, OutcomeServicer

    settings = application.settings
    IdentityForms(settings.phone_region).prepare()
    return ApiServer(
        Servicers(
            DecisionServicer(application.decisions, application.explanations),
            OutcomeServicer(application.outcomes),
            ConsentServicer(application.consents),
            EventServicer(application.intake),
        ),
        address=f"{settings.host}:{settings.port}",
        threads=settings.threads,
        max_request_bytes=settings.max_request_bytes,
        reuse_port=reuse_port,
        with_reflection=settings.reflection,
        called=application.watch.called,
    )
