"""Follows what people promote and roll out: a running server scores with it within a second.

A version is loaded and proven while the old one serves; the switch itself is one assignment. What cannot
serve is refused and told, and the old version goes on.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

import structlog

from engine.core.snapshot import Snapshot
from engine.lineup import LinedUp, Lineups, Wanted, same_lineup
from engine.processes import ProcessStates
from engine.service.arms import Arms
from engine.service.live import LiveSnapshot
from engine.service.model_shadow import ModelShadow
from engine.service.watching import Watch
from model_registry.errors import RegistryError

_log = structlog.get_logger("engine.service.following_models")

POLL_S: Final = 0.25
"""A quarter of the second a switch may take; a look costs a few file stats."""
REMOTE_POLL_S: Final = 0.5
"""For a registry behind a URL, where a look reads some small files."""
_LOOKS_A_TELL: Final = 4
"""Looks between two times that a process says what it does: about a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelServer:
    """One server process: what scores, what shares challengers have, and what it refuses, with the cause.

    Versions that are no champions go by name and number, such as churn/3. `shadow` counts decisions in the
    shadow by version and result.
    """

    pid: int
    models: Mapping[str, int]
    percents: Mapping[str, float] = field(default_factory=dict)
    prepared: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    shadow: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


class ModelsFollower:
    """Swaps the live snapshot when a registry changes; its thread runs inside the `with` block.

    What may be promoted next (newest, challenger, and the one before) is loaded as soon as it is seen, so
    that the switch does not wait for it. Rules switch by themselves (`RulesFollower`): each keeps what the
    other one chose.
    """

    def __init__(
        self,
        *,
        lineups: Lineups,
        live: LiveSnapshot,
        shadow: ModelShadow,
        arms: Arms,
        servers: ProcessStates[ModelServer],
        watch: Watch,
        every_s: float = POLL_S,
    ) -> None:
        self._lineups = lineups
        self._live = live
        self._shadow = shadow
        self._arms = arms
        self._servers = servers
        self._watch = watch
        self._every_s = every_s
        self._seen: object = None
        self._unreachable = ""
        self._refused: dict[str, str] = {}
        self._prepared: dict[str, str | None] = {}
        self._percents: dict[str, float] = {}
        self._told: ModelServer | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="models-follower", daemon=True)

    def __enter__(self) -> Self:
        self._tell()
        self._shadow.__enter__()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._shadow.__exit__(kind, error, trace)
        self._servers.forget(os.getpid())

    def look(self) -> bool:
        """Follows what changed since the last look; False where nothing did."""
        try:
            identity = self._identity()  # before reading: what changes meanwhile is seen next time
        except RegistryError as error:
            self._tell_unreachable(str(error))
            return False
        self._unreachable = ""
        if identity == self._seen:
            return False
        self._seen = identity
        wanted = self._lineups.wanted()
        self._arms.watch(wanted.rollouts)
        base = self._live.current
        lined = self._lineups.line_up(base, wanted)
        if not same_lineup(base, lined.snapshot):
            self._switch(base, lined, wanted)
        self._shadow.use(lined.shadows)
        self._percents = _percents(wanted)
        self._refuse(lined.refused)
        self._prepared.update(dict.fromkeys(_accepted(lined)))
        self._watch.scoring(self._live.current.versions.models)
        self._tell()
        self._prepare_next(wanted)
        return True

    def _identity(self) -> tuple[object, ...]:
        """Differs also when rules or schema do: shadows must decide with the same ones."""
        versions = self._live.current.versions
        return *self._lineups.identity(), versions.rules, versions.feature_schema

    def _changed(self) -> bool:
        try:
            return self._identity() != self._seen
        except RegistryError:
            return True

    def _tell_unreachable(self, cause: str) -> None:
        """Says once that the registry cannot be reached; what was loaded goes on scoring."""
        if cause != self._unreachable:
            _log.warning("models.registry_unreachable", cause=cause)
            self._unreachable = cause

    def _switch(self, base: Snapshot, lined: LinedUp, wanted: Wanted) -> None:
        def change(current: Snapshot) -> Snapshot:
            """Where the rules changed meanwhile, with theirs."""
            return lined.snapshot if current is base else self._lineups.line_up(current, wanted).snapshot

        if self._live.switch(change):
            serving = self._live.current
            _log.info("models.switched", models=dict(serving.versions.models), shares=_percents(wanted))
            self._watch.models_switched()

    def _refuse(self, refused: Mapping[str, str]) -> None:
        for name, cause in refused.items():
            if self._refused.get(name) != cause:
                _log.error("models.refused", model=name, cause=cause)
                self._watch.model_refused(name.partition("/")[0])
        self._refused = dict(refused)

    def _prepare_next(self, wanted: Wanted) -> None:
        for name, version in wanted.next:
            if self._stop.is_set() or self._changed():
                return  # a switch comes first; the next look goes on with the rest
            key = f"{name}/{version}"
            cause = self._lineups.prepare(name, version)
            if cause is not None and self._prepared.get(key) != cause:
                _log.warning("models.prepare.failed", model=key, cause=cause)
            self._prepared[key] = cause
            self._tell()

    def _tell(self) -> None:
        state = ModelServer(
            pid=os.getpid(),
            models=dict(self._live.current.versions.models),
            percents={name: p for name, p in self._percents.items() if name not in self._refused},
            prepared=tuple(sorted(name for name, cause in self._prepared.items() if cause is None)),
            refused=self._refused | {name: cause for name, cause in self._prepared.items() if cause},
            shadow=self._shadow.counts(),
        )
        if state == self._told:
            return
        try:
            self._servers.tell(state)
            self._told = state
        except OSError as error:
            _log.warning("models.state.not_told", cause=error.strerror)

    def _run(self) -> None:
        looks = 0
        while not self._stop.is_set():
            looks += 1
            try:
                if not self.look() and looks % _LOOKS_A_TELL == 0:
                    self._tell()
            except Exception:  # a server never stops following because one look went wrong
                _log.exception("models.follow.failed")
            self._stop.wait(self._every_s)


def _accepted(lined: LinedUp) -> set[str]:
    """Versions that score somebody or are in the shadow, by name and number."""
    scoring = {
        f"{name}/{version}"
        for each in lined.snapshot.each()
        for name, version in each.versions.models.items()
    }
    return scoring | {shadow.name for shadow in lined.shadows}


def _percents(wanted: Wanted) -> dict[str, float]:
    """Shares of challengers, by name and number."""
    return {f"{name}/{rollout.version}": rollout.percent for name, rollout in wanted.rollouts.items()}
