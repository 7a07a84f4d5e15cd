"""When calls are sent."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.schedule import arrivals, dealt


def test_constant_arrivals_are_evenly_apart() -> None:
    """A hundred a second for two seconds, ten milliseconds from each to the next."""
    instants = arrivals("constant", rate=100, seconds=2, rng=np.random.default_rng(1))

    assert len(instants) == 200
    assert set(np.diff(instants)) == {10_000_000}
    assert instants[0] == 0


def test_poisson_arrivals_come_as_people_do() -> None:
    """Their gaps scatter as much as they are long, and their number about its mean."""
    rng = np.random.default_rng(1)

    instants = arrivals("poisson", rate=500, seconds=20, rng=rng)

    gaps = np.diff(instants)
    assert len(instants) == pytest.approx(10_000, abs=400)
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, abs=0.05)
    assert (gaps >= 0).all()


@given(count=st.integers(0, 200), parts=st.integers(1, 7))
def test_each_call_is_dealt_to_one_sender(count: int, parts: int) -> None:
    """And the senders have as many as each other, but for one."""
    dealings = dealt(np.arange(count), parts)

    assert sorted(np.concatenate(dealings).tolist()) == list(range(count))
    assert max(map(len, dealings)) - min(map(len, dealings)) <= 1
