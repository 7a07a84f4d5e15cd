"""Follows what people publish and activate: a running server serves it within a second, without a signal."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

import structlog

from engine.core.snapshot import Snapshot
from engine.decisionlog.errors import LogError
from engine.errors import SetupInvalid
from engine.ruleset.servers import ServerState
from engine.ruleset.versions import RuleVersions, VersionError
from engine.service.live import LiveSnapshot
from engine.service.shadowing import Shadow

_log = structlog.get_logger("engine.service.following")

POLL_S: Final = 0.25
"""A quarter of the second a switch may take; a look costs two file stats."""

_LOOKS_A_TELL: Final = 4
"""Looks between two times that a process says what it does: about a second."""


class RulesFollower:
    """Swaps the live snapshot when another version is activated; its thread runs inside the `with` block.

    What may be activated next (announced, newest, and the one a rollback goes to) is prepared as soon as
    it is seen, so that the switch itself does not wait for a compiler. A version that cannot serve is
    refused by `LiveSnapshot.reload`; it is tried again when the pointers change or on SIGHUP. What this
    process serves, has prepared and refuses it tells in `versions.servers`. The shadow's thread starts and
    ends with this one.
    """

    def __init__(
        self,
        *,
        versions: RuleVersions,
        live: LiveSnapshot,
        shadow: Shadow,
        prepare: Callable[[str], Snapshot],
        every_s: float = POLL_S,
    ) -> None:
        """`prepare` compiles a version and remembers it; it raises SetupInvalid for one that cannot serve."""
        self._versions = versions
        self._live = live
        self._shadow = shadow
        self._prepare = prepare
        self._every_s = every_s
        self._seen: object = None
        self._models: dict[str, int] = {}
        self._prepared: set[str] = set()
        self._refused: dict[str, str] = {}
        self._told: ServerState | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rules-follower", daemon=True)

    def __enter__(self) -> Self:
        """Raises SetupInvalid where the shadow's log cannot be written."""
        self._tell()  # before anybody may rely on this process being known
        try:
            self._shadow.__enter__()
        except LogError as error:
            raise SetupInvalid(str(error)) from error
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._shadow.__exit__(kind, error, trace)
        self._versions.servers.forget(os.getpid())

    def look(self) -> bool:
        """Follows what changed since the last look; False where nothing did."""
        identity = self._identity()  # before reading: what changes meanwhile is seen next time
        if identity == self._seen:
            return False
        self._seen = identity
        self._forget_other_models()
        try:
            pointers = self._versions.pointers()
            published = self._versions.published()
        except VersionError:
            self._live.reload()  # fails for the same reason, which it counts and tells
        else:
            if pointers.current not in (None, self._live.current.versions.rules):
                self._live.reload()
            self._follow_shadow(pointers.shadow)
            newest = published[-1].rules if published else None
            self._prepare_next(pointers.prepare, newest, pointers.previous())
        self._tell()
        return True

    def _identity(self) -> tuple[object, ...]:
        """Differs also when other models serve: what is prepared is prepared with them."""
        return *self._versions.identity(), tuple(sorted(self._live.current.versions.models.items()))

    def _forget_other_models(self) -> None:
        models = dict(self._live.current.versions.models)
        if models != self._models:
            self._models = models
            self._prepared.clear()

    def _prepare_next(self, *versions: str | None) -> None:
        self._refused.clear()
        for rules in versions:
            if rules is None or rules in self._prepared:
                continue
            if self._stop.is_set() or self._identity() != self._seen:
                return  # a switch comes first; the next look goes on with the rest
            try:
                self._prepare(rules)
                self._prepared.add(rules)
                self._tell()
            except SetupInvalid as error:
                self._refused[rules] = str(error)
                _log.warning("rules.prepare.failed", rules=rules, cause=str(error))

    def _follow_shadow(self, rules: str | None) -> None:
        try:
            self._shadow.use(None if rules is None else self._prepare(rules))
        except SetupInvalid as error:
            self._shadow.use(None)
            _log.error("rules.shadow.refused", rules=rules, cause=str(error))

    def _tell(self) -> None:
        live, counts = self._live, self._shadow.counts
        state = ServerState(
            pid=os.getpid(),
            serving=live.current.versions.rules,
            prepared=frozenset(self._prepared),
            refused=dict(self._refused),
            failed_reloads=live.failed_reloads,
            last_error=live.last_error,
            shadow=self._shadow.version,
            shadow_evaluated=counts.evaluated,
            shadow_differing=counts.differing,
            shadow_dropped=counts.dropped,
        )
        if state == self._told:
            return
        try:
            self._versions.servers.tell(state)
            self._told = state
        except OSError as error:
            _log.warning("rules.state.not_told", cause=error.strerror)

    def _run(self) -> None:
        looks = 0
        while not self._stop.is_set():
            looks += 1
            try:
                if not self.look() and looks % _LOOKS_A_TELL == 0:
                    self._tell()  # what changes without a look: reloads by SIGHUP, counts of the shadow
            except Exception:  # a server never stops following because one look went wrong
                _log.exception("rules.follow.failed")
            self._stop.wait(self._every_s)
