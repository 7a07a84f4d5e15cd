"""Scores in the shadow: what other versions of models would have said, and no reply ever shows it.

Whoever decides puts the logged record on a short queue and goes on; a thread of its own decides again with
the other version of one model and logs the scores of both. A full queue drops records and counts them: the
shadow is a sample under load, never a brake.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Final, Self

import structlog

from engine.core.pipeline import decide
from engine.core.snapshot import Snapshot
from engine.decisionlog.errors import LogError
from engine.decisionlog.ledger import ModelShadowEntry, ModelShadowLog
from engine.decisionlog.record import DecisionRecord
from engine.domain import Decision
from engine.service.arms import CHURN, model_scores
from engine.service.late_writes import NOBODY_ERASED, LateWrites

_log = structlog.get_logger("engine.service.model_shadow")

MODEL_SHADOW: Final = "model-shadow"
"""Name of the log of shadow scores among the logs."""
QUEUE: Final = 64
"""Records that may wait: with half a millisecond each, 30 ms of work."""
_LOOK_S: Final = 0.25
"""How long the thread waits for a record before it sees whether it should end."""


class Scored(StrEnum):
    """What became of a decision in the shadow."""

    SCORED = "scored"
    OTHERWISE = "otherwise"  # scored, and another action would have come first
    DROPPED = "dropped"
    SKIPPED = "skipped"  # decided with other rules or models than the shadow has beside its own
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ShadowModel:
    """A version of a model in the shadow, with the snapshot that decides with it."""

    model: str
    version: int
    snapshot: Snapshot

    @property
    def name(self) -> str:
        """As people write it."""
        return f"{self.model}/{self.version}"


class ModelShadow:
    """Scores decisions with other versions, in a thread that runs inside the `with` block."""

    def __init__(
        self,
        log: ModelShadowLog,
        *,
        told: Callable[[str, str], None] = lambda _model, _result: None,
        late: LateWrites = NOBODY_ERASED,
    ) -> None:
        """`told` gets every model and what became of a decision; it must neither wait nor raise."""
        self._log = log
        self._told = told
        self._late = late
        self._shadows: tuple[ShadowModel, ...] = ()
        self._waiting: queue.Queue[DecisionRecord] = queue.Queue(QUEUE)
        self._counts: Counter[tuple[str, Scored]] = Counter()
        self._counting = threading.Lock()
        self._prepared = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="model-shadow", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._prepared:
            self._log.close()

    @property
    def versions(self) -> tuple[str, ...]:
        """What is in the shadow now, such as churn/3."""
        return tuple(shadow.name for shadow in self._shadows)

    def counts(self) -> dict[str, dict[str, int]]:
        """What became of decisions, by version and result."""
        with self._counting:
            found: dict[str, dict[str, int]] = {}
            for (name, result), count in sorted(self._counts.items()):
                found.setdefault(name, {})[result.value] = count
            return found

    def use(self, shadows: tuple[ShadowModel, ...]) -> None:
        """Scores with other versions from now on, or with none; counts of those that stay go on."""
        names = {shadow.name for shadow in shadows}
        with self._counting:
            self._shadows = shadows
            for name, result in list(self._counts):
                if name not in names:
                    del self._counts[name, result]

    def offer(self, record: DecisionRecord) -> None:
        """Takes a decision that was made. Never waits, never raises for what the shadow does with it."""
        if not self._shadows:
            return
        try:
            self._waiting.put_nowait(record)
        except queue.Full:
            for shadow in self._shadows:
                self._count(shadow, Scored.DROPPED)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                record = self._waiting.get(timeout=_LOOK_S)
            except queue.Empty:
                continue
            for shadow in self._shadows:
                try:
                    result = self._score(shadow, record)
                except Exception:  # whatever is wrong with the shadow, replies go on
                    _log.exception("models.shadow.failed", model=shadow.name, decision_id=record.decision_id)
                    result = Scored.FAILED
                self._count(shadow, result)

    def _score(self, shadow: ShadowModel, record: DecisionRecord) -> Scored:
        snapshot, live, request = shadow.snapshot, record.decision, record.request
        version = live.versions.models.get(shadow.model)
        if version is None or version == shadow.version or not _alike(shadow, live):
            return Scored.SKIPPED
        shadowed = decide(
            snapshot,
            request,
            record.state,
            now_ms=record.now_ms,
            supply=record.supplied,
            with_model_reasons=False,
            with_rule_reasons=False,
        )
        if f"model:{shadow.model}" in shadowed.degraded_by:
            return Scored.FAILED
        entry = ModelShadowEntry(
            decision_id=record.decision_id,
            customer_id=request.customer_id,
            model=shadow.model,
            version=version,
            shadow=shadow.version,
            scores=_both(model_scores(live), model_scores(shadowed)) if shadow.model != CHURN else {},
            churn=_churn(live, shadowed) if shadow.model == CHURN else None,
            returned=_returned(live),
            shadow_returned=_returned(shadowed),
            received_at_ms=record.now_ms,
        )
        self._keep(entry)
        return Scored.SCORED if entry.returned[:1] == entry.shadow_returned[:1] else Scored.OTHERWISE

    def _keep(self, entry: ModelShadowEntry) -> None:
        writing = self._late.begin(MODEL_SHADOW)
        try:
            if not self._prepared:
                self._log.prepare()
                self._prepared = True
            if not writing.is_erased(entry.customer_id):
                writing.took_back(entry.customer_id, self._log.append(entry))
        except LogError as error:
            _log.warning("models.shadow.not_logged", cause=str(error))

    def _count(self, shadow: ShadowModel, result: Scored) -> None:
        with self._counting:
            self._counts[shadow.name, result] += 1
        self._told(shadow.model, result.value)


def _alike(shadow: ShadowModel, live: Decision) -> bool:
    """Whether nothing but the model's version differs, so that the difference is its own."""
    theirs, ours = live.versions, shadow.snapshot.versions
    models = {**theirs.models, shadow.model: shadow.version}
    return (theirs.rules, theirs.feature_schema) == (ours.rules, ours.feature_schema) and models == dict(
        ours.models
    )


def _returned(decision: Decision) -> tuple[str, ...]:
    return tuple(action.action_id for action in decision.actions)


def _both(live: Mapping[str, float], shadowed: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    return {action: (score, shadowed[action]) for action, score in live.items() if action in shadowed}


def _churn(live: Decision, shadowed: Decision) -> tuple[float, float] | None:
    if live.churn is None or shadowed.churn is None:
        return None
    return live.churn.probability, shadowed.churn.probability
