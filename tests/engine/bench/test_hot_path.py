"""The guard of the hot path: what a decision costs is counted, and held to a committed budget."""

from __future__ import annotations

import pytest

from engine.bench import hotpath
from engine.bench.hotpath import Cost

_HOW_TO = (
    "if it is worth it, run `python -m engine.bench --write-budget` with Python 3.11 and 3.12 and commit"
)


def test_a_decision_takes_no_more_than_its_budget():
    """The interpreter's steps and calls of fixed decisions stay within five per cent of what was agreed."""
    allowed = hotpath.budget()
    if allowed is None:
        pytest.skip("nobody has written the budget of this version of Python down")

    over = hotpath.over_budget(hotpath.cost(), allowed)

    assert not over, f"{'; '.join(over)}; {_HOW_TO}"


def test_scoring_and_explaining_keep_their_distance_from_onnxruntime():
    """What NumPy and machine code do is not counted, so it is compared with one run of onnxruntime."""
    assert hotpath.native_ratio() < hotpath.NATIVE_LIMIT


def test_a_decision_that_grew_is_told_with_the_functions_that_did():
    """Six per cent more is over the budget, and the function that takes it is named first."""
    functions = {"instructions": {"a": 60, "b": 40}, "calls": {}}
    allowed = {"instructions": 100, "calls": 10, "functions": functions}

    (over,) = hotpath.over_budget(Cost({"a": 61, "b": 45}, {"a": 10}), allowed)

    assert over.startswith("instructions: 106, 6.0 % above 100; most grew b +5, a +1")


def test_a_decision_within_five_per_cent_is_no_matter():
    """A budget is no straitjacket."""
    allowed = {"instructions": 100, "calls": 10, "functions": {"instructions": {}, "calls": {}}}

    assert hotpath.over_budget(Cost({"a": 105}, {"a": 10}), allowed) == []
