"""A small rule set for tests: golden/base, with single files replaced."""

from __future__ import annotations

from pathlib import Path

from engine.ruleset.sources import RuleSources
from feature_store.schema import FeatureSchema

GOLDEN = Path(__file__).parent / "golden"

SCHEMA = FeatureSchema.model_validate(
    {
        "name": "small",
        "version": 1,
        "view": [
            {"name": "all", "kind": "batch", "owner": "tests", "freshness_hours": 24, "description": "All"},
            {
                "name": "live",
                "kind": "streaming",
                "owner": "tests",
                "freshness_hours": 24,
                "description": "Live",
            },
        ],
        "feature": [
            {
                "name": "tenure",
                "view": "all",
                "type": "int",
                "data_class": "contractual",
                "description": "Months",
            },
            {
                "name": "monthly",
                "view": "all",
                "type": "double",
                "data_class": "billing",
                "description": "CHF",
            },
            {
                "name": "contract",
                "view": "all",
                "type": "category",
                "data_class": "contractual",
                "description": "Commitment",
                "categories": ["month-to-month", "one-year", "two-year"],
            },
            {
                "name": "payments_30d",
                "view": "live",
                "type": "int",
                "data_class": "behavioural",
                "description": "Payments",
                "aggregate": {
                    "function": "count",
                    "events": ["paid"],
                    "where": {"amount": 1},
                    "window": "30d",
                },
            },
            {
                "name": "calls",
                "view": "all",
                "type": "int",
                "data_class": "behavioural",
                "description": "Calls",
            },
            {
                "name": "fiber",
                "view": "all",
                "type": "bool",
                "data_class": "contractual",
                "description": "Fiber",
            },
        ],
    }
)


def base_texts() -> dict[str, str]:
    """The files of the set without mistakes."""
    return {path.name: path.read_text(encoding="utf-8") for path in (GOLDEN / "base").glob("*.yaml")}


def with_condition(condition: str, *, effect: str = "deny", extra: str = "") -> RuleSources:
    """The small set with one more rule."""
    rule = (
        f"  - id: extra\n    class: suitability\n    applies_to: {{}}\n    when: {condition}\n"
        f"    effect: {effect}\n    reason: TOO_OFTEN\n    state: active\n{extra}"
    )
    texts = base_texts()
    return RuleSources.from_mapping(texts | {"rules.yaml": texts["rules.yaml"] + rule})
