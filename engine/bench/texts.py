"""A whole rule set as authors write it, of any size: the texts a reload starts from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from engine.bench.cases import CONTRACTS, many_actions, many_conditions
from engine.core.reasons import PLACEHOLDERS
from engine.domain import Action
from engine.ruleset.sources import RuleSources
from feature_store.schema import FeatureSchema

_RULES_A_FILE: Final = 100
_HEAD: Final = """\
apiVersion: arbiter/v1
kind: {kind}
metadata: {{name: {name}, owner: the bench, description: Made for measuring}}
"""
_ACTION: Final = """\
  - id: {id}
    group: {group}
    purpose: {purpose}
    name: {{en: Offer {id}, fr: Offre {id}}}
    value: {value}
    cost: {cost}
    prior: {prior}
    tags: [{tags}]
    valid: {{from: 2026-01-01, to: 2027-01-01}}
    treatments:
      - id: {id}.web
        channel: web
        placements: [hero]
        headline: {{en: "Less to pay, {id}", fr: "Moins à payer, {id}"}}
        body: {{en: Keep your line and pay less., fr: Gardez votre ligne et payez moins.}}
"""
_RULE: Final = """\
  - id: bench.rule-{number}
    class: suitability
    applies_to: {scope}
    when: {when}
    effect: deny
    reason: NOT_NOW
    valid: {{from: 2026-01-01, to: 2027-01-01}}
    state: active
"""
_REASON: Final = """\
  - code: {code}
    agent: {{en: Not today., fr: Pas aujourd'hui.}}
    customer: {{en: Not today., fr: Pas aujourd'hui.}}
"""
_VOCABULARY: Final = """\
channels:
  - {id: web, placements: [hero]}
languages: [en, fr]
signals:
  - {name: trouble, description: Three failed payments in 7 days}
churn_bands: {low: 0.0, high: 0.5}
"""
_CONSENT: Final = """\
profiling_purpose: profiling
purposes:
  - {id: marketing, basis: consent}
  - {id: profiling, basis: consent}
"""
_SCOPES: Final = ("{groups: [g0, g1]}", "{tags: [t1]}", "{}", "{purposes: [marketing]}")


def schema() -> FeatureSchema:
    """The features that the conditions read."""
    types = {"tenure": "int", "monthly": "double", "contract": "category", "calls": "int"}
    view = {"name": "all", "kind": "batch", "owner": "bench", "freshness_hours": 24, "description": "All"}
    features = [
        {"name": name, "view": "all", "type": kind, "data_class": "contractual", "description": name}
        | ({"categories": CONTRACTS} if kind == "category" else {})
        for name, kind in types.items()
    ]
    return FeatureSchema.model_validate({"name": "bench", "version": 1, "view": [view], "feature": features})


def sources(rules: int = 1_000, actions: int = 100) -> RuleSources:
    """The files of a rule set without mistakes, rules in packs of a hundred."""
    conditions = many_conditions(rules)
    packs = {
        f"business/pack-{start // _RULES_A_FILE}.yaml": _pack(
            start, conditions[start : start + _RULES_A_FILE]
        )
        for start in range(0, rules, _RULES_A_FILE)
    }
    return RuleSources.from_mapping(
        {
            "arbitration.yaml": _file("Arbitration", ("threshold: 0.5\nmax_per_group: 2\n",)),
            "catalogue.yaml": _file("Catalogue", _catalogue(many_actions(actions))),
            "consent.yaml": _file("ConsentPolicy", (_CONSENT,)),
            "reasons.yaml": _file("ReasonCatalogue", _reasons()),
            "vocabulary.yaml": _file("Vocabulary", (_VOCABULARY,)),
            **packs,
        }
    )


def _file(kind: str, parts: Iterator[str] | Sequence[str]) -> str:
    return _HEAD.format(kind=kind, name=kind.lower()) + "".join(parts)


def _catalogue(actions: Sequence[Action]) -> Iterator[str]:
    groups = ", ".join(dict.fromkeys(action.group for action in actions))
    yield f"currency: CHF\ngroups: [{groups}]\nactions:\n"
    for action in actions:
        yield _ACTION.format(
            id=action.id,
            group=action.group,
            purpose=action.purpose,
            value=action.value,
            cost=action.cost,
            prior=action.prior,
            tags=", ".join(action.tags),
        )


def _pack(first: int, conditions: Sequence[str]) -> str:
    rules = (
        _RULE.format(number=number, scope=_SCOPES[number % len(_SCOPES)], when=_quoted(text))
        for number, text in enumerate(conditions, start=first)
    )
    return _file("PolicyPack", ("rules:\n", *rules))


def _quoted(condition: str) -> str:
    """A condition as authors write it: plain where YAML takes that."""
    return f"'{condition}'" if condition.startswith('"') else condition


def _reasons() -> Iterator[str]:
    yield "reasons:\n"
    for code in ("NOT_NOW", *PLACEHOLDERS):
        yield _REASON.format(code=code)
