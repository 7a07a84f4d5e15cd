"""Writes the table of the uplift example: a trial of a discount whose true effect on each customer is known.

    python -m training example trial build/offer/trial.csv

Nobody's data: customers, treatment and outcome are drawn from a seed. The discount persuades customers who
visit often and pay much; it wakes sleeping dogs, customers of long standing who seldom visit, and does
nothing to others.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from training.dataset import Floats

ROWS: Final = 20_000
CHANNELS: Final = ("app", "shop", "web")


@dataclass(frozen=True, slots=True, eq=False)
class TrueTrial:
    """Customers, n: what is known of them, their true uplift, and what happened."""

    visits: Floats
    fee: Floats
    months: Floats
    channel: Floats
    uplift: Floats
    treated: Floats
    bought: Floats


def drawn_trial(rows: int = ROWS, *, seed: int = 11, effect: float = 1.0, chance: float = 0.5) -> TrueTrial:
    """A trial with `effect` times the usual effects: 0 for none at all."""
    rng = np.random.default_rng(seed)
    visits = rng.poisson(5.0, rows).astype(np.float64)
    fee = rng.normal(60.0, 15.0, rows).round(2)
    months = rng.integers(1, 72, rows).astype(np.float64)
    channel = rng.integers(len(CHANNELS), size=rows).astype(np.float64)
    without = 0.15 + 0.10 * (channel == 0) + 0.10 * (months > 36)
    persuaded = 0.30 * ((visits >= 5) & (fee > 55.0))
    asleep = -0.15 * ((visits < 5) & (months > 36))
    uplift = effect * (persuaded + asleep)
    treated = (rng.random(rows) < chance).astype(np.float64)
    bought = (rng.random(rows) < without + treated * uplift).astype(np.float64)
    return TrueTrial(visits, fee, months, channel, uplift, treated, bought)


def write_trial(path: Path, trial: TrueTrial) -> Path:
    """The trial as a CSV, without its truth."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["customer_id", "visits", "fee", "months", "channel", "discount", "bought"])
        for row in range(len(trial.visits)):
            writer.writerow(
                [
                    f"C{row:05d}",
                    int(trial.visits[row]),
                    trial.fee[row],
                    int(trial.months[row]),
                    CHANNELS[int(trial.channel[row])],
                    "yes" if trial.treated[row] else "no",
                    "yes" if trial.bought[row] else "no",
                ]
            )
    return path
