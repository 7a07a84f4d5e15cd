"""The company in the words of the stack of well-known parts: zen's expressions, LightGBM's files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.bench.whole_customers import SEED, contacts_of, customer_id
from engine.bench.whole_documents import CHURN_BANDS, MAX_PER_GROUP, SHOWN_LIMIT, THRESHOLD, treatment_texts
from engine.bench.whole_features import BLOCK, CATEGORIES, Known, values_of
from engine.bench.whole_rules import Rule
from engine.bench.whole_shape import Company, Offer
from feature_store.state import OutcomeType
from model_registry import open_alias

_SHOWN_DAYS = 14


def write_plan(company: Company, folder: Path, *, redis: str) -> Path:
    """Writes plan and customers of the stack below a folder; the plan's file."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_customers(company, folder / "customers.npz")
    plan = {
        "redis": redis,
        "repository": str(folder / "repository"),
        "customers": str(folder / "customers.npz"),
        "log": str(folder / "decisions.jsonl"),
        "features": [_some_of(known, ("name", "area", "type")) for known in company.features],
        "categories": list(CATEGORIES),
        "offers": [_offer(offer, company) for offer in company.offers],
        "targets": company.size.targets,
        "rules": [_rule(rule, company) for rule in company.rules],
        "churn": _model(company, "churn"),
        "propensity": _model(company, "propensity"),
        "shown_limit": SHOWN_LIMIT,
        "threshold": THRESHOLD,
        "max_per_group": MAX_PER_GROUP,
        "bands": CHURN_BANDS,
    }
    path = folder / "plan.json"
    path.write_text(json.dumps(plan, indent=1), encoding="utf-8")
    return path


def in_zen(when: str) -> str:
    """A condition of ours in zen's expressions, which spell `and` and `or` out."""
    return when.replace("&&", "and").replace("||", "or")


def places_of(rule: Rule, company: Company) -> list[int]:
    """Which actions a rule is about."""
    scope = rule.scope
    return [
        place
        for place, offer in enumerate(company.offers)
        if offer.group in scope.get("groups", ())
        or offer.tag in scope.get("tags", ())
        or offer.id in scope.get("actions", ())
    ]


def _some_of(value: Known | Offer, names: tuple[str, ...]) -> dict[str, Any]:
    held = asdict(value)
    return {name: held[name] for name in names}


def _offer(offer: Offer, company: Company) -> Mapping[str, Any]:
    headline, body = treatment_texts(offer.id)
    targets = [other.target for other in company.offers[: company.size.targets]]
    return {
        **_some_of(offer, ("id", "group", "purpose", "value", "cost")),
        "target": targets.index(offer.target),
        "headline": headline,
        "body": body,
    }


def _rule(rule: Rule, company: Company) -> Mapping[str, Any]:
    return {
        "id": rule.id,
        "effect": rule.kind.effect,
        "when": in_zen(rule.when),
        "asks_about_action": rule.kind.asks_about_action,
        "actions": places_of(rule, company),
        "amount": rule.amount,
        "code": rule.code,
        "shown": rule.shown.removeprefix("features."),
    }


def _model(company: Company, name: str) -> Mapping[str, Any]:
    line = open_alias(company.folder / "registry", name).manifest.calibration
    return {"path": str(company.boosters / f"{name}.txt"), **line}


def _write_customers(company: Company, path: Path) -> None:
    """Ids, stored values, and how often each offer was shown or declined lately."""
    count, offers = company.size.customers, len(company.offers)
    blocks = [values_of(block, company.features, seed=SEED) for block in range(-(-count // BLOCK))]
    np.savez(
        path,
        ids=np.array([customer_id(number) for number in range(count)]),
        values=np.vstack(blocks)[:count],
        shown_14d=np.array([_counted(n, offers, OutcomeType.SHOWN, _SHOWN_DAYS) for n in range(count)]),
        declined_90d=np.array([_counted(n, offers, OutcomeType.DECLINED, 90) for n in range(count)]),
    )


def _counted(number: int, offers: int, outcome: OutcomeType, days: int) -> npt.NDArray[np.int64]:
    counts = np.zeros(offers, dtype=np.int64)
    for contact in contacts_of(number, offers):
        if contact.outcome is outcome and contact.days_ago < days:
            counts[contact.offer] += 1
    return counts
