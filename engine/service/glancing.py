"""Decisions at a glance: the few fields of many records that pictures and lists are made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from engine.decisionlog.contents import opened
from engine.decisionlog.frame import HEADER_BYTES
from engine.decisionlog.latest import bodies, newest_segments
from engine.decisionlog.ledger import ENTRY_FORMAT
from engine.decisionlog.record import RECORD_FORMAT, decode_payload
from engine.domain import Stage
from feature_store.state import OutcomeType

SEARCHED_BYTES: Final = 128 << 20
"""Of the log for one search: two full segments, some 12,000 decisions of the demo company, in a second."""
_CLOCK_STEP_MS: Final = 60_000
"""How far a clock may step back before a search misses records of a later segment."""
NO_ACTION: Final = "no action"


class _Reason(msgspec.Struct, frozen=True):
    code: str
    rule_id: str = ""


class GlancedAction(msgspec.Struct, frozen=True):
    """A returned action."""

    action_id: str
    reasons: tuple[_Reason, ...] = ()


class GlancedFate(msgspec.Struct, frozen=True):
    """A suppressed action and the stage that removed it."""

    action_id: str
    stage: Stage
    reasons: tuple[_Reason, ...] = ()


class _Decision(msgspec.Struct, frozen=True):
    actions: tuple[GlancedAction, ...]
    suppressed: tuple[GlancedFate, ...]
    degraded_by: tuple[str, ...] = ()


class _Request(msgspec.Struct, frozen=True):
    customer_id: str
    channel: str
    placement: str = ""


class Glance(msgspec.Struct, frozen=True):
    """One decision at a glance."""

    decision_id: str
    now_ms: int
    request: _Request
    decision: _Decision

    @property
    def first(self) -> str:
        """The first action returned; "" for none."""
        return self.decision.actions[0].action_id if self.decision.actions else ""


class GlancedOutcome(msgspec.Struct, frozen=True):
    """What happened to one returned action."""

    decision_id: str
    action_id: str
    type: OutcomeType
    received_at_ms: int


_glances: Final = msgspec.json.Decoder(Glance)
_outcomes: Final = msgspec.json.Decoder(GlancedOutcome)


def read_glance(payload: bytes) -> tuple[int, Glance]:
    """When a decision was made, and it at a glance. Raises UnreadableRecord."""
    found = decode_payload(payload, decoder=_glances, format=RECORD_FORMAT, what="a decision record")
    return found.now_ms, found


def read_outcome(payload: bytes) -> tuple[int, GlancedOutcome]:
    """When an outcome came in, and it at a glance. Raises UnreadableRecord."""
    found = decode_payload(payload, decoder=_outcomes, format=ENTRY_FORMAT, what="an outcome")
    return found.received_at_ms, found


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is searched for; empty and None do not narrow. An action is wanted wherever it came first."""

    customer_id: str = ""
    action_id: str = ""
    since_ms: int | None = None
    until_ms: int | None = None

    def holds(self, glance: Glance) -> bool:
        """Whether a decision is meant."""
        return (
            self.customer_id in ("", glance.request.customer_id)
            and self.action_id in ("", glance.first)
            and (self.since_ms or 0) <= glance.now_ms
            and (self.until_ms is None or glance.now_ms < self.until_ms)
        )


@dataclass(frozen=True, slots=True)
class Search:
    """What a search found, the latest first. `looked_at` counts records; `whole` says that none was left."""

    found: tuple[Glance, ...]
    looked_at: int
    whole: bool


def search(directory: Path, wanted: Wanted, *, limit: int, max_bytes: int = SEARCHED_BYTES) -> Search:
    """Decisions that are meant, of the newest segments first, until so many bytes were read.

    Raises LogError where a record cannot be read.
    """
    found: list[Glance] = []
    name = msgspec.json.encode(wanted.customer_id)[1:-1]  # as records have it
    left, looked_at, whole = max_bytes, 0, True
    for segment in newest_segments(directory):
        if wanted.until_ms is not None and (segment.created_ms or 0) >= wanted.until_ms + _CLOCK_STEP_MS:
            continue
        with opened(segment.path) as contents:
            size = contents.size
        if _ended_before(segment.path, wanted.since_ms):
            continue
        if left <= 0:
            whole = False
            break
        start = max(HEADER_BYTES, size - left)
        whole = whole and start == HEADER_BYTES
        left -= size - start
        for body in bodies(segment, start) if start < size else ():
            looked_at += 1
            if name in body and wanted.holds(glance := read_glance(body)[1]):
                found.append(glance)
    found.sort(key=lambda glance: (glance.now_ms, glance.decision_id), reverse=True)
    return Search(tuple(found[:limit]), looked_at, whole and len(found) <= limit)


