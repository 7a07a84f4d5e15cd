"""What the stack decides with: one JSON file, written by the benchmark, as frozen values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Feature:
    """A stored feature; `area` is the concept that it belongs to in reasons."""

    name: str
    area: str
    type: str


@dataclass(frozen=True, slots=True)
class Offer:
    """An action."""

    id: str
    group: str
    purpose: str
    target: int
    value: float
    cost: float
    headline: str
    body: str


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule; `actions` are the places of those it is about, `shown` the feature that its reason shows."""

    id: str
    effect: str
    when: str
    asks_about_action: bool
    actions: tuple[int, ...]
    amount: float
    code: str
    shown: str


@dataclass(frozen=True, slots=True)
class Model:
    """LightGBM's file of a model, and the line from its margin to log-odds."""

    path: str
    slope: float
    intercept: float


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything: where Redis and Feast's repository are, what is sold, how it is decided."""

    redis: str
    repository: str
    customers: str
    log: str
    features: Sequence[Feature]
    categories: Sequence[str]
    offers: Sequence[Offer]
    targets: int
    rules: Sequence[Rule]
    churn: Model
    propensity: Model
    shown_limit: int
    threshold: float
    max_per_group: int
    bands: Mapping[str, float]


def read_plan(path: Path) -> Plan:
    """The plan of a file."""
    held: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return Plan(
        **held
        | {
            "features": [Feature(**feature) for feature in held["features"]],
            "offers": [Offer(**offer) for offer in held["offers"]],
            "rules": [Rule(**{**rule, "actions": tuple(rule["actions"])}) for rule in held["rules"]],
            "churn": Model(**held["churn"]),
            "propensity": Model(**held["propensity"]),
        }
    )
