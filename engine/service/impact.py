"""What a change of rules does to customers: every case is decided with both rule sets and compared."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import nlargest
from typing import Final, Protocol

import numpy as np

from engine.core.explain import band
from engine.core.inputs import Inputs, current_vector
from engine.core.pipeline import decide_examined
from engine.core.rulebook import FALSE, TRUE, Frame
from engine.core.sameness import Sameness
from engine.core.scoring import ScoringError, Vector
from engine.core.snapshot import Snapshot
from engine.core.supply import PLENTY, Supply
from engine.domain import Decision, DecisionRequest, LegalBasis, MissingCause, Stage
from engine.models.batch import RememberedScores, score_many
from engine.models.scorer import OnnxScorer
from feature_store.state import CustomerState

MOVERS: Final = 10
"""How many of the largest movers are kept."""
_MOVERS_HELD: Final = 4096
"""How many may gather before all but the largest are dropped."""
RETURNED: Final = "returned"
"""Fate of an action that is among those returned; the others' is the stage that removed them."""

ABSENT: Final = "not in the catalogue"
"""Fate of an action that one of the rule sets does not have."""
SEGMENT: Final = "segment "
"""Beginning of the dimensions that authors name."""


@dataclass(frozen=True, slots=True)
class Case:
    """One decision to make twice."""

    request: DecisionRequest
    state: CustomerState
    now_ms: int
    supply: Supply = PLENTY


@dataclass(slots=True)
class ActionShift:
    """How many decisions gain or lose an action: among those returned, and as the first of them."""

    gained: int = 0
    lost: int = 0
    first_gained: int = 0
    first_lost: int = 0


@dataclass(slots=True)
class SegmentShift:
    """How far decisions of one segment change, and who there gains and loses which action."""

    cases: int = 0
    changed: int = 0
    first_changed: int = 0
    gained: int = 0
    lost: int = 0
    actions: dict[str, ActionShift] = field(default_factory=dict)


@dataclass(slots=True)
class Proposals:
    """How many actions are returned with each rule set."""

    before: int = 0
    after: int = 0


@dataclass(slots=True)
class Crossing:
    """How many came to be somewhere with the new rules, and how many are no longer there."""

    arrived: int = 0
    left: int = 0


@dataclass(frozen=True, slots=True)
class Mover:
    """One action of one customer: priority before and after, None where it was removed before ranking."""

    distance: float
    customer_id: str
    action_id: str
    channel: str
    before: float | None
    after: float | None
    fate_before: str
    fate_after: str


@dataclass(slots=True)
class Impact:
    """Sums over all cases: `segments` by dimension and value, `stages` by fate, `consents` and `proposals`
    by purpose, `contacts` by contact policy.
    """

    cases: int = 0
    skipped: int = 0  # cases one of the rule sets has no channel or placement for
    decided_once: int = 0  # cases the change cannot touch
    contacted: int = 0  # cases whose customer has contacts that policies may count
    changed: int = 0
    first_changed: int = 0
    nothing_before: int = 0
    nothing_after: int = 0
    value_before: float = 0.0  # sum of the priorities of first actions
    value_after: float = 0.0
    actions: dict[str, ActionShift] = field(default_factory=dict)
    segments: dict[str, dict[str, SegmentShift]] = field(default_factory=dict)
    stages: dict[str, Crossing] = field(default_factory=dict)
    consents: dict[str, Crossing] = field(default_factory=dict)
    contacts: dict[str, Crossing] = field(default_factory=dict)
    proposals: dict[str, Proposals] = field(default_factory=dict)
    movers: list[Mover] = field(default_factory=list)


class Groups(Protocol):
    """Named segments of customers, and who is in them."""

    @property
    def names(self) -> tuple[str, ...]:
        """What they are called."""
        ...

    def truths(self, frame: Frame) -> Sequence[int]:
        """For each whether the customer is in it: FALSE, TRUE, or anything else where nobody can tell."""
        ...


@dataclass(frozen=True, slots=True)
class NoGroups:
    """A rule set that names no segments."""

    names: tuple[str, ...] = ()

    def truths(self, _frame: Frame) -> Sequence[int]:
        """Nothing."""
        return ()


NO_GROUPS: Final = NoGroups()


def demo_cases(
    states: Iterable[CustomerState], *, channels: Sequence[str], language: str, now_ms: int
) -> Iterator[Case]:
    """One case for each customer, on one of the channels: the same one for the same customer always."""
    for state in states:
        channel = channels[zlib.crc32(state.customer_id.encode()) % len(channels)]
        yield Case(DecisionRequest(state.customer_id, channel, language=language), state, now_ms)


