"""Explains a logged decision, and makes it again to prove that it is the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from engine.core.pipeline import decide, inputs_seen
from engine.core.snapshot import Snapshot
from engine.decisionlog.log import DecisionLog
from engine.decisionlog.record import DecisionRecord, decision_bytes
from engine.domain import Versions
from engine.errors import DecisionUnknown, SetupInvalid
from engine.service.decisions import read_decision
from engine.service.live import LiveSnapshot
from engine.service.requests import check_identifiers, choose_language

SnapshotOf = Callable[[Versions], Snapshot]
"""Builds the snapshot of past versions. Raises SetupInvalid where they are no longer held."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """A logged decision, a snapshot to put it into words with, and the inputs its rules saw.

    `inputs` is empty where the decision's own versions are no longer held.
    """

    record: DecisionRecord
    snapshot: Snapshot
    inputs: Mapping[str, str]
    language: str


@dataclass(frozen=True, slots=True)
class Replay:
    """A decision made again: the logged and the new bytes."""

    record: DecisionRecord
    logged: bytes
    replayed: bytes

    @property
    def same(self) -> bool:
        """Whether both are the same to the byte."""
        return self.logged == self.replayed


def replay(record: DecisionRecord, snapshot: Snapshot) -> Replay:
    """Makes a logged decision again; `snapshot` must be that of its versions."""
    again = decide(snapshot, record.request, record.state, now_ms=record.now_ms)
    return Replay(record, decision_bytes(record.decision), decision_bytes(again))


class Explanations:
    """Answers why, from the log. Safe for threads."""

    def __init__(self, *, live: LiveSnapshot, log: DecisionLog, snapshot_of: SnapshotOf) -> None:
        self._live = live
        self._log = log
        self._snapshot_of = snapshot_of

    def explain(self, decision_id: str, *, action_id: str = "", language: str = "") -> Explanation:
        """One logged decision in full. Raises DecisionUnknown."""
        check_identifiers(decision_id=decision_id)
        record = read_decision(self._log, decision_id)
        if action_id and action_id not in _known_actions(record):
            raise DecisionUnknown("the decision knows no such action")
        snapshot, inputs = self._in_its_versions(record)
        chosen = choose_language(language or record.request.language, snapshot.rulebook.vocabulary)
        return Explanation(record, snapshot, inputs, chosen)

    def _in_its_versions(self, record: DecisionRecord) -> tuple[Snapshot, Mapping[str, str]]:
        try:
            snapshot = self.snapshot_of(record.decision.versions)
        except SetupInvalid:
            return self._live.current, {}
        return snapshot, inputs_seen(snapshot, record.request, record.state, now_ms=record.now_ms)

    def replay(self, decision_id: str) -> Replay:
        """Makes a logged decision again with its own versions. Raises SetupInvalid without them."""
        record = read_decision(self._log, decision_id)
        return replay(record, self.snapshot_of(record.decision.versions))

    def snapshot_of(self, versions: Versions) -> Snapshot:
        """The live snapshot where its versions are those asked for, else one built from the archive."""
        current = self._live.current
        return current if current.versions == versions else self._snapshot_of(versions)


def _known_actions(record: DecisionRecord) -> set[str]:
    decision = record.decision
    return {a.action_id for a in decision.actions} | {s.action_id for s in decision.suppressed}
