"""Rules: our programs alone, and side by side with zen-engine and durable-rules in one run.

All three engines do the same work: from a customer's values, a dict, to the list of the rows of one
decision table that hold, with the rules loaded before. Inside the time is what each needs for that: for us
a frame, for zen-engine its own conversion, for durable-rules the fact as JSON, a session, and its deletion.
Their answers are compared first. They are measured in turns, one at a time, in pieces of work of about a
third of a millisecond for each, and of every piece the best round counts: other work on the machine makes a
round slower, never faster, and what is left of it falls on all three alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from engine.bench import texts, zen_side
from engine.bench.cases import Customer, Row, customers, many_actions, many_conditions, table
from engine.bench.durable_process import DurableProcess
from engine.bench.ours import frame_of, program_of, table_reader
from engine.bench.parts import Disagreement, PartMissing
from engine.bench.timing import best_processor_s, in_turns, per_item_us
from engine.ruleset.build import build_rulebook

Figures = dict[str, float]
_SPELLS: Final = 10
"""Turns of each engine, which spread its rounds over all the time of the comparison."""


def measure() -> Figures:
    """All figures of the rule engine. Raises PartMissing, and Disagreement."""
    rows, everybody = table(), customers()
    return {**_against(rows, everybody), **_alone(rows, everybody), **_loading()}


def _against(rows: Sequence[Row], everybody: Sequence[Customer]) -> Figures:
    """From a customer's values to the rows that hold, by each engine, after they agreed on all customers."""
    ours = table_reader(rows)
    expected = [ours(customer) for customer in everybody]
    try:
        zen = zen_side.table_reader(rows)
    except ImportError as error:
        raise PartMissing("zen-engine is not installed; install the `bench` extra") from error
    _agree("zen-engine", expected, [sorted(zen(customer)) for customer in everybody])
    with DurableProcess() as durable:
        _agree("durable-rules", expected, durable.held)
        ours_us, zen_us, durable_us = in_turns(
            lambda: per_item_us(ours, everybody, rounds=150),
            lambda: per_item_us(zen, everybody, rounds=6, at_once=2),
            durable.spell_us,
            turns=_SPELLS,
        )
    return {
        "rules_over_zen": zen_us / ours_us,
        "rules_over_durable": durable_us / ours_us,
        "rules_table_us": ours_us,
        "zen_table_us": zen_us,
        "durable_table_us": durable_us,
    }


def _agree(engine: str, expected: Sequence[list[int]], actual: Sequence[list[int]]) -> None:
    for place, (ours, theirs) in enumerate(zip(expected, actual, strict=True)):
        if ours != theirs:
            raise Disagreement(f"customer {place}: rows {ours} by us, {theirs} by {engine}")


def _alone(rows: Sequence[Row], everybody: Sequence[Customer]) -> Figures:
    """Truths of whole programs, for customers with all values and for such as lack a signal and a score."""
    few = program_of([row.condition for row in rows], many_actions(12))
    frames = [frame_of(customer) for customer in everybody]
    conditions, actions = many_conditions(), many_actions()
    many = program_of(conditions, actions)
    full = [frame_of(customer, trouble=True, churn=0.4) for customer in everybody[:20]]
    lacking = [frame_of(customer) for customer in everybody[:20]]
    for frame in (*full, *lacking):
        frame.propensity = np.linspace(0.0, 0.5, len(actions))
    return {
        "rules_50_us": per_item_us(few.evaluate, frames, rounds=150),
        "rules_1000x100_ms": per_item_us(many.evaluate, full, rounds=60, at_once=1) / 1000,
        "rules_1000x100_missing_ms": per_item_us(many.evaluate, lacking, rounds=60, at_once=1) / 1000,
    }


def _loading() -> Figures:
    """1,000 rules for 100 actions: conditions to a program, and files to a rulebook, as a reload does it."""
    conditions, actions = many_conditions(), many_actions()
    sources, schema = texts.sources(), texts.schema()
    return {
        "compile_1000_s": best_processor_s(lambda: program_of(conditions, actions)),
        "rules_build_1000_s": best_processor_s(lambda: build_rulebook(sources, schema)),
    }
