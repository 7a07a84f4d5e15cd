"""What the rule benchmarks run on: one decision table said in three languages, and a large rule set.

Everything is made from fixed numbers, so that two runs, and two engines, see the same.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from engine.core.rulebook import Input, InputType
from engine.domain import Action

CONTRACTS: Final = ("month-to-month", "one-year", "two-year")
COLUMNS: Final = ("tenure", "monthly", "contract", "calls")
INPUTS: Final = (
    Input("features.tenure", InputType.INT),
    Input("features.monthly", InputType.DOUBLE),
    Input("features.contract", InputType.STRING),
    Input("features.calls", InputType.INT),
    Input("signals.trouble", InputType.BOOL),
    Input("scores.churn", InputType.DOUBLE),
)
Customer = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the decision table; a customer is in it where all four cells hold."""

    tenure_from: int
    tenure_to: int  # exclusive
    monthly_from: float
    contract: str
    calls_from: int

    @property
    def condition(self) -> str:
        """The row as a condition of ours."""
        return (
            f"features.tenure >= {self.tenure_from} && features.tenure < {self.tenure_to}"
            f' && features.monthly >= {self.monthly_from} && features.contract == "{self.contract}"'
            f" && features.calls >= {self.calls_from}"
        )

    @property
    def cells(self) -> dict[str, str]:
        """The row as unary tests, as zen-engine and DMN write them."""
        return {
            "tenure": f"[{self.tenure_from}..{self.tenure_to})",
            "monthly": f">= {self.monthly_from}",
            "contract": f'"{self.contract}"',
            "calls": f">= {self.calls_from}",
        }

    @property
    def pattern(self) -> dict[str, object]:
        """The row as a pattern of durable-rules."""
        terms: list[dict[str, object]] = [
            {"$gte": {"tenure": self.tenure_from}},
            {"$lt": {"tenure": self.tenure_to}},
            {"$gte": {"monthly": self.monthly_from}},
            {"contract": self.contract},
            {"$gte": {"calls": self.calls_from}},
        ]
        return {"$and": terms}


def table(rows: int = 50) -> tuple[Row, ...]:
    """A decision table of which about one row in ten holds for a customer."""
    draw = random.Random(7)  # noqa: S311  # not for secrets
    return tuple(
        Row(
            tenure_from=(start := draw.randrange(0, 36)),
            tenure_to=start + draw.randrange(24, 60),
            monthly_from=draw.randrange(2, 12) * 5 + 0.5,
            contract=CONTRACTS[i % 3],
            calls_from=draw.randrange(0, 3),
        )
        for i in range(rows)
    )


def customers(count: int = 200) -> tuple[Customer, ...]:
    """Customers with every value known."""
    draw = random.Random(11)  # noqa: S311  # not for secrets
    return tuple(
        {
            "tenure": draw.randrange(0, 72),
            "monthly": draw.randrange(4, 24) * 5 + 0.25,
            "contract": draw.choice(CONTRACTS),
            "calls": draw.randrange(0, 5),
        }
        for _ in range(count)
    )


def many_actions(count: int = 100) -> tuple[Action, ...]:
    """Candidates of five groups."""
    return tuple(
        Action(
            id=f"a{i}",
            group=f"g{i % 5}",
            purpose="marketing",
            name={},
            value=float(i),
            cost=i / 10,
            prior=0.1,
            weight=1.0,
            target="",
            treatments=(),
            tags=(f"t{i % 4}",),
        )
        for i in range(count)
    )


def many_conditions(count: int = 1_000) -> tuple[str, ...]:
    """Half of them about the customer, half about each candidate too."""
    rows = table(count)
    kinds: Sequence[str] = (
        "{row}",
        'action.group == "g{five}" && features.monthly > {amount}.5 && features.tenure < {bound}',
        "signals.trouble && scores.churn >= 0.{two} || features.calls >= {five}",
        "action.value > {amount}.0 && scores.churn > 0.{two}",
        "{row} && !signals.trouble",
        '"t{four}" in action.tags && features.contract == "two-year"',
        'features.contract in ["one-year", "two-year"] && features.monthly * 12.0 > {amount}0.0',
        "scores.propensity > 0.{two} && features.tenure > {bound}",
    )
    return tuple(
        kinds[i % len(kinds)].format(
            row=rows[i].condition, five=i % 5, four=i % 4, two=10 + i % 80, amount=20 + i % 70, bound=i % 72
        )
        for i in range(count)
    )
