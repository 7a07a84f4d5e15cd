"""The decision itself: read, gate, rules, scores, contact limits, arbitration, reasons."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from engine.bench.whole_parts.models import Rows, ScoringModel
from engine.bench.whole_parts.plan import Plan, Rule
from engine.bench.whole_parts.rules import CandidateRules, CustomerRules

Reason = Mapping[str, Any]
_NEEDING_CONSENT = ("marketing",)
"""Purposes that are refused on the web where there is no consent."""


class Candidates:
    """What becomes of each action: reasons of removal, levers, weight and reasons to offer."""

    def __init__(self, count: int) -> None:
        self.removed: list[list[Reason]] = [[] for _ in range(count)]
        self.offered: list[list[Reason]] = [[] for _ in range(count)]
        self.levers: list[list[Mapping[str, Any]]] = [[] for _ in range(count)]
        self.weight = [1.0] * count

    @property
    def left(self) -> list[int]:
        """Places of those that nothing removed."""
        return [place for place, reasons in enumerate(self.removed) if not reasons]

    def apply(self, rule: Rule, holds: bool, place: int, reason: Reason) -> None:
        """What a rule means for an action."""
        if holds == (rule.effect == "deny") and rule.effect in ("deny", "allow"):
            self.removed[place].append(reason)
        elif rule.effect == "lever" and holds:
            self.levers[place].append({"rule_id": rule.id, "share": rule.amount})
            self.offered[place].append(reason)
        elif rule.effect == "weight" and holds:
            self.weight[place] *= rule.amount
            self.offered[place].append(reason)


Read = Callable[[str], Mapping[str, Any]]
"""From a customer's id to what is known."""


@dataclass(frozen=True, slots=True)
class Decided:
    """A reply, and what it rests on, for the log."""

    reply: Mapping[str, Any]
    evidence: Mapping[str, Any]


