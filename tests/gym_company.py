"""A gym with its own table of members and of offers, as a company would export them: made from a seed."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

Row = dict[str, Any]
PLANS = ("flex", "year", "student")
OFFERS = {"sauna": (25.0, "wellness"), "trainer": (60.0, "sport"), "drinks": (8.0, "food")}


def members(count: int = 900, *, seed: int = 3) -> list[Row]:
    """Members with what is known of them and whether they left; leaving follows visits, plan and fee."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    for number in range(count):
        plan = PLANS[int(rng.integers(3))]
        visits = int(rng.poisson(6.0))
        fee = round(float(rng.normal(70.0, 15.0)), 2)
        since = int(rng.integers(1, 60))
        risk = -1.6 - 0.45 * (visits - 6) + 1.5 * (plan == "flex") + 0.03 * (fee - 70.0) - 0.02 * since
        left = bool(rng.random() < 1.0 / (1.0 + np.exp(-risk)))
        rows.append(
            {
                "MemberId": f"M{number:04d}",
                "Plan": plan,
                "Visits": visits if rng.random() > 0.05 else "",
                "MonthlyFee": fee,
                "MonthsMember": since,
                "Vegan": "true" if rng.random() < 0.2 else "false",
                "Left": "yes" if left else "no",
            }
        )
    return rows


def offers_made(count: int = 1200, *, seed: int = 4) -> list[Row]:
    """What was offered to whom, and whether it was taken: dear offers less, and each by other members."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    for member in members(count // 3, seed=seed):
        for offer, (price, _) in OFFERS.items():
            visits = member["Visits"] or 6
            fit = {"sauna": member["MonthsMember"] / 20, "trainer": visits / 4, "drinks": 1.5}[offer]
            taken = bool(rng.random() < 1.0 / (1.0 + np.exp(1.0 + price / 40 - fit)))
            known = {
                name: member[name] for name in ("MemberId", "Plan", "Visits", "MonthlyFee", "MonthsMember")
            }
            rows.append({**known, "Offer": offer, "Taken": int(taken)})
    return rows


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """The rows as a CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def churn_plan(**changed: Any) -> dict[str, Any]:
    """A plan for the members; keyword arguments replace or add parts."""
    plan: dict[str, Any] = {
        "apiVersion": "arbiter/v1",
        "kind": "TrainingPlan",
        "metadata": {"name": "churn", "owner": "gym", "intended_use": "Whom to call. Not for prices."},
        "data": {"path": "members.csv", "id": "MemberId", "label": "Left", "positive": "yes"},
        "task": {"kind": "churn"},
        "features": {"data_class": "contractual"},
        "model": {"max_trees": 40, "learning_rate": 0.15},
        "evaluation": {"folds": 0},
    }
    return _merged(plan, changed)


def offer_plan(**changed: Any) -> dict[str, Any]:
    """A plan for the offers."""
    plan = churn_plan(
        metadata={"name": "propensity"},
        task={
            "kind": "propensity",
            "action": "Offer",
            "actions": {"path": "offers.csv", "id": "offer", "features": ["price", "kind"]},
        },
    )
    plan["data"] = {"path": "offered.csv", "id": "MemberId", "label": "Taken"}
    return _merged(plan, changed)


def write_offers(folder: Path, count: int = 1200) -> None:
    """The offers made, and the table of offers."""
    write_csv(folder / "offered.csv", offers_made(count))
    write_csv(
        folder / "offers.csv",
        [{"offer": name, "price": price, "kind": kind} for name, (price, kind) in OFFERS.items()],
    )


def write_plan(folder: Path, plan: Mapping[str, Any], name: str = "plan.yaml") -> Path:
    """The plan as a file."""
    path = folder / name
    path.write_text(yaml.safe_dump(dict(plan), sort_keys=False), encoding="utf-8")
    return path


def _merged(plan: dict[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    """The plan with parts changed: mappings are put together, all else is replaced; None takes away."""
    merged = dict(plan)
    for name, value in changed.items():
        held = merged.get(name)
        both = isinstance(held, dict) and isinstance(value, dict)
        merged[name] = _merged(held, value) if both else value
        if value is None:
            del merged[name]
    return merged
