"""The compiled conditions against Google's CEL runtime: same inputs, same truth.

`ORACLE_EXAMPLES=10000 pytest tests/engine/ruleset/test_ruleset_oracle.py` looks longer.
"""

from __future__ import annotations

import os

import numpy as np
from conditions import (
    ACTIONS,
    collection_conditions,
    compiled,
    conditions,
    frames,
    full_frames,
    reference,
    whole_number_conditions,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.core.rulebook import Frame

_EXAMPLES = int(os.environ.get("ORACLE_EXAMPLES", "200"))
_SETTINGS = settings(max_examples=_EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


@_SETTINGS
@given(st.lists(conditions(), min_size=1, max_size=3), st.lists(frames(), min_size=1, max_size=3))
def test_truth_is_that_of_the_reference_where_inputs_are_missing(
    texts: list[str], given: list[Frame]
) -> None:
    """TRUE, FALSE and UNKNOWN are the reference's true, false and error, for every action."""
    program = compiled(texts)

    for frame in given:
        actual = program.evaluate(frame)

        for row, rule in zip(actual.tolist(), program.rules, strict=True):
            expected = [reference(rule.condition, frame, place) for place in range(len(ACTIONS))]
            assert row == expected, rule.condition


@_SETTINGS
@given(st.lists(whole_number_conditions(), min_size=6, max_size=6), st.one_of(frames(), full_frames()))
def test_whole_numbers_are_those_of_64_bits(texts: list[str], frame: Frame) -> None:
    """Division truncates, overflow and division by zero are unknown, as in the reference."""
    program = compiled(texts)

    actual = program.evaluate(frame)

    expected = [
        [reference(rule.condition, frame, place) for place in range(len(ACTIONS))] for rule in program.rules
    ]
    np.testing.assert_array_equal(actual, expected)


@_SETTINGS
@given(st.lists(conditions(), min_size=1, max_size=3), full_frames())
def test_truth_is_that_of_the_reference_where_nothing_is_missing(texts: list[str], frame: Frame) -> None:
    """The fast paths give the reference's answers too."""
    program = compiled(texts)

    actual = program.evaluate(frame)

    expected = [
        [reference(rule.condition, frame, place) for place in range(len(ACTIONS))] for rule in program.rules
    ]
    np.testing.assert_array_equal(actual, expected)


@_SETTINGS
@given(st.lists(collection_conditions(), min_size=1, max_size=4), st.one_of(frames(), full_frames()))
def test_lists_and_maps_are_those_of_the_reference(texts: list[str], frame: Frame) -> None:
    """Literals, indexing, `in`, equality, size and macros, with missing inputs and elements that fail."""
    program = compiled(texts)

    actual = program.evaluate(frame)

    expected = [
        [reference(rule.condition, frame, place) for place in range(len(ACTIONS))] for rule in program.rules
    ]
    np.testing.assert_array_equal(actual, expected)