def _ended_before(path: Path, since_ms: int | None) -> bool:
    """Whether nothing was written to a file from an instant on."""
    return since_ms is not None and path.stat().st_mtime * 1000 < since_ms - _CLOCK_STEP_MS


@dataclass(frozen=True, slots=True)
class FunnelStep:
    """How many candidates are left after a step, and how many it took out."""

    name: str
    left: int
    removed: int


_POLICIES: Final = (Stage.ELIGIBILITY, Stage.APPLICABILITY, Stage.SUITABILITY)


def funnel(glances: Iterable[Glance], outcomes: Iterable[GlancedOutcome]) -> tuple[FunnelStep, ...]:
    """From all candidates of these decisions to what was offered, and what of that was accepted."""
    removed: Counter[Stage] = Counter()
    offered = 0
    ids = set()
    for glance in glances:
        ids.add(glance.decision_id)
        offered += len(glance.decision.actions)
        removed.update(fate.stage for fate in glance.decision.suppressed)
    left = offered + sum(removed.values())
    steps = [FunnelStep("candidates", left, 0)]
    for name, stages in (
        ("available", (Stage.AVAILABILITY,)),
        ("consent", (Stage.CONSENT,)),
        ("policies", _POLICIES),
        ("contact", (Stage.CONTACT,)),
        ("offered", (Stage.ARBITRATION,)),
    ):
        taken = sum(removed[stage] for stage in stages)
        left -= taken
        steps.append(FunnelStep(name, left, taken))
    accepted = {(o.decision_id, o.action_id) for o in outcomes if o.type is OutcomeType.ACCEPTED}
    count = sum(decision_id in ids for decision_id, _ in accepted)
    return (*steps, FunnelStep("accepted", count, left - count))


def reason_codes(glances: Iterable[Glance], *, most: int) -> tuple[tuple[str, int, int], ...]:
    """Codes by how often they spoke for what was returned, and against what was not; the most frequent."""
    chosen: Counter[str] = Counter()
    against: Counter[str] = Counter()
    for glance in glances:
        chosen.update(reason.code for action in glance.decision.actions for reason in action.reasons)
        against.update(reason.code for fate in glance.decision.suppressed for reason in fate.reasons)
    ordered = sorted(chosen | against, key=lambda code: (-(chosen[code] + against[code]), code))
    return tuple((code, chosen[code], against[code]) for code in ordered[:most])


def rules_seen(glances: Iterable[Glance]) -> Counter[str]:
    """In how many of these decisions each rule gave a reason, by rule id."""
    seen: Counter[str] = Counter()
    for glance in glances:
        given = [reason for action in glance.decision.actions for reason in action.reasons]
        given += [reason for fate in glance.decision.suppressed for reason in fate.reasons]
        seen.update({reason.rule_id for reason in given if reason.rule_id})
    return seen


@dataclass(frozen=True, slots=True)
class Mix:
    """How often each action came first in parts of equally many decisions, which began at `starts_ms`."""

    starts_ms: tuple[int, ...]
    actions: tuple[tuple[str, tuple[int, ...]], ...]


def action_mix(glances: Sequence[Glance], *, parts: int, most: int) -> Mix:
    """First actions over time: the most frequent ones by name, the rest together.

    Parts hold equally many decisions, as shares of few say nothing and nights have few.
    """
    if not glances:
        return Mix((), ())
    ordered = sorted(glances, key=lambda glance: glance.now_ms)
    size = -(-len(ordered) // parts)
    starts = tuple(glance.now_ms for glance in ordered[::size])
    total = Counter(glance.first or NO_ACTION for glance in glances)
    shown = [name for name, _ in sorted(total.items(), key=lambda item: (-item[1], item[0]))[:most]]
    names = [*shown, *([OTHERS] if len(total) > len(shown) else [])]
    rows = {name: [0] * len(starts) for name in names}
    for place, glance in enumerate(ordered):
        name = glance.first or NO_ACTION
        rows[name if name in rows else OTHERS][place // size] += 1
    return Mix(starts, tuple((name, tuple(rows[name])) for name in names))


OTHERS: Final = "others"
