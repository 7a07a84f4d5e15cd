"""What if: the smallest change of one input that would have put an action first.

Each change is tried by deciding again, so what is said is what the engine would have done, models, limits and
all. Sizes are those of `engine.core.change`; of two changes of one size the one first in
`Change.order` is told. A number's change is narrowed by halving until its resolution (1, or a hundredth).
The search is exact for what can be listed; between two tried values of a number it takes the side that was
found first. Pure: the same record gives the same answer.

What is never suggested: overturning a refusal or an objection, another protected characteristic (age,
household), and anything behavioural where profiling is not permitted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from engine.core import consent
from engine.core.change import Case, Change, Grounds, NumberLine
from engine.core.pipeline import decide, examine
from engine.core.snapshot import Snapshot
from engine.core.variations import Variations
from engine.domain import Action, Decision, Stage

MAX_DECISIONS = 400
"""Decisions one search may make; bounds its time whatever a rule set holds. The demo needs at most 130."""
_TRIVIAL = ("request.", "contact.")

Goal = Callable[[Decision], bool]


class Outcome(StrEnum):
    """What a search for a change found."""

    FIRST = "first"  # nothing to change: the action is first
    FOUND = "found"  # one change makes it first
    CLOSEST = "closest"  # no change makes it first; one brings it into the answer
    REMOVED = "removed"  # one change takes a returned action out of the answer
    NONE = "none"  # no change of one input does
    REFUSED = "refused"  # the customer's will stands in the way; nothing is suggested
    PROTECTED = "protected"  # only another protected characteristic would; none is suggested


@dataclass(frozen=True, slots=True)
class Counterfactual:
    """The answer of one search. `rank` is the one reached, 0 where none is."""

    outcome: Outcome
    change: Change | None = None
    rank: int = 0
    stage: Stage | None = None  # REMOVED: the step that would take it out
    protected: tuple[str, ...] = ()  # protected inputs another value of which would do
    decisions: int = 0  # tried
    exhausted: bool = False  # the bound on decisions cut the search short


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What would put an action first, and for a returned one what would take it out."""

    to_first: Counterfactual
    to_removal: Counterfactual | None = None


def what_if(
    snapshot: Snapshot, case: Case, *, action: Action, decision: Decision, grounds: Grounds, now_ms: int
) -> WhatIf:
    """Searches for one action of a decision that was made from `case` at `now_ms`."""
    search = _search(snapshot, case, action, decision, grounds, now_ms)
    rank = _rank(decision, action)
    if not rank:
        return WhatIf(search.to_first(_stage(decision, action)))
    first = Counterfactual(Outcome.FIRST, rank=1) if rank == 1 else search.to_better(rank)
    return WhatIf(first, search.to_removal())


def _search(
    snapshot: Snapshot, case: Case, action: Action, decision: Decision, grounds: Grounds, now_ms: int
) -> _Search:
    request, state = case.request, case.state
    inputs = examine(snapshot, request, state, now_ms=now_ms).inputs
    consents = consent.judge_request(snapshot.rulebook.consent, request, state, now_ms=now_ms)
    variations = Variations(snapshot, case, inputs, consents, grounds, now_ms)
    return _Search(variations, action, decision)


