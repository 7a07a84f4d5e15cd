"""A company small enough to reason about: five actions, two channels, rules given as plain functions.

Rules here are Python functions of (input values by name, action) that return a truth, so the pipeline
is tested without the rule compiler.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from engine.core.rulebook import (
    UNKNOWN,
    Arbitration,
    Channel,
    ConsentPolicy,
    ContactPolicy,
    ContextField,
    Frame,
    Input,
    InputType,
    PolicyRule,
    PurposeRule,
    Rulebook,
    SourcePosition,
    Vocabulary,
)
from engine.core.scoring import Contribution, ScoringError
from engine.core.snapshot import Snapshot, assemble
from engine.domain import Action, DecisionRequest, Effect, LegalBasis, PolicyClass, ReasonText, Treatment
from feature_store.schema import Feature, FeatureSchema, View
from feature_store.state import ConsentRecord, ConsentState, CustomerState, FeatureVector

NOW_MS = 1_790_000_000_000
HOUR_MS = 3_600_000
HERE = SourcePosition("test.yaml", 1, 1)

SCHEMA = FeatureSchema(
    name="small",
    version=1,
    view=(
        View(name="contract", kind="batch", owner="o", freshness_hours=24, description="d"),
        View(name="behaviour", kind="streaming", owner="o", freshness_hours=1, description="d"),
    ),
    feature=(
        Feature(name="tenure", view="contract", type="int", data_class="contractual", description="d"),
        Feature(
            name="contract",
            view="contract",
            type="category",
            categories=("monthly", "yearly"),
            data_class="contractual",
            description="d",
        ),
        Feature(name="calls", view="behaviour", type="int", data_class="behavioural", description="d"),
    ),
)

INPUTS = (
    Input("features.tenure", InputType.INT),
    Input("features.contract", InputType.STRING),
    Input("features.calls", InputType.INT, behavioural=True),
    Input("context.call_reason", InputType.STRING),
    Input("signals.trouble", InputType.BOOL, behavioural=True),
    Input("consents.marketing", InputType.BOOL),
    Input("consents.service", InputType.BOOL),
    Input("consents.profiling", InputType.BOOL),
    Input("request.channel", InputType.STRING),
    Input("request.placement", InputType.STRING),
    Input("request.language", InputType.STRING),
    Input("scores.churn", InputType.DOUBLE, behavioural=True),
)

VOCABULARY = Vocabulary(
    channels={"web": Channel("web", ("hero", "banner")), "call": Channel("call", ())},
    languages=("en", "fr"),
    identity_types=("phone",),
    context={"call_reason": ContextField("call_reason", InputType.STRING, "d", ("cancel", "other"))},
    signals=("trouble",),
    churn_bands=(("low", 0.0), ("medium", 0.3), ("high", 0.55)),
    inputs=INPUTS,
)

CONSENT = ConsentPolicy(
    purposes={
        "marketing": PurposeRule("marketing", LegalBasis.CONSENT),
        "service": PurposeRule("service", LegalBasis.CONTRACT),
        "profiling": PurposeRule("profiling", LegalBasis.CONSENT),
    },
    profiling_purpose="profiling",
)


def action(
    id: str,
    group: str = "upsell",
    purpose: str = "marketing",
    value: float = 10.0,
    *,
    prior: float = 0.5,
    target: str = "",
    channels: Sequence[str] = ("web", "call"),
    valid: tuple[int | None, int | None] = (None, None),
) -> Action:
    """An action worth `value`, at no cost, with one treatment on each channel."""
    texts = {"en": id, "fr": id}
    treatments = tuple(Treatment(f"{id}.{c}", c, (), texts, texts) for c in channels)
    return Action(id, group, purpose, texts, value, 0.0, prior, 1.0, target, treatments, valid[0], valid[1])


ACTIONS = (
    action("offer", "retention", value=50.0, target="offer"),
    action("addon", value=20.0, target="addon"),
    action("gadget", value=20.0),
    action("help", "care", "service", value=4.0),
    action("letter", "care", "service", value=2.0, channels=("call",)),
)

Condition = Callable[[Mapping[str, object], Action], int]


@dataclass(frozen=True)
class Rule:
    """A rule as a function; `groups` empty applies to all."""

    id: str
    condition: Condition
    effect: Effect = Effect.DENY
    policy_class: PolicyClass | None = PolicyClass.ELIGIBILITY
    groups: tuple[str, ...] = ()
    amount: float = 0.0
    reads: tuple[str, ...] = ()
    shadow: bool = False
    reason: str = "RULE_REASON"
    valid: tuple[int | None, int | None] = (None, None)


class FunctionProgram:
    """A policy program whose conditions are Python functions; remembers the values it was shown."""

    def __init__(self, rules: Sequence[Rule], actions: Sequence[Action]) -> None:
        self._given = rules
        self._actions = actions
        self.seen: list[dict[str, object]] = []
        self.rules = tuple(_policy_rule(rule) for rule in rules)
        shape = (len(rules), len(actions))
        scope = [[not r.groups or a.group in r.groups for a in actions] for r in rules]
        self.scope = np.array(scope, dtype=np.bool_).reshape(shape)

    def evaluate(self, frame: Frame) -> np.ndarray:
        values = {item.name: value for item, value in zip(INPUTS, frame.values, strict=True)}
        self.seen.append(values)
        truths = [[self._truth(r, values, frame, i) for i in range(len(self._actions))] for r in self._given]
        return np.array(truths, dtype=np.int8).reshape(self.scope.shape)

    def _truth(self, rule: Rule, values: dict[str, object], frame: Frame, index: int) -> int:
        known = dict(values)
        if frame.propensity is not None and not np.isnan(frame.propensity[index]):
            known["scores.propensity"] = frame.propensity[index]
        if any(known.get(name) is None for name in rule.reads):
            return UNKNOWN
        return int(rule.condition(known, self._actions[index]))


def _policy_rule(rule: Rule) -> PolicyRule:
    return PolicyRule(
        id=rule.id,
        policy_class=rule.policy_class,
        effect=rule.effect,
        amount=rule.amount,
        reason=rule.reason,
        otherwise="RULE_OTHERWISE" if rule.effect is Effect.ALLOW else "",
        condition="",
        reads=rule.reads,
        position=HERE,
        shadow=rule.shadow,
        valid_from_ms=rule.valid[0],
        valid_to_ms=rule.valid[1],
    )


@dataclass
class TableScorer:
    """Scores from a table; `broken` models raise, and every call is counted."""

    churn_score: float | None = 0.7
    scores: Mapping[str, float] = field(default_factory=lambda: {"offer": 0.4, "addon": 0.3})
    broken: frozenset[str] = frozenset()
    actions: Sequence[Action] = ACTIONS
    calls: list[str] = field(default_factory=list)
    versions: Mapping[str, int] = field(default_factory=lambda: {"churn": 1, "propensity": 2})

    def _called(self, model: str) -> None:
        self.calls.append(model)
        if model in self.broken:
            raise ScoringError(model, "broken on purpose")

    def churn(self, vector: np.ndarray) -> float | None:
        self._called("churn")
        return self.churn_score

    def propensity(self, vector: np.ndarray, actions: np.ndarray) -> np.ndarray:
        self._called("propensity")
        return np.array([self.scores.get(self.actions[i].target, np.nan) for i in actions])

    def explain_churn(self, vector: np.ndarray) -> tuple[Contribution, ...]:
        return (Contribution("CHURN_PRICE_RAISES", 0.4, "tenure", "3", "20", "training-expectation/1"),)

    def explain_propensities(
        self, vector: np.ndarray, actions: Sequence[int]
    ) -> list[tuple[Contribution, ...]]:
        told = Contribution("FIT_LOYALTY_RAISES", 0.2, "tenure", "3", "20", "training-expectation/1")
        return [(told,)] * len(actions)


def snapshot(
    before: Sequence[Rule] = (),
    after: Sequence[Rule] = (),
    *,
    actions: Sequence[Action] = ACTIONS,
    contact: Sequence[ContactPolicy] = (),
    arbitration: Arbitration | None = None,
    scorer: TableScorer | None = None,
    consent: ConsentPolicy = CONSENT,
) -> Snapshot:
    """The small company with these rules."""
    scorer = scorer or TableScorer()
    scorer.actions = actions
    texts = {"en": "because {features.tenure}", "fr": "car {features.tenure}"}
    words = {code: ReasonText(code, texts, texts) for code in ("RULE_REASON", "RULE_OTHERWISE")}
    rulebook = Rulebook(
        version="sha256:rules",
        catalogue_version="sha256:catalogue",
        currency="CHF",
        actions=tuple(actions),
        reasons=words,
        vocabulary=VOCABULARY,
        consent=consent,
        before_scores=FunctionProgram(before, actions),
        after_scores=FunctionProgram(after, actions),
        contact=tuple(contact),
        arbitration=arbitration or Arbitration(threshold=0.0, max_per_group=10),
    )
    return assemble(rulebook=rulebook, schema=SCHEMA, scorer=scorer, engine_version="test")


def granted(purpose: str, channel: str = "any", at_ms: int = NOW_MS - HOUR_MS) -> ConsentRecord:
    """A yes from an hour ago."""
    return ConsentRecord(purpose, channel, ConsentState.GRANTED, at_ms)


WILLING = (granted("marketing"), granted("profiling"))


def customer(
    consents: Sequence[ConsentRecord] = WILLING,
    *,
    tenure: int | None = 12,
    contract: str | None = "monthly",
    calls: int | None = 1,
    age_ms: int = 0,
    **rest: object,
) -> CustomerState:
    """A customer whose features are `age_ms` old."""
    values = SCHEMA.pack({"tenure": tenure, "contract": contract, "calls": calls})
    features = FeatureVector(SCHEMA.digest, (NOW_MS - age_ms, NOW_MS - age_ms), values)
    return CustomerState("C1", features, tuple(consents), **rest)  # type: ignore[arg-type]  # by field name


def request(**fields: object) -> DecisionRequest:
    """A request for customer C1 on the web, for ten actions."""
    return DecisionRequest(**{"customer_id": "C1", "channel": "web", "limit": 10, **fields})  # type: ignore[arg-type]  # by field name
