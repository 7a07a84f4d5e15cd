"""Explains a logged decision, and makes it again to prove that it is the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from engine.core.change import NumberRange
from engine.core.pipeline import decide, inputs_seen
from engine.core.snapshot import Snapshot
from engine.decisionlog.log import DecisionLog
from engine.decisionlog.record import DecisionRecord, decision_bytes
from engine.domain import Versions
from engine.errors import DecisionUnknown, SetupInvalid
from engine.service.accounts import Accounts, ActionAccount, RangesOf, RuleReader, SourcesOf, read_rules
from engine.service.decisions import read_decision
from engine.service.live import LiveSnapshot
from engine.service.requests import MAX_ID, MAX_LANGUAGE, RequestCheck, choose_language

SnapshotOf = Callable[[Versions], Snapshot]
"""Builds the snapshot of past versions. Raises SetupInvalid where they are no longer held."""

_READERS = 4
"""How many rule sets stay ready to be explained."""


def _no_sources(_rules: str) -> None:
    """Where rule files are not kept: rules are explained without places inside their conditions."""


def _no_ranges(_models: Mapping[str, int]) -> Mapping[str, NumberRange]:
    """Where models have no references: numbers are varied around what rules compare them with."""
    return {}


@dataclass(frozen=True, slots=True)
class Explanation:
    """A logged decision, a snapshot to put it into words with, and the inputs its rules saw.

    `inputs` and `accounts` are empty where the decision's own versions are no longer held. `accounts` are of
    one action in full where one was asked for, else of all in short. `reproduced` says whether deciding
    again gives the logged decision to the byte, so that the accounts are of the very same one.
    """

    record: DecisionRecord
    snapshot: Snapshot
    inputs: Mapping[str, str]
    language: str
    accounts: tuple[ActionAccount, ...] = ()
    reproduced: bool = False


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
    again = decide(snapshot, record.request, record.state, now_ms=record.now_ms, supply=record.supplied)
    return Replay(record, decision_bytes(record.decision), decision_bytes(again))


class Explanations:
    """Answers why, from the log. Safe for threads."""

    def __init__(
        self,
        *,
        live: LiveSnapshot,
        log: DecisionLog,
        snapshot_of: SnapshotOf,
        sources_of: SourcesOf = _no_sources,
        ranges_of: RangesOf = _no_ranges,
    ) -> None:
        self._live = live
        self._log = log
        self._snapshot_of = snapshot_of
        self._sources_of = sources_of
        self._ranges_of = ranges_of
        self._reader_of = lru_cache(maxsize=_READERS)(self._read_rules)

    def explain(self, decision_id: str, *, action_id: str = "", language: str = "") -> Explanation:
        """One logged decision in full. Raises DecisionUnknown."""
        _check(decision_id, action_id, language)
        record = read_decision(self._log, decision_id)
        if action_id and action_id not in _known_actions(record):
            raise DecisionUnknown("the decision knows no such action")
        held = self._held(record.decision.versions)
        snapshot = held or self._live.current
        chosen = choose_language(language or record.request.language, snapshot.rulebook.vocabulary)
        if held is None:
            return Explanation(record, snapshot, {}, chosen)
        inputs = inputs_seen(held, record.request, record.state, now_ms=record.now_ms)
        accounts = self._accounts(held, record, action_id)
        return Explanation(record, held, inputs, chosen, accounts, replay(record, held).same)

    def _held(self, versions: Versions) -> Snapshot | None:
        try:
            return self.snapshot_of(versions)
        except SetupInvalid:
            return None

    def _accounts(
        self, snapshot: Snapshot, record: DecisionRecord, action_id: str
    ) -> tuple[ActionAccount, ...]:
        accounts = Accounts(snapshot, record, self._reader_of(snapshot))
        return (accounts.of_action(action_id),) if action_id else accounts.of_all()

    def _read_rules(self, snapshot: Snapshot) -> RuleReader:
        versions = snapshot.versions
        return read_rules(
            snapshot.rulebook, self._sources_of(versions.rules), self._ranges_of(versions.models)
        )

    def replay(self, decision_id: str) -> Replay:
        """Makes a logged decision again with its own versions. Raises SetupInvalid without them."""
        record = read_decision(self._log, decision_id)
        return replay(record, self.snapshot_of(record.decision.versions))

    def snapshot_of(self, versions: Versions) -> Snapshot:
        """The live snapshot where its versions are those asked for, else one built from the archive."""
        held = (each for each in self._live.current.each() if each.versions == versions)
        return next(held, None) or self._snapshot_of(versions)


def _check(decision_id: str, action_id: str, language: str) -> None:
    check = RequestCheck()
    check.identifier(decision_id, "decision_id")
    check.text(action_id, "action_id", MAX_ID)
    check.text(language, "language", MAX_LANGUAGE)
    check.done()


def _known_actions(record: DecisionRecord) -> set[str]:
    decision = record.decision
    return {a.action_id for a in decision.actions} | {s.action_id for s in decision.suppressed}
