"""The rule set of the benchmark's company, as the files that authors would write."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from engine.bench.whole_features import AREAS
from engine.bench.whole_models import reason_codes
from engine.bench.whole_rules import GROUPS, Rule
from engine.bench.whole_shape import Company, Offer
from engine.core.reasons import PLACEHOLDERS

CHANNELS: Final = {"web": "account_banner", "call_center": "screen_pop"}
"""With a treatment on each, the catalogue of a thousand actions is just below the megabyte of a rule file."""
SHOWN_LIMIT: Final = 2
MAX_PER_GROUP: Final = 2
THRESHOLD: Final = 1.0
CHURN_BANDS: Final = {"low": 0.0, "medium": 0.3, "high": 0.55}
_RULES_A_FILE: Final = 500

Document = Mapping[str, Any]


def write_rules(company: Company) -> None:
    """Writes the rule set. JSON is YAML, too, and every number in it is written in one way."""
    folder = company.folder / "rules"
    for place, document in _documents(company):
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        named = {"name": path.stem, "owner": "benchmark", "description": "Made by engine.bench.whole_company"}
        whole = {"apiVersion": "arbiter/v1", "metadata": named, **document}
        path.write_text(json.dumps(whole, indent=0), encoding="utf-8")


def _documents(company: Company) -> Iterator[tuple[str, Document]]:
    yield "vocabulary.yaml", _vocabulary()
    yield "catalogue.yaml", _catalogue(company.offers)
    yield "reasons.yaml", {"kind": "ReasonCatalogue", "reasons": [*_engine_reasons(), *_model_reasons()]}
    yield "consent/purposes.yaml", _consent_policy()
    yield "contact/limits.yaml", _contact_pack()
    yield "arbitration.yaml", {"kind": "Arbitration", "threshold": THRESHOLD, "max_per_group": MAX_PER_GROUP}
    for start in range(0, len(company.rules), _RULES_A_FILE):
        part = company.rules[start : start + _RULES_A_FILE]
        yield f"business/pack-{start:04}.yaml", {"kind": "PolicyPack", "rules": [_written(r) for r in part]}
        yield (
            f"reasons-{start:04}.yaml",
            {"kind": "ReasonCatalogue", "reasons": [_rule_reason(r) for r in part]},
        )


def _vocabulary() -> Document:
    return {
        "kind": "Vocabulary",
        "channels": [{"id": channel, "placements": [place]} for channel, place in CHANNELS.items()],
        "languages": ["en"],
        "identity_types": ["phone"],
        "context": [{"name": "page", "type": "string", "description": "Path of the page in view"}],
        "signals": [],
        "churn_bands": CHURN_BANDS,
    }


def _catalogue(offers: Sequence[Offer]) -> Document:
    return {
        "kind": "Catalogue",
        "currency": "CHF",
        "groups": list(GROUPS),
        "actions": [_action(offer) for offer in offers],
    }


def _action(offer: Offer) -> Document:
    return {
        "id": offer.id,
        "group": offer.group,
        "purpose": offer.purpose,
        "name": {"en": f"The offer {offer.id}"},
        "value": offer.value,
        "cost": offer.cost,
        "prior": 0.1,
        "target": offer.target,
        "tags": [offer.tag],
        "treatments": [_treatment(offer.id, channel, place) for channel, place in CHANNELS.items()],
    }


def _treatment(action: str, channel: str, place: str) -> Document:
    headline, body = treatment_texts(action)
    return {
        "id": f"{action}.{channel}",
        "channel": channel,
        "placements": [place],
        "headline": {"en": headline},
        "body": {"en": body},
    }


def treatment_texts(action: str) -> tuple[str, str]:
    """Headline and body of an action."""
    return (
        f"More for less with {action}",
        "From your next bill on you have more of what you use and pay less for it, for twelve months, on the "
        "plan you have today. Nothing else changes, and you can leave at any time.",
    )


def _reason(code: str, agent: str, customer: str) -> Document:
    return {"code": code, "agent": {"en": agent}, "customer": {"en": customer}}


def _engine_reasons() -> Iterator[Document]:
    for code, names in PLACEHOLDERS.items():
        shown = ", ".join(f"{{{name}}}" for name in sorted(names))
        yield _reason(code, f"The engine says {code} ({shown}).", "This is not for you at the moment.")
    yield _reason("CONTACTED_ENOUGH", "Contacted often enough.", "You have heard of this lately.")


def _model_reasons() -> Iterator[Document]:
    for kind in ("churn", "propensity"):
        for area in AREAS:
            for code, verb in zip(reason_codes(kind, area), ("raises", "lowers"), strict=True):
                agent = f"What is known of {area} {verb} the score: {{value}} (typical: {{typical}})."
                yield _reason(code, agent, f"We looked at {area}: {{value}}.")


def _rule_reason(rule: Rule) -> Document:
    seen = f" ({{{rule.shown}}})" if rule.shown else ""
    return _reason(rule.code, f"The rule {rule.id} says so{seen}.", "This suits what you have.")


def _written(rule: Rule) -> Document:
    """A rule of a policy pack."""
    kind = rule.kind
    return {
        "id": rule.id,
        **({"class": kind.engagement} if kind.engagement else {}),
        "applies_to": dict(rule.scope),
        "when": rule.when,
        "effect": kind.effect,
        **({"share": rule.amount} if kind.effect == "lever" else {}),
        **({"factor": rule.amount} if kind.effect == "weight" else {}),
        "otherwise" if kind.effect == "allow" else "reason": rule.code,
        "state": "active",
    }


def _consent_policy() -> Document:
    purposes = [
        {"id": "marketing", "basis": "consent", "channels": {"call_center": "legitimate_interest"}},
        {"id": "personalization", "basis": "consent", "channels": {"web": "legitimate_interest"}},
        {"id": "service", "basis": "contract"},
        {"id": "profiling", "basis": "consent"},
    ]
    return {"kind": "ConsentPolicy", "profiling_purpose": "profiling", "purposes": purposes}


def _contact_pack() -> Document:
    return {
        "kind": "ContactPack",
        "policies": [
            _limit("action-cap", "cap", {}, "action", "shown", "14d", SHOWN_LIMIT),
            _limit("group-cap", "cap", {"groups": ["retention"]}, "group", "shown", "30d", 12),
            _limit("channel-cap", "cap", {"purposes": ["marketing"]}, "channel", "shown", "7d", 20),
            _limit("purpose-cap", "cap", {"purposes": ["marketing"]}, "purpose", "shown", "30d", 40),
            _limit("overall-cap", "cap", {"purposes": ["marketing"]}, "overall", "shown", "24h", 15),
            _limit("after-decline", "cooldown", {}, "action", "declined", "90d"),
            _limit("after-accept", "cooldown", {"tags": ["addon"]}, "action", "accepted", "180d"),
        ],
    }


def _limit(
    name: str, kind: str, scope: Document, per: str, counts: str, window: str, limit: int | None = None
) -> Document:
    return {
        "id": f"contact.{name}",
        "kind": kind,
        "applies_to": scope,
        "per": per,
        "counts": [counts],
        **({} if limit is None else {"limit": limit}),
        "window": window,
        "reason": "CONTACTED_ENOUGH",
    }
