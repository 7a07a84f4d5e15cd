"""From logged decisions and what came of them to rows to learn from: what was read then, and the label.

A record holds the state its decision was made from, so features are those of the instant, never of today.
Windows are half-open: an acceptance counts in [decision, decision + horizon), and what was reported at the
end of the run or later is not known. Only decisions whose horizon is over by then have a row: a label that
may still change is none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from engine.core.inputs import current_vector
from engine.core.scoring import Vector
from engine.decisionlog.ledger import OutcomeEntry
from engine.decisionlog.record import DecisionRecord
from feature_store.schema import FeatureSchema
from feature_store.state import OutcomeType
from feature_store.versions import SchemaVersions

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Period:
    """Decisions in [since_ms, until_ms - horizon_ms) are learnt from, by what was known at until_ms."""

    since_ms: int
    until_ms: int
    horizon_ms: int

    @property
    def last_ms(self) -> int:
        """The first instant whose decisions are too young."""
        return self.until_ms - self.horizon_ms


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One row to learn from; `action` is the propensity target, "" where the row asks about the customer."""

    customer_id: str
    at_ms: int
    action: str
    label: bool
    answered: bool
    channel: str
    rank: int
    vector: Vector


@dataclass(slots=True)
class Answer:
    """What is known of one returned action: when it was first accepted, answered, told of at all."""

    accepted_ms: int | None = None
    answered_ms: int | None = None
    contacted_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Admission:
    """Who may be learnt from, and how their features are read.

    `erased` and `permitted` (customer, channel) are as of today: who was erased, or has objected to profiling
    since, is not learnt from, whatever was permitted when the decision was made.
    """

    schema: FeatureSchema
    versions: SchemaVersions
    erased: Callable[[str], bool]
    permitted: Callable[[str, str], bool]
    channels: frozenset[str] = frozenset()
    left_out: Counter[str] = field(default_factory=Counter)

    def vector(self, record: DecisionRecord) -> Vector | None:
        """What models read in a decision, in today's schema; None, and counted, where nobody may learn it."""
        why = self._refusal(record)
        if why:
            self.left_out[why] += 1
            return None
        assert record.state.features is not None  # or it was refused
        features = self.versions.read(record.state.features, self.schema, now_ms=record.now_ms)
        if features.schema_version != self.schema.digest:
            self.left_out["of a feature schema that is no longer kept"] += 1
            return None
        state = replace(record.state, features=features)
        return current_vector(self.schema, record.request, state, now_ms=record.now_ms)

    def _refusal(self, record: DecisionRecord) -> str:
        customer_id, channel = record.request.customer_id, record.request.channel
        if self.channels and channel not in self.channels:
            return "on other channels"
        if not record.decision.profiled:
            return "made without consent to profiling"
        if self.erased(customer_id):
            return "of customers who were erased"
        if not self.permitted(customer_id, channel):
            return "of customers who have objected to profiling since"
        return "" if record.state.features is not None else "made without features"


def answers_of(outcomes: Iterable[OutcomeEntry], *, until_ms: int) -> Mapping[tuple[str, str], Answer]:
    """What was known at `until_ms` of each returned action, by decision and action."""
    known: dict[tuple[str, str], Answer] = {}
    for outcome in outcomes:
        if outcome.received_at_ms >= until_ms:
            continue
        answer = known.setdefault((outcome.decision_id, outcome.action_id), Answer())
        answer.contacted_ms = _earliest(answer.contacted_ms, outcome.at_ms)
        if outcome.type in (OutcomeType.ACCEPTED, OutcomeType.DECLINED):
            answer.answered_ms = _earliest(answer.answered_ms, outcome.at_ms)
        if outcome.type is OutcomeType.ACCEPTED:
            answer.accepted_ms = _earliest(answer.accepted_ms, outcome.at_ms)
    return known


def _earliest(known_ms: int | None, at_ms: int) -> int:
    return at_ms if known_ms is None else min(known_ms, at_ms)


def propensity_rows(
    records: Iterable[DecisionRecord],
    answers: Mapping[tuple[str, str], Answer],
    *,
    period: Period,
    admission: Admission,
    targets: Mapping[str, str],
    contacted_only: bool,
) -> list[Row]:
    """One row for each returned action: whether it was accepted within the horizon.

    `targets` are what the model calls actions; actions without one have a prior and no row.
    Two rows of a customer at one instant about one target are one, accepted where either was.
    """
    rows: dict[tuple[str, int, str], Row] = {}
    for record in records:
        asked = [action for action in record.decision.actions if targets.get(action.action_id)]
        admission.left_out["actions without a propensity target in the catalogue"] += len(
            record.decision.actions
        ) - len(asked)
        vector = admission.vector(record) if asked else None
        if vector is None:
            continue
        ends_ms = record.now_ms + period.horizon_ms
        for action in asked:
            answer = answers.get((record.decision_id, action.action_id), _NONE)
            if contacted_only and not _before(answer.contacted_ms, ends_ms):
                admission.left_out["actions that nobody was shown"] += 1
                continue
            target = targets[action.action_id]
            row = Row(
                customer_id=record.request.customer_id,
                at_ms=record.now_ms,
                action=target,
                label=_before(answer.accepted_ms, ends_ms),
                answered=_before(answer.answered_ms, ends_ms),
                channel=record.request.channel,
                rank=action.rank,
                vector=vector,
            )
            key = (row.customer_id, row.at_ms, target)
            rows[key] = _either(rows[key], row) if key in rows else row
    return list(rows.values())


_NONE = Answer()


def _before(at_ms: int | None, ends_ms: int) -> bool:
    return at_ms is not None and at_ms < ends_ms


def _either(one: Row, other: Row) -> Row:
    return replace(one, label=one.label or other.label, answered=one.answered or other.answered)


def churn_rows(
    records: Iterable[DecisionRecord],
    left_ms: Mapping[str, int],
    *,
    period: Period,
    admission: Admission,
    every_ms: int,
) -> list[Row]:
    """One row for a customer's first decision of each period: whether they left within the horizon.

    Who left in [decision, decision + horizon) did. A customer who is gone already has no row.
    """
    rows: dict[tuple[str, int], Row] = {}
    for record in records:
        customer_id = record.request.customer_id
        gone_ms = left_ms.get(customer_id)
        if gone_ms is not None and gone_ms < record.now_ms:
            admission.left_out["of customers who had left already"] += 1
            continue
        key = (customer_id, record.now_ms // every_ms)
        if key in rows:
            admission.left_out["of customers who have a row of the same days"] += 1
            continue
        vector = admission.vector(record)
        if vector is None:
            continue
        left = _before(gone_ms, record.now_ms + period.horizon_ms)
        rows[key] = Row(
            customer_id=customer_id,
            at_ms=record.now_ms,
            action="",
            label=left,
            answered=left,
            channel=record.request.channel,
            rank=0,
            vector=vector,
        )
    return list(rows.values())


def counted(left_out: Mapping[str, int]) -> Iterator[str]:
    """What was left out, in words."""
    for why, times in sorted(left_out.items()):
        if times:
            yield f"{times:,} {why}"