def compare(
    before: Snapshot, after: Snapshot, cases: Sequence[Case], *, by: Sequence[str], groups: Groups = NO_GROUPS
) -> Impact:
    """Decides every case with both snapshots, or once where the second decision must be the same.

    `by` are features to count by, besides consent and churn; `groups` the named segments.
    """
    vectors = [current_vector(after.schema, case.request, case.state, now_ms=case.now_ms) for case in cases]
    before, after = _with_scores(before, after, vectors)
    pair = _Pair.of(before, after)
    segments = _Segments(after, tuple(name for name in by if name in after.schema.index), groups)
    impact = Impact()
    returned: tuple[Counter[str], Counter[str]] = Counter(), Counter()
    for case in cases:
        place = (case.request.channel, case.request.placement)
        if place not in before.catalogue.availability or place not in after.catalogue.availability:
            impact.skipped += 1
            continue
        found = pair.decide(case)
        _count(impact, case, found)
        returned[0].update(found.listed_old)
        returned[1].update(found.listed_new)
        for dimension, value in segments.of(case.request.channel, found):
            shift = impact.segments.setdefault(dimension, {}).setdefault(value, SegmentShift())
            _count_segment(shift, found)
    impact.movers = _largest(impact.movers)
    impact.proposals = _by_purpose(before, returned[0], after, returned[1])
    return impact


def _by_purpose(
    before: Snapshot, was: Mapping[str, int], after: Snapshot, now: Mapping[str, int]
) -> dict[str, Proposals]:
    """Returned actions by the purpose they have in each rule set."""
    found: dict[str, Proposals] = {}
    for action in before.rulebook.actions:
        found.setdefault(action.purpose, Proposals()).before += was.get(action.id, 0)
    for action in after.rulebook.actions:
        found.setdefault(action.purpose, Proposals()).after += now.get(action.id, 0)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """A case decided with both; `old` and `new` are one object where they must be the same."""

    old: Decision
    new: Decision
    listed_old: tuple[str, ...]
    listed_new: tuple[str, ...]
    inputs: Inputs  # of the second decision


@dataclass(frozen=True, slots=True, eq=False)
class _Pair:
    before: Snapshot
    after: Snapshot
    sameness: Sameness

    @classmethod
    def of(cls, before: Snapshot, after: Snapshot) -> _Pair:
        return cls(before, after, Sameness(before, after))

    def decide(self, case: Case) -> _Found:
        request, state, now_ms, supply = case.request, case.state, case.now_ms, case.supply
        old, examination = decide_examined(self.before, request, state, now_ms=now_ms, supply=supply)
        listed = _listed(old)
        if self.sameness.holds(request, state, now_ms=now_ms, decision=old, examination=examination):
            return _Found(old, old, listed, listed, examination.inputs)
        new, examination = decide_examined(self.after, request, state, now_ms=now_ms, supply=supply)
        return _Found(old, new, listed, _listed(new), examination.inputs)


