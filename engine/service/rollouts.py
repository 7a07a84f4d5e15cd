"""Leads rollouts: takes the next step when enough was seen, and goes back at once where a guardrail breaks.

Every server process is ready to lead; the one that holds the lock in the data directory does, and when it
dies the kernel gives the lock to another one. Whoever leads has no memory: all it goes by is in files.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec
import structlog

from engine.monitor.rollout.counts import StepCounts, Steps, answers_of
from engine.monitor.rollout.guardrails import sudden, violations
from engine.monitor.rollout.sequential import Evidence, look
from engine.processes import ProcessStates
from engine.service.arms import Arms, read_counts
from engine.service.following_models import ModelServer
from engine.service.watching import Watch
from model_registry import Root, resolve
from model_registry.errors import RegistryError
from model_registry.rollout import (
    ChangeKind,
    Rollout,
    RolloutMoved,
    RolloutState,
    move,
    read_rollouts,
)

_log = structlog.get_logger("engine.service.rollouts")

ACTOR: Final = "arbiter serve"
TICK_S: Final = 1.0
"""Between two looks at the counts: with the second in which they are written, two from cause to rollback."""
LATEST: Final = 60
"""Looks that the latest decisions go back: a minute, so that many good ones before hide no bad ones."""

Promotion = Callable[[str, int, str], None]
"""Makes a version of a model champion, for a reason. Raises RegistryError where it may not be."""


class RolloutLeader:
    """Writes this process's counts, and leads where no other process does; inside the `with` block."""

    def __init__(
        self,
        *,
        registry: Root,
        arms: Arms,
        servers: ProcessStates[ModelServer],
        promote: Promotion,
        clock: Callable[[], int],
        watch: Watch,
        every_s: float = TICK_S,
    ) -> None:
        self._registry = registry
        self._arms = arms
        self._servers = servers
        self._promote = promote
        self._clock = clock
        self._watch = watch
        self._every_s = every_s
        self._lock: int | None = None
        self._led: set[str] = set()
        self._earlier: dict[str, deque[tuple[int, StepCounts]]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rollout-leader", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._arms.write()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def tick(self) -> None:
        """Writes what was counted; where this process leads, judges every rollout that is on."""
        self._arms.write()
        self._led.update(self._arms.rollouts)
        if not self._led or not self._leads():
            return
        for model in sorted(self._led):
            try:
                self._lead(model)
            except RolloutMoved:  # a person was quicker; the next tick sees what they did
                continue
            except (RegistryError, OSError) as error:
                _log.error("rollout.stuck", model=model, cause=str(error))

    def _leads(self) -> bool:
        """Whether this process holds the lock, which it keeps until it ends."""
        if self._lock is not None:
            return True
        try:
            self._arms.folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(self._arms.folder / "leader.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            _log.error("rollout.not_led", cause=error.strerror)
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            return False
        self._lock = lock
        _log.info("rollout.leading")
        return True

    def _lead(self, model: str) -> None:
        rollout = read_rollouts(self._registry, model).active
        if rollout is None:
            self._led.discard(model)
            return
        champion = resolve(self._registry, model)
        if champion == rollout.version:
            self._promoted(model, rollout)
            return
        counts = read_counts(self._arms.folder, model, rollout.id)
        evidence = self._looked(model, rollout, counts)
        why = self._why_back(model, rollout, champion, counts, evidence)
        if why is not None:
            self._move(model, ChangeKind.ROLL_BACK, rollout, why)
        elif rollout.state is RolloutState.RUNNING:
            self._go_on(model, rollout, counts)

    def _why_back(
        self, model: str, rollout: Rollout, champion: int, counts: Steps, evidence: Evidence
    ) -> str | None:
        if champion != rollout.champion:
            return f"version {champion} is the champion now, and it was compared with {rollout.champion}"
        for server in self._servers.running():
            cause = server.refused.get(f"{model}/{rollout.version}")
            if cause is not None:
                return f"server process {server.pid} cannot serve it: {cause}"
        broken = violations(rollout.guardrails, counts, rollout.step, evidence)
        if not broken:
            broken = sudden(rollout.guardrails, self._latest(rollout, counts))
        return "; ".join(f"{v.guardrail}: {v.told}" for v in broken) or None

    def _latest(self, rollout: Rollout, counts: Steps) -> StepCounts:
        """What was counted at this step since some looks ago; nothing at the first look."""
        now = counts.get(rollout.step, StepCounts())
        earlier = self._earlier.setdefault(rollout.id, deque(maxlen=LATEST))
        if earlier and earlier[0][0] != rollout.step:
            earlier.clear()
        earlier.append((rollout.step, now))
        return now.since(earlier[0][1])

    def _looked(self, model: str, rollout: Rollout, counts: Steps) -> Evidence:
        """The evidence so far, kept in a file: whoever leads next goes on from there."""
        path = evidence_path(self._arms.folder, model, rollout.id)
        before = read_evidence(path)
        after = look(before, answers_of(counts))
        if after != before:
            scratch = path.with_suffix(".part")
            scratch.write_bytes(msgspec.json.encode(after))
            scratch.replace(path)
        return after

    def _go_on(self, model: str, rollout: Rollout, counts: Steps) -> None:
        step = rollout.steps[rollout.step]
        decisions = counts[rollout.step].challenger.decisions if rollout.step in counts else 0
        due = rollout.since + timedelta(hours=step.hours)
        if decisions < step.decisions or self._now() < due:
            return
        seen = f"{decisions:,} decisions at {step.percent:g} % broke no guardrail"
        if rollout.step + 1 < len(rollout.steps):
            self._move(model, ChangeKind.STEP_UP, rollout, seen)
            return
        self._move(model, ChangeKind.COMPLETE, rollout, seen)
        if rollout.promotes:
            self._promote(model, rollout.version, f"its rollout is completed: {seen}")

    def _promoted(self, model: str, rollout: Rollout) -> None:
        if rollout.state is not RolloutState.COMPLETED:
            self._move(model, ChangeKind.COMPLETE, rollout, "it was promoted")
        self._led.discard(model)

    def _move(self, model: str, kind: ChangeKind, rollout: Rollout, reason: str) -> None:
        moved = move(
            self._registry, model, kind, expected=rollout, reason=reason, actor=ACTOR, at=self._now()
        )
        told = _log.error if kind is ChangeKind.ROLL_BACK else _log.info
        told(
            "rollout.changed",
            model=model,
            version=rollout.version,
            kind=kind.value,
            percent=moved.percent,
            reason=reason,
        )
        self._watch.rollout_changed(model, kind.value)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock() / 1000, UTC)

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self.tick()
            except Exception:  # a rollout is never left alone because one look went wrong
                _log.exception("rollout.lead.failed")


def evidence_path(folder: Path, model: str, rollout_id: str) -> Path:
    """Where the evidence of a rollout is kept."""
    return folder / model / f"{rollout_id}.evidence"


def read_evidence(path: Path) -> Evidence:
    """The evidence so far; none where nothing was looked at, or the file is damaged."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Evidence)
    except FileNotFoundError:
        return Evidence()
    except (OSError, msgspec.MsgspecError) as error:
        _log.warning("rollout.evidence.unreadable", file=path.name, cause=str(error))
        return Evidence()
