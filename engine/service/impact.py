"""What a change of rules does to customers: every case is decided with both rule sets and compared."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from heapq import nlargest
from typing import Final

import numpy as np

from engine.core.explain import band
from engine.core.inputs import current_vector
from engine.core.pipeline import decide
from engine.core.scoring import ScoringError, Vector
from engine.core.snapshot import Snapshot
from engine.domain import Decision, DecisionRequest, LegalBasis
from engine.models.batch import RememberedScores, score_many
from engine.models.scorer import OnnxScorer
from feature_store.state import CustomerState

MOVERS: Final = 10
"""How many of the largest movers are kept."""
_MOVERS_HELD: Final = 4096
"""How many may gather before all but the largest are dropped."""
RETURNED: Final = "returned"
"""Fate of an action that is among those returned; the others' is the stage that removed them."""


@dataclass(frozen=True, slots=True)
class Case:
    """One decision to make twice."""

    request: DecisionRequest
    state: CustomerState
    now_ms: int


@dataclass(slots=True)
class ActionShift:
    """How many decisions gain or lose an action: among those returned, and as the first of them."""

    gained: int = 0
    lost: int = 0
    first_gained: int = 0
    first_lost: int = 0


@dataclass(slots=True)
class SegmentShift:
    """How far decisions of one segment change."""

    cases: int = 0
    changed: int = 0
    first_changed: int = 0
    gained: int = 0
    lost: int = 0


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
    """Sums over all cases: `segments` by dimension and value, `stages` by fate, `consents` by purpose."""

    cases: int = 0
    skipped: int = 0  # cases one of the rule sets has no channel or placement for
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
    movers: list[Mover] = field(default_factory=list)


def demo_cases(
    states: Iterable[CustomerState], *, channels: Sequence[str], language: str, now_ms: int
) -> Iterator[Case]:
    """One case for each customer, on one of the channels: the same one for the same customer always."""
    for state in states:
        channel = channels[zlib.crc32(state.customer_id.encode()) % len(channels)]
        yield Case(DecisionRequest(state.customer_id, channel, language=language), state, now_ms)


def compare(before: Snapshot, after: Snapshot, cases: Sequence[Case], *, by: Sequence[str]) -> Impact:
    """Decides every case with both snapshots. `by` are features to count by, besides consent and churn."""
    vectors = [current_vector(after.schema, case.state, now_ms=case.now_ms) for case in cases]
    before, after = _with_scores(before, after, vectors)
    impact = Impact()
    features = [name for name in by if name in after.schema.index]
    for case, vector in zip(cases, vectors, strict=True):
        place = (case.request.channel, case.request.placement)
        if not all(place in snapshot.catalogue.availability for snapshot in (before, after)):
            impact.skipped += 1
            continue
        old, new = (_decided(snapshot, case) for snapshot in (before, after))
        _count(impact, case, old, new)
        for dimension, value in _segments(after, case.request.channel, vector, new, features):
            shift = impact.segments.setdefault(dimension, {}).setdefault(value, SegmentShift())
            _count_segment(shift, old, new)
    impact.movers = _largest(impact.movers)
    return impact


def _decided(snapshot: Snapshot, case: Case) -> Decision:
    return decide(
        snapshot,
        case.request,
        case.state,
        now_ms=case.now_ms,
        with_model_reasons=False,
        with_rule_reasons=False,
    )


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


def _segments(
    snapshot: Snapshot, channel: str, vector: Vector, decision: Decision, features: Sequence[str]
) -> Iterator[tuple[str, str]]:
    """The dimensions a case counts in, and its value in each."""
    values = snapshot.schema.decode_all(vector) if features else ()
    for name in features:
        place = snapshot.schema.index[name]
        hidden = not decision.profiled and place in snapshot.layout.withheld
        value = values[place]
        yield name, "(not profiled)" if hidden else "(missing)" if value is None else str(value)
    yield "channel", channel
    yield "churn band", _band(snapshot, vector, decision)
    for used in decision.consents:
        if used.legal_basis is not LegalBasis.CONTRACT:
            yield f"consent to {used.purpose}", used.state.value


def _band(snapshot: Snapshot, vector: Vector, decision: Decision) -> str:
    if not decision.profiled:
        return "(not profiled)"
    try:
        probability = snapshot.scorer.churn(vector)
    except ScoringError:
        probability = None
    bands = snapshot.rulebook.vocabulary.churn_bands
    return "(unknown)" if probability is None else band(probability, bands)


def _count(impact: Impact, case: Case, old: Decision, new: Decision) -> None:
    """Adds one case."""
    listed_old, listed_new = _listed(old), _listed(new)
    impact.cases += 1
    impact.nothing_before += not listed_old
    impact.nothing_after += not listed_new
    impact.value_before += old.actions[0].priority.priority if old.actions else 0.0
    impact.value_after += new.actions[0].priority.priority if new.actions else 0.0
    _count_fates(impact, case, old, new)
    _count_consents(impact, old, new)
    if listed_old != listed_new:
        _count_actions(impact, listed_old, listed_new)


def _count_actions(impact: Impact, listed_old: list[str], listed_new: list[str]) -> None:
    impact.changed += 1
    for action in set(listed_new) - set(listed_old):
        _shift(impact, action).gained += 1
    for action in set(listed_old) - set(listed_new):
        _shift(impact, action).lost += 1
    if listed_old[:1] == listed_new[:1]:
        return
    impact.first_changed += 1
    for action in listed_new[:1]:
        _shift(impact, action).first_gained += 1
    for action in listed_old[:1]:
        _shift(impact, action).first_lost += 1


def _shift(impact: Impact, action: str) -> ActionShift:
    return impact.actions.setdefault(action, ActionShift())


def _listed(decision: Decision) -> list[str]:
    return [action.action_id for action in decision.actions]


_Fate = tuple[str, float | None]


def _fates(decision: Decision) -> dict[str, _Fate]:
    fates: dict[str, _Fate] = {
        out.action_id: (out.stage, out.priority.priority if out.priority else None)
        for out in decision.suppressed
    }
    fates.update((action.action_id, (RETURNED, action.priority.priority)) for action in decision.actions)
    return fates


_ABSENT: Final[_Fate] = ("not in the catalogue", None)


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


def _count_segment(shift: SegmentShift, old: Decision, new: Decision) -> None:
    shift.cases += 1
    listed_old, listed_new = _listed(old), _listed(new)
    if listed_old == listed_new:
        return
    shift.changed += 1
    shift.first_changed += listed_old[:1] != listed_new[:1]
    shift.gained += len(set(listed_new) - set(listed_old))
    shift.lost += len(set(listed_old) - set(listed_new))