def _with_scores(before: Snapshot, after: Snapshot, vectors: Sequence[Vector]) -> tuple[Snapshot, Snapshot]:
    """The snapshots with all customers scored at once, where both have the same models and features."""
    same = before.schema.digest == after.schema.digest and before.versions.models == after.versions.models
    if not (vectors and same):
        return before, after
    if not (isinstance(before.scorer, OnnxScorer) and isinstance(after.scorer, OnnxScorer)):
        return before, after
    table = score_many(after.scorer, np.stack(vectors))
    if table is None:
        return before, after
    return (
        replace(before, scorer=RememberedScores(before.scorer, table)),
        replace(after, scorer=RememberedScores(after.scorer, table)),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Segments:
    """The dimensions a case counts in, and its value in each."""

    snapshot: Snapshot
    features: tuple[str, ...]
    groups: Groups

    def of(self, channel: str, found: _Found) -> Iterator[tuple[str, str]]:
        decision, inputs = found.new, found.inputs
        for name in self.features:
            yield name, _feature(inputs, self.snapshot.schema.index[name])
        yield "channel", channel
        churn = self._churn(decision, inputs)
        yield "churn band", self._band(decision, churn)
        for used in decision.consents:
            if used.legal_basis is not LegalBasis.CONTRACT:
                yield f"consent to {used.purpose}", used.state.value
        if self.groups.names:
            if churn is not None:
                inputs.set_score(self.snapshot.layout.churn, churn)
            for name, truth in zip(self.groups.names, self.groups.truths(inputs.frame), strict=True):
                yield SEGMENT + name, _MEMBERSHIP.get(truth, "(unknown)")

    def _churn(self, decision: Decision, inputs: Inputs) -> float | None:
        """The churn score, also where no rule needed it; None where it may not be known."""
        if decision.churn is not None:
            return decision.churn.probability
        try:
            return self.snapshot.scorer.churn(inputs.vector) if decision.profiled else None
        except ScoringError:
            return None

    def _band(self, decision: Decision, churn: float | None) -> str:
        if not decision.profiled:
            return "(not profiled)"
        bands = self.snapshot.rulebook.vocabulary.churn_bands
        return "(unknown)" if churn is None else band(churn, bands)


_MEMBERSHIP: Final = {TRUE: "yes", FALSE: "no"}


def _feature(inputs: Inputs, place: int) -> str:
    value = inputs.frame.values[place]
    if value is not None:
        return str(value)
    return "(not profiled)" if inputs.cause(place) is MissingCause.WITHHELD else "(missing)"


def _count(impact: Impact, case: Case, found: _Found) -> None:
    """Adds one case."""
    old, new = found.old, found.new
    impact.cases += 1
    impact.contacted += bool(case.state.contacts)
    impact.nothing_before += not old.actions
    impact.nothing_after += not new.actions
    impact.value_before += old.actions[0].priority.priority if old.actions else 0.0
    impact.value_after += new.actions[0].priority.priority if new.actions else 0.0
    if old is new:
        impact.decided_once += 1
        return
    _count_fates(impact, case, old, new)
    _count_consents(impact, old, new)
    _count_policies(impact, old, new)
    if found.listed_old != found.listed_new:
        impact.changed += 1
        impact.first_changed += found.listed_old[:1] != found.listed_new[:1]
        _count_actions(impact.actions, found)


def _count_actions(shifts: dict[str, ActionShift], found: _Found) -> None:
    listed_old, listed_new = found.listed_old, found.listed_new
    for action in set(listed_new) - set(listed_old):
        _shift(shifts, action).gained += 1
    for action in set(listed_old) - set(listed_new):
        _shift(shifts, action).lost += 1
    if listed_old[:1] == listed_new[:1]:
        return
    for action in listed_new[:1]:
        _shift(shifts, action).first_gained += 1
    for action in listed_old[:1]:
        _shift(shifts, action).first_lost += 1


def _shift(shifts: dict[str, ActionShift], action: str) -> ActionShift:
    return shifts.setdefault(action, ActionShift())


def _listed(decision: Decision) -> tuple[str, ...]:
    return tuple([action.action_id for action in decision.actions])


_Fate = tuple[str, float | None]


def _fates(decision: Decision) -> dict[str, _Fate]:
    fates: dict[str, _Fate] = {
        out.action_id: (out.stage, out.priority.priority if out.priority else None)
        for out in decision.suppressed
    }
    fates.update((action.action_id, (RETURNED, action.priority.priority)) for action in decision.actions)
    return fates


_ABSENT: Final[_Fate] = (ABSENT, None)


def _count_fates(impact: Impact, case: Case, old: Decision, new: Decision) -> None:
    fates_old, fates_new = _fates(old), _fates(new)
    if fates_old == fates_new:
        return
    for action in fates_old.keys() | fates_new.keys():
        was, now = fates_old.get(action, _ABSENT), fates_new.get(action, _ABSENT)
        if was == now:
            continue
        if was[0] != now[0]:
            impact.stages.setdefault(was[0], Crossing()).left += 1
            impact.stages.setdefault(now[0], Crossing()).arrived += 1
        if was[1] != now[1]:
            _keep_mover(impact, case, action, was, now)


def _keep_mover(impact: Impact, case: Case, action: str, was: _Fate, now: _Fate) -> None:
    mover = Mover(
        distance=abs((now[1] or 0.0) - (was[1] or 0.0)),
        customer_id=case.request.customer_id,
        action_id=action,
        channel=case.request.channel,
        before=was[1],
        after=now[1],
        fate_before=was[0],
        fate_after=now[0],
    )
    impact.movers.append(mover)
    if len(impact.movers) >= _MOVERS_HELD:
        impact.movers = _largest(impact.movers)


def _largest(movers: list[Mover]) -> list[Mover]:
    return nlargest(MOVERS, movers, key=lambda m: (m.distance, m.customer_id, m.action_id))


def _count_consents(impact: Impact, old: Decision, new: Decision) -> None:
    was = {used.purpose: used.permitted for used in old.consents}
    now = {used.purpose: used.permitted for used in new.consents}
    if was == now:
        return
    for purpose in was.keys() | now.keys():
        permitted = now.get(purpose, False)
        if was.get(purpose, False) != permitted:
            crossing = impact.consents.setdefault(purpose, Crossing())
            crossing.arrived += permitted
            crossing.left += not permitted


def _count_policies(impact: Impact, old: Decision, new: Decision) -> None:
    """Which contact policies remove which actions now, and no longer do."""
    was, now = _limited(old), _limited(new)
    if was == now:
        return
    for policy, _ in now - was:
        impact.contacts.setdefault(policy, Crossing()).arrived += 1
    for policy, _ in was - now:
        impact.contacts.setdefault(policy, Crossing()).left += 1


def _limited(decision: Decision) -> set[tuple[str, str]]:
    return {
        (reason.rule_id, out.action_id)
        for out in decision.suppressed
        if out.stage is Stage.CONTACT
        for reason in out.reasons
    }


def _count_segment(shift: SegmentShift, found: _Found) -> None:
    shift.cases += 1
    if found.listed_old == found.listed_new:
        return
    shift.changed += 1
    shift.first_changed += found.listed_old[:1] != found.listed_new[:1]
    shift.gained += len(set(found.listed_new) - set(found.listed_old))
    shift.lost += len(set(found.listed_old) - set(found.listed_new))
    _count_actions(shift.actions, found)
