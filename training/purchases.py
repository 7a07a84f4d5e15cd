"""Writes the table of the value example: what customers spent in a year, drawn around a known expectation.

    python -m training example purchases build/worth/purchases.csv

Nobody's data: everything is drawn from a seed. Some customers spend nothing, most little, a few very much.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from training.dataset import Floats

ROWS: Final = 12_000
REGIONS: Final = ("lake", "mountains", "town")


@dataclass(frozen=True, slots=True, eq=False)
class TruePurchases:
    """Customers, n: what is known of them, what they are expected to spend, and what they spent (CHF)."""

    orders: Floats
    basket: Floats
    days_since: Floats
    region: Floats
    expected: Floats
    spent: Floats


def drawn_purchases(rows: int = ROWS, *, seed: int = 12, zeros: bool = True) -> TruePurchases:
    """Purchases; `zeros` is whether some spend nothing."""
    rng = np.random.default_rng(seed)
    orders = rng.poisson(4.0, rows).astype(np.float64)
    basket = np.exp(rng.normal(3.5, 0.5, rows)).round(2)
    days_since = rng.integers(0, 365, rows).astype(np.float64)
    region = rng.integers(len(REGIONS), size=rows).astype(np.float64)
    orders_ahead = (0.3 + orders) * np.exp(-days_since / 180.0) * np.where(region == 2, 1.3, 1.0)
    expected = orders_ahead * basket
    made = rng.poisson(orders_ahead) if zeros else 1 + rng.poisson(orders_ahead)
    expected = expected if zeros else expected + basket
    spent = np.array([rng.gamma(2.0 * n, b / 2.0) if n else 0.0 for n, b in zip(made, basket, strict=True)])
    return TruePurchases(orders, basket, days_since, region, expected, spent.round(2))


def write_purchases(path: Path, purchases: TruePurchases) -> Path:
    """The purchases as a CSV, without their truth."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["customer_id", "orders", "basket", "days_since", "region", "spent_next_year"])
        for row in range(len(purchases.orders)):
            writer.writerow(
                [
                    f"C{row:05d}",
                    int(purchases.orders[row]),
                    purchases.basket[row],
                    int(purchases.days_since[row]),
                    REGIONS[int(purchases.region[row])],
                    purchases.spent[row],
                ]
            )
    return path