class Decider:
    """Everything that is loaded once."""

    def __init__(self, plan: Plan, read: Read) -> None:
        self._plan = plan
        self._read = read
        self._churn = ScoringModel(plan.churn, plan.features)
        self._propensity = ScoringModel(plan.propensity, plan.features)
        self._customer_rules = CustomerRules([r for r in plan.rules if not r.asks_about_action])
        self._candidate_rules = CandidateRules([r for r in plan.rules if r.asks_about_action])
        self._one_hot = np.eye(plan.targets)
        self._asked = {name for rule in plan.rules for name in _features_in(rule.when, plan)}

    def decide(self, customer_id: str, channel: str, limit: int, page: str) -> Decided:
        """The reply, and what it rests on."""
        known = self._read(customer_id)
        row = np.array([[known[feature.name] for feature in self._plan.features]], dtype=np.float64)
        churn = float(self._churn.probabilities(row)[0])
        facts = {
            "features": self._facts(known),
            "scores": {"churn": churn},
            "context": {"page": page},
        }
        candidates = Candidates(len(self._plan.offers))
        self._gate(candidates, known)
        self._apply_customer_rules(candidates, facts)
        self._limit_contacts(candidates, known)
        scores = self._score(candidates.left, row)
        self._apply_candidate_rules(candidates, facts, scores)
        ranked, suppressed = self._arbitrate(candidates, scores, limit)
        reply: Mapping[str, Any] = {
            "decision_id": uuid.uuid4().hex,
            "decide_time": datetime.now(UTC),
            "customer_id": customer_id,
            "channel": channel,
            "actions": self._returned(candidates, ranked, scores, row),
            "suppressed": suppressed,
            "churn_risk": {"band": self._band(churn), "reasons": self._churn.reasons(row)[0]},
            "consents": {purpose: bool(known[purpose]) for purpose in _NEEDING_CONSENT},
        }
        return Decided(reply, {"known": known, "scores": list(scores.items()), "churn": churn})

    def _facts(self, known: Mapping[str, Any]) -> Mapping[str, Any]:
        """What rules read, in their own terms."""
        facts: dict[str, Any] = {}
        for feature in self._plan.features:
            if feature.name not in self._asked:
                continue
            value = known[feature.name]
            if feature.type == "category":
                facts[feature.name] = self._plan.categories[int(value)]
            else:
                facts[feature.name] = bool(value) if feature.type == "bool" else value
        return facts

    def _gate(self, candidates: Candidates, known: Mapping[str, Any]) -> None:
        for place, offer in enumerate(self._plan.offers):
            if offer.purpose in _NEEDING_CONSENT and not known[offer.purpose]:
                candidates.removed[place].append({"code": "CONSENT_DENIED", "text": offer.purpose})

    def _apply_customer_rules(self, candidates: Candidates, facts: Mapping[str, Any]) -> None:
        for rule, holds in self._customer_rules.holding(facts):
            reason = _reason(rule, facts)
            for place in rule.actions:
                candidates.apply(rule, holds, place, reason)

    def _limit_contacts(self, candidates: Candidates, known: Mapping[str, Any]) -> None:
        shown, declined = known["shown_14d"], known["declined_90d"]
        for place in range(len(self._plan.offers)):
            if shown[place] >= self._plan.shown_limit or declined[place]:
                candidates.removed[place].append(
                    {"code": "CONTACTED_ENOUGH", "text": "Contacted often enough."}
                )

    def _score(self, places: list[int], row: Rows) -> dict[int, float]:
        """The propensity of each place, in one batch."""
        if not places:
            return {}
        asked = self._rows(places, row)
        return dict(zip(places, self._propensity.probabilities(asked).tolist(), strict=True))

    def _rows(self, places: list[int], row: Rows) -> Rows:
        targets = [self._plan.offers[place].target for place in places]
        return np.hstack([np.repeat(row, len(places), axis=0), self._one_hot[targets]])

    def _apply_candidate_rules(
        self, candidates: Candidates, facts: Mapping[str, Any], scores: Mapping[int, float]
    ) -> None:
        asked = [
            {"place": place, "propensity": score, "value": self._plan.offers[place].value}
            for place, score in scores.items()
        ]
        for (place, _), held in zip(scores.items(), self._candidate_rules.holding(facts, asked), strict=True):
            for rule, holds in held:
                candidates.apply(rule, holds, place, _reason(rule, facts))

    def _priority(self, candidates: Candidates, place: int, score: float) -> float:
        offer = self._plan.offers[place]
        lift = 1.0 + sum(float(lever["share"]) for lever in candidates.levers[place])
        return score * candidates.weight[place] * (offer.value - offer.cost) * lift

    def _arbitrate(
        self, candidates: Candidates, scores: Mapping[int, float], limit: int
    ) -> tuple[list[tuple[int, float]], list[Mapping[str, Any]]]:
        """Who is returned, best first, with priorities; and the fate of all others."""
        offers, groups = self._plan.offers, Counter[str]()
        ranked: list[tuple[int, float]] = []
        order = [(place, self._priority(candidates, place, scores[place])) for place in candidates.left]
        for place, priority in sorted(order, key=lambda pair: (-pair[1], offers[pair[0]].id)):
            group = offers[place].group
            if priority < self._plan.threshold:
                candidates.removed[place].append({"code": "BELOW_THRESHOLD", "text": "Worth too little."})
            elif len(ranked) == limit:
                candidates.removed[place].append({"code": "BEYOND_LIMIT", "text": "Others came first."})
            elif groups[group] == self._plan.max_per_group:
                candidates.removed[place].append({"code": "GROUP_FULL", "text": "Others of its group."})
            else:
                groups[group] += 1
                ranked.append((place, priority))
        suppressed: list[Mapping[str, Any]] = [
            {"action_id": offers[place].id, "reasons": reasons}
            for place, reasons in enumerate(candidates.removed)
            if reasons
        ]
        return ranked, suppressed

    def _returned(
        self,
        candidates: Candidates,
        ranked: list[tuple[int, float]],
        scores: Mapping[int, float],
        row: Rows,
    ) -> list[Mapping[str, Any]]:
        if not ranked:
            return []
        contributions = self._propensity.reasons(self._rows([place for place, _ in ranked], row))
        returned: list[Mapping[str, Any]] = []
        for (place, priority), reasons in zip(ranked, contributions, strict=True):
            offer = self._plan.offers[place]
            returned.append(
                {
                    "action_id": offer.id,
                    "group": offer.group,
                    "purpose": offer.purpose,
                    "treatment": {"headline": offer.headline, "body": offer.body},
                    "priority": priority,
                    "propensity": scores[place],
                    "weight": candidates.weight[place],
                    "value": offer.value - offer.cost,
                    "levers": candidates.levers[place],
                    "reasons": [*candidates.offered[place], *reasons],
                }
            )
        return returned

    def _band(self, churn: float) -> str:
        return max(
            (name for name, start in self._plan.bands.items() if churn >= start),
            key=self._plan.bands.__getitem__,
        )


def _reason(rule: Rule, facts: Mapping[str, Any]) -> Reason:
    shown = f" ({facts['features'][rule.shown]:.2f})" if rule.shown else ""
    return {"code": rule.code, "rule_id": rule.id, "text": f"The rule {rule.id} says so{shown}."}


def _features_in(when: str, plan: Plan) -> list[str]:
    words = set(when.replace("features.", " features.").replace(")", " ").split())
    return [feature.name for feature in plan.features if f"features.{feature.name}" in words]
