"""Decides in the shadow: what another version of the rules would have answered, and no reply ever shows it.

Whoever decides puts the logged record on a short queue and goes on; a thread of its own decides again with
the shadow's rules and logs where the answers differ. A full queue drops records and counts them: the shadow
is a sample under load, never a brake.
"""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final, Self

import structlog

from engine.core.pipeline import decide
from engine.core.snapshot import Snapshot
from engine.decisionlog.errors import LogError
from engine.decisionlog.ledger import ShadowEntry, ShadowLog
from engine.decisionlog.record import DecisionRecord
from engine.service.late_writes import NOBODY_ERASED, LateWrites
from feature_store.versions import SchemaVersions

_log = structlog.get_logger("engine.service.shadowing")

QUEUE: Final = 64
"""Records that may wait: with half a millisecond each, 30 ms of work."""
SHADOW = "shadow"
"""Name of the log of a shadow's answers among the logs."""
_LOOK_S: Final = 0.25
"""How long the thread waits for a record before it sees whether it should end."""


@dataclass(frozen=True, slots=True)
class ShadowCounts:
    """What the shadow did since its version was set: the metric of a shadow version."""

    evaluated: int = 0
    differing: int = 0
    dropped: int = 0
    failed: int = 0


class Shadow:
    """Evaluates decisions with a second snapshot, in a thread that runs inside the `with` block."""

    def __init__(self, log: ShadowLog, versions: SchemaVersions, *, late: LateWrites = NOBODY_ERASED) -> None:
        """`versions` tells how to read features that were logged in another schema than the shadow's."""
        self._log = log
        self._versions = versions
        self._late = late
        self._snapshot: Snapshot | None = None
        self._waiting: queue.Queue[DecisionRecord] = queue.Queue(QUEUE)
        self._counts = ShadowCounts()
        self._counting = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rules-shadow", daemon=True)

    def __enter__(self) -> Self:
        """Raises LogUnavailable where differences cannot be logged."""
        self._log.prepare()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._log.close()

    @property
    def counts(self) -> ShadowCounts:
        """The figures so far."""
        return self._counts

    @property
    def version(self) -> str | None:
        """The version in the shadow; None where there is none."""
        return None if self._snapshot is None else self._snapshot.versions.rules

    def use(self, snapshot: Snapshot | None) -> None:
        """Decides with another snapshot from now on, or with none; counts begin anew."""
        held = self._snapshot
        if (None if snapshot is None else snapshot.versions) == (None if held is None else held.versions):
            return
        with self._counting:
            self._snapshot, self._counts = snapshot, ShadowCounts()

    def offer(self, record: DecisionRecord) -> None:
        """Takes a decision that was made. Never waits, never raises for what the shadow does with it."""
        if self._snapshot is None:
            return
        try:
            self._waiting.put_nowait(record)
        except queue.Full:
            self._count(dropped=1)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                record = self._waiting.get(timeout=_LOOK_S)
            except queue.Empty:
                continue
            snapshot = self._snapshot
            if snapshot is None or dict(snapshot.versions.models) != dict(record.decision.versions.models):
                continue  # of other models, the difference would not be that of the rules
            try:
                differs = self._evaluate(snapshot, record)
            except Exception:  # whatever is wrong with the shadow, replies go on
                _log.exception("rules.shadow.failed", decision_id=record.decision_id)
                self._count(failed=1)
            else:
                self._count(evaluated=1, differing=int(differs))

    def _evaluate(self, snapshot: Snapshot, record: DecisionRecord) -> bool:
        """Whether the shadow returns other actions; then that is logged."""
        request, live = record.request, record.decision
        if (request.channel, request.placement) in snapshot.catalogue.availability:
            shadowed = decide(
                snapshot,
                request,
                self._versions.state(record.state, snapshot.schema, now_ms=record.now_ms),
                now_ms=record.now_ms,
                supply=record.supplied,
                with_model_reasons=False,
                with_rule_reasons=False,
            )
            after = tuple(action.action_id for action in shadowed.actions)
        else:
            after = ()
        before = tuple(action.action_id for action in live.actions)
        if before == after:
            return False
        entry = ShadowEntry(
            decision_id=record.decision_id,
            customer_id=request.customer_id,
            rules=live.versions.rules,
            shadow=snapshot.versions.rules,
            returned=before,
            shadow_returned=after,
            received_at_ms=record.now_ms,
        )
        writing = self._late.begin(SHADOW)
        try:
            if not writing.is_erased(request.customer_id):
                writing.took_back(request.customer_id, self._log.append(entry))
        except LogError as error:
            _log.warning("rules.shadow.not_logged", cause=str(error))
        return True

    def _count(self, *, evaluated: int = 0, differing: int = 0, dropped: int = 0, failed: int = 0) -> None:
        with self._counting:
            held = self._counts
            self._counts = replace(
                held,
                evaluated=held.evaluated + evaluated,
                differing=held.differing + differing,
                dropped=held.dropped + dropped,
                failed=held.failed + failed,
            )
