"""Counts what a rollout is judged by: each decision and answer goes to the arm whose version really scored.

Counts are kept in this process and written to a small file of its own every second, for whoever leads.
They stay when the process ends: what it saw counts on.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
import structlog

from engine.decisionlog.record import DecisionRecord
from engine.domain import Decision, Priority, PropensitySource, Versions
from engine.monitor.rollout.counts import ArmCounts, StepCounts, Steps, added_up
from feature_store.state import OutcomeType
from model_registry.rollout import Rollout

_log = structlog.get_logger("engine.service.arms")

CHURN: Final = "churn"
_REMEMBERED: Final = 200_000
"""Customers whom a process remembers to have scored at a step, or to have answered: some 20 MB each."""
_ANSWERS: Final = (OutcomeType.ACCEPTED, OutcomeType.DECLINED)


@dataclass(slots=True)
class _Watched:
    """A rollout with what this process counted of it."""

    rollout: Rollout
    steps: Steps = field(default_factory=dict)
    answered: set[str] = field(default_factory=set)
    scored: tuple[int, set[str]] = field(default_factory=lambda: (0, set()))
    changed: bool = False

    def is_first_score(self, customer_id: str, at_ms: int) -> bool:
        """Whether a customer was not scored before at this step: many scores of one are one observation."""
        step = self.rollout.step_at(at_ms)
        if step != self.scored[0]:
            self.scored = step, set()
        customers = self.scored[1]
        if customer_id in customers or len(customers) >= _REMEMBERED:
            return False
        customers.add(customer_id)
        return True

    def arm(self, versions: Versions, model: str, at_ms: int) -> ArmCounts | None:
        """The counts a decision belongs to; None for one of other versions."""
        version = versions.models.get(model)
        if version not in (self.rollout.version, self.rollout.champion):
            return None
        self.changed = True
        step = self.steps.setdefault(self.rollout.step_at(at_ms), StepCounts())
        return step.challenger if version == self.rollout.version else step.champion


class Arms:
    """Counts of this process. Safe for threads; a decision costs some microseconds while a rollout is on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._watched: dict[str, _Watched] = {}
        self._counting = threading.Lock()
        self._name = f"{os.getpid()}-{time.time_ns()}.json"

    @property
    def folder(self) -> Path:
        """Where counts of all processes lie."""
        return self._folder

    @property
    def rollouts(self) -> dict[str, Rollout]:
        """What is counted now, by model."""
        return {model: watched.rollout for model, watched in self._watched.items()}

    def watch(self, rollouts: Mapping[str, Rollout]) -> None:
        """Counts these rollouts from now on; one that goes on keeps its counts."""
        self.write()
        with self._counting:
            before = self._watched
            self._watched = {model: _Watched(rollout) for model, rollout in rollouts.items()}
            for model, watched in self._watched.items():
                held = before.get(model)
                if held is not None and held.rollout.id == watched.rollout.id:
                    watched.steps, watched.changed = held.steps, held.changed
                    watched.answered, watched.scored = held.answered, held.scored

    def decided(self, record: DecisionRecord, seconds: float) -> None:
        """A decision was made and logged; deciding took so long."""
        if not self._watched:
            return
        decision, customer_id = record.decision, record.request.customer_id
        with self._counting:
            for model, watched in self._watched.items():
                arm = watched.arm(decision.versions, model, record.now_ms)
                if arm is not None:
                    failed = not {f"model:{model}", f"reasons:{model}"}.isdisjoint(decision.degraded_by)
                    score = _score(decision, model)
                    if score is not None and not watched.is_first_score(customer_id, record.now_ms):
                        score = None
                    arm.count(seconds=seconds, score=score, failed=failed)

    def failed(self, versions: Versions, at_ms: int) -> None:
        """A decision ended in an error that nobody foresaw; no answer was given."""
        if not self._watched:
            return
        with self._counting:
            for model, watched in self._watched.items():
                arm = watched.arm(versions, model, at_ms)
                if arm is not None:
                    arm.decisions += 1
                    arm.failed += 1

    def answered(self, record: DecisionRecord, outcome: OutcomeType) -> None:
        """A person accepted or declined; the first answer of each customer counts."""
        if not self._watched or outcome not in _ANSWERS:
            return
        customer_id = record.request.customer_id
        with self._counting:
            for model, watched in self._watched.items():
                if customer_id in watched.answered:
                    continue
                arm = watched.arm(record.decision.versions, model, record.now_ms)
                if arm is None or record.now_ms < _began_ms(watched.rollout):
                    continue
                if len(watched.answered) < _REMEMBERED:
                    watched.answered.add(customer_id)
                if outcome is OutcomeType.ACCEPTED:
                    arm.accepted += 1
                else:
                    arm.declined += 1

    def write(self) -> None:
        """Puts the counts where whoever leads reads them; a full disk is told and tried again."""
        with self._counting:
            changed = [(model, w.rollout.id, w) for model, w in self._watched.items() if w.changed]
            contents = [(model, id_, msgspec.json.encode(w.steps)) for model, id_, w in changed]
            for _, _, watched in changed:
                watched.changed = False
        for model, rollout_id, content in contents:
            try:
                _replace(self._folder / model / rollout_id / self._name, content)
            except OSError as error:
                _log.warning("rollout.counts.not_written", model=model, cause=error.strerror)
                with self._counting:
                    if model in self._watched:
                        self._watched[model].changed = True


def read_counts(folder: Path, model: str, rollout_id: str) -> Steps:
    """What all processes counted of a rollout; a file that is damaged counts for nothing."""
    found = []
    for path in sorted((folder / model / rollout_id).glob("*.json")):
        try:
            found.append(msgspec.json.decode(path.read_bytes(), type=Steps))
        except (OSError, msgspec.MsgspecError) as error:
            _log.warning("rollout.counts.unreadable", file=path.name, cause=str(error))
    return added_up(found)


def _began_ms(rollout: Rollout) -> int:
    return int(rollout.changes[0].at.timestamp() * 1000)


def _score(decision: Decision, model: str) -> float | None:
    """What the model said of the customer: churn, or the mean over the actions that were ranked."""
    if model == CHURN:
        return None if decision.churn is None else decision.churn.probability
    scores = model_scores(decision).values()
    return sum(scores) / len(scores) if scores else None


def model_scores(decision: Decision) -> dict[str, float]:
    """What the propensity model said of each action that was ranked."""
    ranked = [(a.action_id, a.priority) for a in decision.actions]
    lost = [(s.action_id, s.priority) for s in decision.suppressed if s.priority is not None]
    return {action: p.propensity for action, p in (*ranked, *lost) if _by_model(p)}


def _by_model(priority: Priority) -> bool:
    return priority.propensity_source is PropensitySource.MODEL


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".part")  # of this process alone
    scratch.write_bytes(content)
    scratch.replace(path)
