"""What the rule compiler hands to the pipeline: compiled, immutable, positioned.

`engine.ruleset` builds these; `engine.core` runs them. An *input* is one named value that rules may
read, e.g. `features.tenure_months`; its place in `Vocabulary.inputs` is its index in a `Frame`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from engine.domain import Action, Effect, LegalBasis, PolicyClass, ReasonText, Texts
from feature_store.state import OutcomeType

UNKNOWN, FALSE, TRUE = -1, 0, 1
"""Truth of a condition, int8. UNKNOWN: it touched a missing input or could not be computed."""

Truths = npt.NDArray[np.int8]
Mask = npt.NDArray[np.bool_]


class InputType(StrEnum):
    """Type of an input. Timestamps travel as integer milliseconds, lists as tuples, maps as mappings."""

    BOOL = "bool"
    INT = "int"
    DOUBLE = "double"
    STRING = "string"
    TIMESTAMP = "timestamp"
    STRING_LIST = "list<string>"
    INT_LIST = "list<int>"
    DOUBLE_LIST = "list<double>"
    DOUBLE_MAP = "map<string,double>"


@dataclass(frozen=True, slots=True)
class Input:
    """One named value that customer-level conditions may read."""

    name: str
    type: InputType
    behavioural: bool = False  # withheld without consent to profiling


@dataclass(slots=True)
class Frame:
    """The inputs of one decision. `values[i]` is None and bit i of `missing` set where input i is missing.

    `propensity` is float64 of shape (actions,), NaN where not scored; None before scoring.
    """

    values: list[object]
    missing: int
    now_ms: int
    propensity: npt.NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True)
class SourcePosition:
    """Where a rule is written; line and column count from 1."""

    file: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """One rule, without its compiled condition."""

    id: str
    policy_class: PolicyClass | None  # None for levers and weights
    effect: Effect
    amount: float  # lever share, weight factor or value; 0 for allow and deny
    reason: str  # code given when the rule holds: why allowed, denied or levered; "" for an allow without
    otherwise: str  # allow only: code of removal when the condition is false; "" for other effects
    condition: str
    reads: tuple[str, ...]  # names of the inputs the condition reads, sorted
    position: SourcePosition
    shadow: bool = False
    valid_from_ms: int | None = None
    valid_to_ms: int | None = None  # exclusive


class PolicyProgram(Protocol):
    """Rules compiled together."""

    @property
    def rules(self) -> tuple[PolicyRule, ...]:
        """The rules, in row order of `scope` and of the result of `evaluate`."""
        ...

    @property
    def scope(self) -> Mask:
        """Which actions a rule applies to, bool of shape (rules, actions)."""
        ...

    def evaluate(self, frame: Frame) -> Truths:
        """Truth of every rule for every action, int8 of shape (rules, actions). Never raises."""
        ...


class ContactKind(StrEnum):
    """Kinds of contact policy."""

    CAP = "cap"
    COOLDOWN = "cooldown"
    EXCLUSION = "exclusion"
    QUIET_HOURS = "quiet_hours"
    BUDGET = "budget"


class CountedPer(StrEnum):
    """Which events count together for a cap, cool-down or budget."""

    ACTION = "action"
    GROUP = "group"
    CHANNEL = "channel"  # the request's channel
    PURPOSE = "purpose"
    OVERALL = "overall"


class LocalPeriod(Protocol):
    """Hours of local days, such as 21:00 to 08:00."""

    def until_ms(self, zone: str, now_ms: int) -> int | None:
        """When the period that now lies in ends; None where now is outside. A zone nobody knows is UTC."""
        ...

    def clock(self, zone: str, at_ms: int) -> str:
        """What a clock on the wall shows there, date and time, for people."""
        ...

    def knows(self, zone: str) -> bool:
        """Whether a time zone of that name exists."""
        ...


@dataclass(frozen=True, slots=True)
class QuietTime:
    """When not to reach out: on these channels (none: on all), in the customer's time zone.

    The zone is the value of the input `zone_input` where that is known and names one, else `zone`.
    """

    period: LocalPeriod
    channels: frozenset[str]
    zone: str
    zone_input: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class ContactPolicy:
    """A limit over a sliding window that ends now, or over local hours.

    Cap and cool-down: an action in `scope` is out where at least `limit` events with an outcome in
    `counts` and the same `per` key lie in (now - window_ms, now]. Exclusion: an action in `scope` is
    out where an event of *another* action in `scope` does; and one decision returns one of them only.
    Quiet hours: an action in `scope` is out during `quiet`. Budget: an action in `scope` is out where the
    budget of its `per` key, which all customers share, has no unit left; each decision that returns it
    holds one for `reserve_ms`, and an outcome in `counts` spends it.

    A reservation counts, where `counts` says so, for `reserve_ms` and no longer than its own end.
    """

    id: str
    kind: ContactKind
    per: CountedPer
    counts: frozenset[OutcomeType]
    limit: int
    window_ms: int
    reason: str
    scope: Mask  # (actions,)
    position: SourcePosition
    reserve_ms: int = 0
    quiet: QuietTime | None = None


@dataclass(frozen=True, slots=True)
class PurposeRule:
    """The legal basis of a purpose, and where a channel differs."""

    purpose: str
    basis: LegalBasis
    channel_basis: Mapping[str, LegalBasis] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ConsentPolicy:
    """All purposes, and which of them is profiling.

    `gpc_purposes` are those that Global Privacy Control objects to; `gpc_lasts` where such an objection is
    also kept for the customer.
    """

    purposes: Mapping[str, PurposeRule]
    profiling_purpose: str
    gpc_purposes: frozenset[str] = frozenset()
    gpc_lasts: bool = False


@dataclass(frozen=True, slots=True)
class Arbitration:
    """How candidates that qualify are ordered and cut."""

    threshold: float  # priority below which doing nothing is better, in the catalogue's currency
    max_per_group: int


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel and its placements."""

    id: str
    placements: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ContextField:
    """A declared fact of the moment."""

    name: str
    type: InputType
    description: str
    values: tuple[str, ...] = ()  # allowed strings; empty: any


@dataclass(frozen=True, slots=True)
class Glance:
    """What somebody who talks to the customer sees first: features, and signals that are open issues.

    What the customer is worth is a band of `value`, a feature; "" for none. Bands ascend.
    """

    facts: tuple[str, ...] = ()
    issues: tuple[str, ...] = ()
    value: str = ""
    value_bands: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What requests and rules may name. `inputs` is the order of `Frame.values`.

    Input names are `features.*`, `context.*`, `signals.*`, `consents.<purpose>` (permitted, bool),
    `request.channel`, `request.placement`, `request.language` and `scores.churn`.
    """

    channels: Mapping[str, Channel]
    languages: tuple[str, ...]
    identity_types: tuple[str, ...]
    context: Mapping[str, ContextField]
    signals: tuple[str, ...]
    churn_bands: tuple[tuple[str, float], ...]  # band and the probability it starts at, ascending
    inputs: tuple[Input, ...]
    glance: Glance = Glance()


@dataclass(frozen=True, slots=True, eq=False)
class Rulebook:
    """One compiled rule set. The order of `actions` is the index of candidates everywhere."""

    version: str
    catalogue_version: str
    currency: str
    actions: tuple[Action, ...]
    reasons: Mapping[str, ReasonText]
    vocabulary: Vocabulary
    consent: ConsentPolicy
    before_scores: PolicyProgram
    after_scores: PolicyProgram
    contact: tuple[ContactPolicy, ...]
    arbitration: Arbitration
    labels: Mapping[str, Texts] = field(default_factory=dict)  # words for values such as "month-to-month"
