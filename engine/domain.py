"""The words of Arbiter as values. Frozen, without behaviour that needs a clock or I/O.

All instants are integer milliseconds since the Unix epoch, UTC, and end in `_ms`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from feature_store.frozen import Frozen
from feature_store.state import ConsentState

Texts = Mapping[str, str]
"""Language tag to text."""

ContextScalar = bool | int | float | str
ContextValue = ContextScalar | tuple[ContextScalar, ...] | dict[str, float]
"""A fact of the moment: one value, a list of values of one type, or numbers by name."""
"""A context value; instants are integer milliseconds."""


class LegalBasis(StrEnum):
    """Why processing for a purpose is lawful without (or only with) the customer's yes."""

    CONSENT = "consent"  # opt-in: only with a recorded grant
    LEGITIMATE_INTEREST = "legitimate_interest"  # opt-out: unless refused
    CONTRACT = "contract"  # needed for the service: unless objected


class PolicyClass(StrEnum):
    """The three classes of engagement policy, in the order they are reported."""

    ELIGIBILITY = "eligibility"
    APPLICABILITY = "applicability"
    SUITABILITY = "suitability"


class Effect(StrEnum):
    """What a policy rule does to the candidates in its scope."""

    ALLOW = "allow"  # removes unless the condition is true
    DENY = "deny"  # removes unless the condition is false
    LEVER = "lever"  # adds a share to priority where true
    WEIGHT = "weight"  # multiplies the context weight where true
    VALUE = "value"  # takes the place of the action's value where true; several add up


class Stage(StrEnum):
    """The step that removed a candidate, in the order of the pipeline."""

    AVAILABILITY = "availability"
    CONSENT = "consent"
    ELIGIBILITY = "eligibility"
    APPLICABILITY = "applicability"
    SUITABILITY = "suitability"
    CONTACT = "contact"
    ARBITRATION = "arbitration"


class ReasonSource(StrEnum):
    """Where a reason comes from."""

    ENGINE = "engine"
    CONSENT = "consent"
    RULE = "rule"
    CONTACT = "contact"
    MODEL = "model"


class PropensitySource(StrEnum):
    """Where a propensity comes from."""

    MODEL = "model"
    PRIOR = "prior"


class MissingCause(StrEnum):
    """Why an input could not be used."""

    ABSENT = "absent"
    STALE = "stale"
    WITHHELD = "withheld"


class Detail(StrEnum):
    """How much of the account a reply carries."""

    SUMMARY = "summary"
    STANDARD = "standard"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Treatment:
    """The form of an action on one channel."""

    id: str
    channel: str
    placements: tuple[str, ...]  # empty: any placement
    headline: Texts
    body: Texts
    template_id: str = ""


@dataclass(frozen=True, slots=True)
class Action:
    """Something the company can propose. `value` and `cost` are in the catalogue's currency."""

    id: str
    group: str
    purpose: str
    name: Texts
    value: float
    cost: float
    prior: float  # population acceptance rate, 0 to 1; P where no model may or can score
    weight: float
    target: str  # what the propensity model calls it; empty: prior only
    treatments: tuple[Treatment, ...]
    valid_from_ms: int | None = None
    valid_to_ms: int | None = None  # exclusive
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReasonText:
    """The words of one reason code; texts hold `{input}` placeholders such as {features.contract}."""

    code: str
    agent: Texts
    customer: Texts


class Reason(Frozen, frozen=True):
    """Why an action was chosen, raised, lowered or removed; words are rendered from `code`.

    `values` are the inputs it names, already formatted for people, by placeholder name.
    """

    code: str
    source: ReasonSource
    rule_id: str = ""
    model: str = ""
    contribution: float = 0.0
    values: Mapping[str, str] = {}


class Lever(Frozen, frozen=True):
    """A business adjustment of priority by one rule; `share` 0.25 is +25 %."""

    rule_id: str
    share: float


class Priority(Frozen, frozen=True):
    """priority = propensity x weight x value x (1 + sum of lever shares); value is net of cost."""

    priority: float
    propensity: float
    propensity_source: PropensitySource
    weight: float
    value: float
    levers: tuple[Lever, ...] = ()


class RankedAction(Frozen, frozen=True):
    """A chosen action."""

    action_id: str
    treatment_id: str
    rank: int
    priority: Priority
    reasons: tuple[Reason, ...]


class SuppressedAction(Frozen, frozen=True):
    """A catalogue action that was not chosen: the step that removed it, and every reason of that step."""

    action_id: str
    stage: Stage
    reasons: tuple[Reason, ...]
    priority: Priority | None = None


class ConsentUsed(Frozen, frozen=True):
    """The effective consent for one purpose on the request's channel.

    `position` is that of the record in the ledger, 0 where there is none or it is not known. `signal` is the
    privacy signal of the request that stands as the objection, such as "gpc".
    """

    purpose: str
    channel: str
    state: ConsentState
    legal_basis: LegalBasis
    permitted: bool
    since_ms: int | None
    position: int = 0
    signal: str = ""


class MissingInput(Frozen, frozen=True):
    """An input the rules could not use."""

    name: str
    cause: MissingCause


@dataclass(frozen=True, slots=True)
class ChurnRisk:
    """The churn score as a band, with what drives it."""

    probability: float
    band: str
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Versions:
    """What a decision was made with."""

    rules: str
    catalogue: str
    feature_schema: str
    models: Mapping[str, int]
    engine: str


@dataclass(frozen=True, slots=True)
class ActionFilter:
    """Narrows the candidates; empty does not narrow."""

    groups: tuple[str, ...] = ()
    action_ids: tuple[str, ...] = ()
    exclude_action_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DecisionRequest:
    """A validated request for one resolved customer."""

    customer_id: str
    channel: str
    placement: str = ""
    context: Mapping[str, ContextValue] = field(default_factory=dict)
    limit: int = 3
    filter: ActionFilter = field(default_factory=ActionFilter)
    language: str = "en"
    detail: Detail = Detail.STANDARD
    global_privacy_control: bool = False  # the customer's browser objects for them, in this request


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer, in codes and numbers; the same inputs, versions and `now` give the same value."""

    versions: Versions
    actions: tuple[RankedAction, ...]
    suppressed: tuple[SuppressedAction, ...]
    no_action: tuple[Reason, ...] | None  # None where actions are returned
    consents: tuple[ConsentUsed, ...]
    profiled: bool
    degraded_by: tuple[str, ...]
    missing_inputs: tuple[MissingInput, ...]
    churn: ChurnRisk | None
    shadow_rules: tuple[str, ...] = ()  # rules in shadow that would have changed the candidates' fate
