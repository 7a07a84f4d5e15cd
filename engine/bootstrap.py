"""The only place that builds the object graph: files and settings in, a working application out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from engine import calls
from engine.core.snapshot import Snapshot
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
from engine.errors import SetupInvalid
from engine.events.deadletters import DiskDeadLetters
from engine.events.evaluating import SignalRunner
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
    segment_ends,
)
from engine.monitor.drift.alarms import DriftWatch
from engine.monitor.drift.windows import WindowFolder
from engine.processes import ProcessStates
from engine.promotion.errors import PromotionError
from engine.promotion.promoting import promote_through_gates
from engine.protection import Protection, protection_of
from engine.release import engine_version
from engine.schemas_kept import fit_for, keep_first_schema, kept_event_rules, schema_versions
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
from engine.service.readiness import Needs, Readiness
from engine.service.refreshing import Refresher
from engine.service.rollouts import ACTOR, RolloutLeader
from engine.service.shadowing import Shadow
from engine.service.unrecorded import MOST, Unrecorded
from engine.service.watching import UNWATCHED, Watch
from engine.settings import OFF, Settings
from engine.snapshots import (
    ServingSnapshots,
    lineups,
    model_ranges,
    past_snapshot,
    rule_archive,
    rule_versions,
    version_snapshot,
)
from engine.stores import consent_cipher, letter_cipher, open_store
from feature_store.errors import StoreError
from feature_store.identities import IdentityForms
from feature_store.store import OnlineStore
from model_registry import registry_root

if TYPE_CHECKING:
    from engine.api.server import ApiServer
    from engine.monitor.tracing import Tracing

_log = structlog.get_logger("engine.bootstrap")


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


def _open_logs(
    settings: Settings, stack: ExitStack, watch: Watch
) -> tuple[DecisionLog, ConsentLedger, OutcomeLog]:
    """The logs that are proven, with what brings them to disk and vouches for them. Raises SetupInvalid."""
    interval_ms = settings.fsync_ms
    ends = segment_ends(settings)
    directories = {log: log_directory(settings, log) for log in PROVEN}
    try:
        checkpoints = {log: checkpoints_of(settings, log) for log in PROVEN}
        log = stack.enter_context(
            DecisionLog(
                directories[DECISIONS],
                fsync_interval_ms=interval_ms,
                checkpoints=checkpoints[DECISIONS],
                **ends,
            )
        )
        ledger = stack.enter_context(consent_ledger(directories[CONSENTS], checkpoints=checkpoints[CONSENTS]))
        outcomes = stack.enter_context(
            outcome_log(
                directories[OUTCOMES],
                fsync_interval_ms=interval_ms,
                checkpoints=checkpoints[OUTCOMES],
                **ends,
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


@dataclass(frozen=True, slots=True)
class _Ground:
    """What every use case stands on."""

    settings: Settings
    watch: Watch
    store: OnlineStore
    live: LiveSnapshot
    erased: ErasedCustomers
    late: RegisteredErasures


@contextmanager
def open_application(settings: Settings, *, watch: Watch = UNWATCHED) -> Iterator[Application]:
    """The application on its data directory. Raises SetupInvalid where it cannot work."""
    with ExitStack() as stack:
        ground = _open_ground(settings, stack, watch)
        log, ledger, outcome_entries = _open_logs(settings, stack, watch)
        letters = stack.enter_context(
            DiskDeadLetters(settings.data_dir / DEAD_LETTERS, letter_cipher(settings))
        )
        arms = Arms(settings.data_dir / ROLLOUTS)
        consents = _consents(ground, ledger)
        outcomes = _outcomes(ground, log, outcome_entries, arms)
        events = _events(ground, consents, outcomes, stack.enter_context(SignalRunner()))
        shadow, model_shadow = _shadow(ground), _model_shadow(ground)
        drift = _drift_counting(settings, ground.live)
        objections = LastingObjections(live=ground.live, record=consents.record)
        told = _all_told(watch, shadow, model_shadow, objections, drift)
        unrecorded = Unrecorded(log, watch, told=objections.keep)
        stack.callback(unrecorded.write_out, MOST)
        yield Application(
            settings=settings,
            live=ground.live,
            store=ground.store,
            log=log,
            ledger=ledger,
            decisions=_decisions(ground, log, arms, told, unrecorded),
            outcomes=outcomes,
            consents=consents,
            explanations=_explanations(ground, log),
            shadow=shadow,
            model_shadow=model_shadow,
            arms=arms,
            watch=watch,
            drift=drift,
            events=events,
            intake=Intake(events=events, letters=letters, clock=wall_clock_ms),
            letters=letters,
        )


def _open_ground(settings: Settings, stack: ExitStack, watch: Watch) -> _Ground:
    serving = ServingSnapshots(settings)
    try:
        store = open_store(settings)
        stack.callback(store.close)
        live = LiveSnapshot(lambda: fit_for(store, settings, serving.load()), watch=watch)
        keep_first_schema(settings, store, live.current)
    except StoreError as error:
        raise SetupInvalid(str(error)) from error
    erased = ErasedCustomers(settings.data_dir / ERASED)
    return _Ground(settings, watch, store, live, erased, late_writes(settings, store, erased))


def _decisions(
    ground: _Ground,
    log: DecisionLog,
    arms: Arms,
    told: Callable[[DecisionRecord], None],
    unrecorded: Unrecorded,
) -> Decisions:
    return Decisions(
        live=ground.live,
        store=ground.store,
        log=log,
        clock=wall_clock_ms,
        request_id_ttl_ms=ground.settings.request_id_ttl_s * 1000,
        decided=told,
        late=ground.late,
        compared=arms,
        watch=ground.watch,
        unrecorded=unrecorded,
    )


def _outcomes(ground: _Ground, decisions: DecisionLog, log: OutcomeLog, arms: Arms) -> Outcomes:
    return Outcomes(
        live=ground.live,
        store=ground.store,
        decisions=decisions,
        log=log,
        clock=wall_clock_ms,
        late=ground.late,
        counted=arms.answered,
    )


def _consents(ground: _Ground, ledger: ConsentLedger) -> Consents:
    return Consents(
        live=ground.live,
        store=ground.store,
        ledger=ledger,
        clock=wall_clock_ms,
        cipher=consent_cipher(ground.settings),
        late=ground.late,
    )


def _events(ground: _Ground, consents: Consents, outcomes: Outcomes, signals: SignalRunner) -> Events:
    return Events(
        live=ground.live,
        store=ground.store,
        consents=consents,
        outcomes=outcomes,
        rules_of=LiveEventRules(partial(kept_event_rules, ground.settings, ground.store)),
        signals=signals,
        clock=wall_clock_ms,
        erased=ground.erased,
        late=ground.late,
    )


def _explanations(ground: _Ground, log: DecisionLog) -> Explanations:
    return Explanations(
        live=ground.live,
        log=log,
        snapshot_of=partial(past_snapshot, ground.settings),
        sources_of=rule_archive(ground.settings).sources,
        ranges_of=partial(model_ranges, ground.settings.registry),
    )


def _shadow(ground: _Ground) -> Shadow:
    log = shadow_log(log_directory(ground.settings, SHADOW))
    return Shadow(log, schema_versions(ground.settings, ground.store), late=ground.late)


def _model_shadow(ground: _Ground) -> ModelShadow:
    log = model_shadow_log(log_directory(ground.settings, MODEL_SHADOW))
    return ModelShadow(log, told=ground.watch.shadow_scored, late=ground.late)


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
        calls.decided(record.decision_id)
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


def open_tracing(settings: Settings) -> AbstractContextManager[Tracing | None]:
    """What traces calls, as a `with` block; nothing where it is off. Raises SetupInvalid."""
    if settings.traces == OFF:
        return nullcontext()
    try:
        from engine.monitor.tracing import Tracing
    except ImportError as error:
        raise SetupInvalid(
            f"traces need a library that is not here or too old ({error.name}); install it with "
            "`pip install arbiter-nba[tracing]`, then `pip install --force-reinstall --no-deps "
            "opentelemetry-proto`, as xds-protos has older files of these names; or leave ARBITER_TRACES out"
        ) from error
    return Tracing(settings.traces, share=settings.traced_share, engine=engine_version())


def watch_readiness(application: Application, tell: Callable[[str, bool], None]) -> Readiness:
    """What looks whether each service can do its work, as a `with` block."""
    settings = application.settings
    needs = {
        "DecisionService": Needs(log_directory(settings, DECISIONS), store=False),
        "OutcomeService": Needs(log_directory(settings, OUTCOMES), store=True),
        "ConsentService": Needs(log_directory(settings, CONSENTS), store=True),
        "EventService": Needs(None, store=True),
    }
    return Readiness(store=application.store, needs=needs, tell=tell, watch=application.watch)


def build_server(
    application: Application,
    *,
    reuse_port: bool,
    tracing: Tracing | None = None,
    protection: Protection | None = None,
) -> ApiServer:
    """The gRPC server of an application, bound. Raises SetupInvalid where the address is taken.

    `protection` None is what the settings say, which nobody then makes read its files anew at once.
    """
    # Imported here, as commands that do not serve need none of gRPC.
    from engine.api.event_servicer import EventServicer
    from engine.api.server import ApiServer, Endurance, Servicers
    from engine.api.servicers import ConsentServicer, DecisionServicer, OutcomeServicer
    from engine.api.tracing import TracesCalls

    settings = application.settings
    IdentityForms(settings.phone_region).prepare()
    guarded = protection or protection_of(settings, application.watch)
    return ApiServer(
        Servicers(
            DecisionServicer(application.decisions, application.explanations, watch=application.watch),
            OutcomeServicer(application.outcomes),
            ConsentServicer(application.consents),
            EventServicer(application.intake),
        ),
        address=f"{settings.host}:{settings.port}",
        threads=settings.threads,
        max_request_bytes=settings.max_request_bytes,
        reuse_port=reuse_port,
        with_reflection=settings.reflection,
        watch=application.watch,
        outermost=() if tracing is None else (TracesCalls(tracing),),
        tls=guarded.tls,
        authoriser=guarded.authoriser,
        endurance=Endurance(
            wait_s=settings.admission_wait_ms / 1000,
            deadline_s=settings.default_deadline_ms / 1000,
            connection_age_s=settings.max_connection_age_s,
            grace_s=settings.drain_seconds,
        ),
    )