@dataclass(slots=True)
class _Search:
    """One action's search; decisions that were tried are kept."""

    variations: Variations
    action: Action
    decision: Decision
    tried: dict[tuple[str, object], Decision | None] = field(default_factory=dict)
    exhausted: bool = False

    def to_first(self, stage: Stage | None) -> Counterfactual:
        """For an action that was not returned."""
        if stage is Stage.CONSENT:
            return self._by_consent()
        return self.to_better(0)

    def to_better(self, rank: int) -> Counterfactual:
        """First, or else into the answer (where `rank` is 0: it is not in it)."""
        changes = self.variations.discrete(self.action)
        found = self._smallest(self._is_first, changes)
        if found is not None:
            return self._answer(Outcome.FOUND, found)
        if not rank:
            found = self._smallest(self._is_returned, changes)
            if found is not None:
                return self._answer(Outcome.CLOSEST, found)
        protected = self._protected(self._is_first, changes)
        return self._answer(Outcome.PROTECTED if protected else Outcome.NONE, None, protected)

    def to_removal(self) -> Counterfactual:
        """What would take a returned action out. Being asked elsewhere is no such change."""
        changes = [c for c in self.variations.discrete(self.action) if not c.input.startswith(_TRIVIAL)]
        found = self._smallest(lambda decision: not self._is_returned(decision), changes)
        if found is not None:
            return self._answer(Outcome.REMOVED, found)
        protected = self._protected(lambda decision: not self._is_returned(decision), changes)
        return self._answer(Outcome.PROTECTED if protected else Outcome.NONE, None, protected)

    def _by_consent(self) -> Counterfactual:
        """Only a consent the customer never gave or refused is said to be missing."""
        change = self.variations.consent(self.action)
        if change is None:
            return Counterfactual(Outcome.REFUSED)
        decision = self._decided(change)
        if decision is not None and self._is_first(decision):
            return self._answer(Outcome.FOUND, change)
        if decision is not None and self._is_returned(decision):
            return self._answer(Outcome.CLOSEST, change)
        return self._answer(Outcome.NONE, None)

    def _answer(
        self, outcome: Outcome, change: Change | None, protected: tuple[str, ...] = ()
    ) -> Counterfactual:
        decision = None if change is None else self._decided(change)
        return Counterfactual(
            outcome=outcome,
            change=change,
            rank=0 if decision is None else _rank(decision, self.action),
            stage=None if decision is None else _stage(decision, self.action),
            protected=protected,
            decisions=len(self.tried),
            exhausted=self.exhausted,
        )

    def _is_first(self, decision: Decision) -> bool:
        return bool(decision.actions) and decision.actions[0].action_id == self.action.id

    def _is_returned(self, decision: Decision) -> bool:
        return _rank(decision, self.action) > 0

    def _smallest(self, goal: Goal, changes: Iterable[Change]) -> Change | None:
        allowed = (c for c in changes if not c.protected)
        best = next((c for c in allowed if self._reaches(goal, c)), None)
        for line in self.variations.numbers():
            for values in (line.below, line.above):
                best = self._along(line, values, goal, best)
        return best

    def _along(
        self, line: NumberLine, values: Iterable[float], goal: Goal, best: Change | None
    ) -> Change | None:
        """The better of `best` and the nearest value in one direction that reaches the goal."""
        before = line.before
        for value in values:
            if best is not None and line.change(before).steps >= best.steps:
                return best
            change = line.change(value)
            if self._reaches(goal, change):
                narrowed = self._narrowed(line, before, value, goal)
                return narrowed if best is None or narrowed.order < best.order else best
            before = value
        return best

    def _narrowed(self, line: NumberLine, fails: float, holds: float, goal: Goal) -> Change:
        while (middle := line.between(fails, holds)) is not None:
            if self._reaches(goal, line.change(middle)):
                holds = middle
            else:
                fails = middle
        return line.change(holds)

    def _protected(self, goal: Goal, changes: Iterable[Change]) -> tuple[str, ...]:
        return tuple(sorted({c.input for c in changes if c.protected and self._reaches(goal, c)}))

    def _reaches(self, goal: Goal, change: Change) -> bool:
        decision = self._decided(change)
        return decision is not None and goal(decision)

    def _decided(self, change: Change) -> Decision | None:
        """The decision with a change; None where it would open or close what profiling opens."""
        key = (change.input, change.after)
        if key not in self.tried:
            if len(self.tried) >= MAX_DECISIONS:
                self.exhausted = True
                return None
            self.tried[key] = self._decide(change)
        return self.tried[key]

    def _decide(self, change: Change) -> Decision | None:
        variations = self.variations
        case = variations.applied(change)
        decision = decide(
            variations.snapshot,
            case.request,
            case.state,
            now_ms=variations.now_ms,
            supply=case.supply,
            with_model_reasons=False,
        )
        return decision if decision.profiled == self.decision.profiled else None


def _rank(decision: Decision, action: Action) -> int:
    return next((a.rank for a in decision.actions if a.action_id == action.id), 0)


def _stage(decision: Decision, action: Action) -> Stage | None:
    return next((s.stage for s in decision.suppressed if s.action_id == action.id), None)
