"""An evaluator that starts one worker for all tests that ask the same signals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from engine.signals.evaluator import SignalEvaluator
from engine.signals.patterns import SignalPatterns

Opening = Callable[..., SignalEvaluator]


@pytest.fixture
def opened() -> Iterator[Opening]:
    """Opens evaluators and closes them after the test."""
    with ExitStack() as stack:

        def open_one(patterns: SignalPatterns, **limits: float) -> SignalEvaluator:
            return stack.enter_context(SignalEvaluator(patterns, **limits))  # type: ignore[arg-type]  # limits

        yield open_one
