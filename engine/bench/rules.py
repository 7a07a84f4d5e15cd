"""Rules: our programs alone, and side by side with zen-engine and durable-rules in one run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

import numpy as np

from engine.bench import zen_side
from engine.bench.cases import Customer, Row, customers, many_actions, many_conditions, table
from engine.bench.ours import frame_of, program_of, table_reader
from engine.bench.timing import best_s, per_item_us

Figures = dict[str, float]
_TIMEOUT_S = 300


class PartMissing(Exception):
    """A library that is measured against is not installed, or did not do its part."""


class Disagreement(Exception):
    """Two engines gave different answers, so their speeds cannot be compared."""


def measure() -> Figures:
    """All figures of the rule engine. Raises PartMissing, and Disagreement."""
    rows, everybody = table(), customers()
    return {**_against(rows, everybody), **_alone(rows, everybody)}


def _against(rows: Sequence[Row], everybody: Sequence[Customer]) -> Figures:
    """From a customer's values to the rows that hold, by each engine, after they agreed on all customers."""
    ours = table_reader(rows)
    expected = [ours(customer) for customer in everybody]
    try:
        zen = zen_side.table_reader(rows)
    except ImportError as error:
        raise PartMissing("zen-engine is not installed; install the `bench` extra") from error
    _agree("zen-engine", expected, [sorted(zen(customer)) for customer in everybody])
    durable_us, held = _durable()
    _agree("durable-rules", expected, held)
    ours_us, zen_us = per_item_us(ours, everybody), per_item_us(zen, everybody, rounds=5)
    return {
        "rules_over_zen": zen_us / ours_us,
        "rules_over_durable": durable_us / ours_us,
        "rules_table_us": ours_us,
        "zen_table_us": zen_us,
        "durable_table_us": durable_us,
    }


def _durable() -> tuple[float, list[list[int]]]:
    """Microseconds of durable-rules per customer, and the rows it fired for each."""
    command = [sys.executable, "-m", "engine.bench.durable_side"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)  # noqa: S603  # our own module
    if ran.returncode != 0:
        last = ran.stderr.strip().splitlines()[-1:] or [f"exit code {ran.returncode}"]
        raise PartMissing(f"durable-rules did not run ({last[0]}); install the `bench` extra")
    found = json.loads(ran.stdout.splitlines()[-1])
    return float(found["us"]), found["held"]


def _agree(engine: str, expected: Sequence[list[int]], actual: Sequence[list[int]]) -> None:
    for place, (ours, theirs) in enumerate(zip(expected, actual, strict=True)):
        if ours != theirs:
            raise Disagreement(f"customer {place}: rows {ours} by us, {theirs} by {engine}")


def _alone(rows: Sequence[Row], everybody: Sequence[Customer]) -> Figures:
    few = program_of([row.condition for row in rows], many_actions(12))
    frames = [frame_of(customer) for customer in everybody]
    conditions, actions = many_conditions(), many_actions()
    many = program_of(conditions, actions)
    full = [frame_of(customer, trouble=True, churn=0.4) for customer in everybody[:20]]
    lacking = [frame_of(customer) for customer in everybody[:20]]
    for frame in (*full, *lacking):
        frame.propensity = np.linspace(0.0, 0.5, len(actions))
    return {
        "rules_50_us": per_item_us(few.evaluate, frames),
        "rules_1000x100_ms": per_item_us(many.evaluate, full) / 1000,
        "rules_1000x100_missing_ms": per_item_us(many.evaluate, lacking) / 1000,
        "compile_1000_s": best_s(lambda: program_of(conditions, actions)),
    }
