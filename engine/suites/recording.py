"""Decides a case and keeps what every rule was asked and answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from engine.core.inputs import PROPENSITY_SCORE
from engine.core.pipeline import decide
from engine.core.policy import PolicyStage
from engine.core.rulebook import FALSE, TRUE, UNKNOWN, Frame, Mask, PolicyProgram, PolicyRule, Truths
from engine.core.scoring import Scorer
from engine.core.snapshot import Snapshot
from engine.core.supply import PLENTY, Supply
from engine.domain import Action, Decision, DecisionRequest, MissingCause, Stage
from engine.ruleset.trace import Situation
from engine.suites.facts import Facts
from feature_store.state import CustomerState

__all__ = ["FALSE", "TRUE", "UNKNOWN", "Asked", "Record", "record"]


@dataclass(slots=True)
class _Recorder:
    """A program that remembers its last frame and truths."""

    program: PolicyProgram
    frame: Frame | None = None
    truths: Truths = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int8))

    @property
    def rules(self) -> tuple[PolicyRule, ...]:
        """As the program's."""
        return self.program.rules

    @property
    def scope(self) -> Mask:
        """As the program's."""
        return self.program.scope

    def evaluate(self, frame: Frame) -> Truths:
        """As the program's; the frame is copied, as later steps add scores to it."""
        self.frame = Frame(list(frame.values), frame.missing, frame.now_ms, frame.propensity)
        self.truths = self.program.evaluate(frame)
        return self.truths


@dataclass(frozen=True, slots=True)
class Asked:
    """One rule asked about one action that was still in play."""

    rule: PolicyRule
    action: Action
    truth: int


@dataclass(frozen=True, slots=True)
class Record:
    """A decision and what the rules were asked on the way."""

    decision: Decision
    asked: tuple[Asked, ...]
    _frames: Mapping[str, Frame]  # rule id to the frame it saw
    _last: Frame
    _causes: Mapping[str, str]
    _names: tuple[str, ...]
    _place: Mapping[str, int]  # action id to its place in the catalogue

    def of_action(self, action_id: str) -> Iterator[Asked]:
        """What was asked about one action."""
        return (a for a in self.asked if a.action.id == action_id)

    def situation(self, asked: Asked) -> Situation:
        """What a rule saw when it was asked, for a trace."""
        return self._seen(self._frames[asked.rule.id], asked.action)

    def last_situation(self, action: Action | None) -> Situation:
        """What rules that read scores see, asked about an action or none."""
        return self._seen(self._last, action)

    def _seen(self, frame: Frame, action: Action | None) -> Situation:
        values = dict(zip(self._names, frame.values, strict=True))
        if frame.propensity is not None and action is not None:
            scored = float(frame.propensity[self._place[action.id]])
            values[PROPENSITY_SCORE] = None if np.isnan(scored) else scored
        return Situation(values, frame.now_ms, action, self._causes)


def record(snapshot: Snapshot, facts: Facts, scorer: Scorer) -> Record:
    """Decides for the facts with a scorer."""
    return record_decision(
        replace(snapshot, scorer=scorer),
        facts.request(),
        facts.state(),
        now_ms=facts.now_ms,
        supply=facts.supply(),
    )


def record_decision(
    snapshot: Snapshot,
    request: DecisionRequest,
    state: CustomerState,
    *,
    now_ms: int,
    supply: Supply = PLENTY,
) -> Record:
    """Decides and keeps what was asked."""
    before, after = _recorded(snapshot.before_scores), _recorded(snapshot.after_scores)
    recorded = replace(snapshot, before_scores=before[0], after_scores=after[0])
    decision = decide(recorded, request, state, now_ms=now_ms, supply=supply)
    fates = {fate.action_id: fate for fate in decision.suppressed}
    early = {i for i, fate in fates.items() if fate.stage in (Stage.AVAILABILITY, Stage.CONSENT)}
    by_before = {rule.id for rule in before[1].rules}
    removed = early | {
        i
        for i, fate in fates.items()
        if fate.stage not in (Stage.CONTACT, Stage.ARBITRATION)
        and any(reason.rule_id in by_before for reason in fate.reasons)
    }
    actions = snapshot.catalogue.actions
    asked = (*_asked(before[1], actions, early), *_asked(after[1], actions, removed))
    frames = {r.id: p.frame for _, p in (before, after) for r in p.rules if p.frame is not None}
    inputs = snapshot.rulebook.vocabulary.inputs
    causes = {m.name: m.cause.value for m in decision.missing_inputs}
    if not decision.profiled and state.consents_readable:
        causes |= {i.name: MissingCause.WITHHELD.value for i in inputs if i.behavioural}
    places = {action.id: i for i, action in enumerate(actions)}
    last = after[1].frame or Frame([None] * len(inputs), 0, now_ms)
    return Record(decision, asked, frames, last, causes, tuple(i.name for i in inputs), places)


def _recorded(stage: PolicyStage) -> tuple[PolicyStage, _Recorder]:
    recorder = _Recorder(stage.program)
    return replace(stage, program=recorder), recorder


def _asked(recorder: _Recorder, actions: Sequence[Action], out: set[str]) -> Iterator[Asked]:
    if recorder.frame is None:
        return
    now_ms = recorder.frame.now_ms
    for row, rule in enumerate(recorder.rules):
        starts, ends = rule.valid_from_ms, rule.valid_to_ms
        if (starts is not None and now_ms < starts) or (ends is not None and now_ms >= ends):
            continue
        for place in np.flatnonzero(recorder.scope[row]).tolist():
            if actions[place].id not in out:
                yield Asked(rule, actions[place], int(recorder.truths[row, place]))
