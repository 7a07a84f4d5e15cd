"""Who is in a challenger's share: exactly so many, always the same, and others with another salt."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.canary import Share

SALT, OTHER = "00112233445566aa", "ffeeddccbbaa9988"
CUSTOMERS = [f"C{number:06d}" for number in range(40_000)]


@pytest.mark.parametrize("percent", [0.5, 1.0, 5.0, 25.0, 50.0, 99.5])
def test_a_share_holds_as_many_customers_as_it_says(percent: float) -> None:
    """Within four standard deviations of a fair draw; with fixed names this never changes."""
    share = Share.of("churn", salt=SALT, percent=percent)

    held = sum(map(share.holds, CUSTOMERS))

    expected = len(CUSTOMERS) * percent / 100
    assert abs(held - expected) < 4 * np.sqrt(expected * (1 - percent / 100))


@given(st.text(min_size=1, max_size=128).filter(str.isprintable))
def test_nobody_is_in_nothing_and_everybody_is_in_all(customer_id: str) -> None:
    """The ends are exact."""
    none, everybody = (Share.of("churn", salt=SALT, percent=percent) for percent in (0, 100))

    assert (none.holds(customer_id), everybody.holds(customer_id)) == (False, True)


@given(
    st.text(min_size=1, max_size=20).filter(str.isprintable),
    st.floats(0, 100),
    st.floats(0, 100),
)
def test_who_is_in_stays_in_when_the_share_grows(customer_id: str, one: float, other: float) -> None:
    """A step up takes the challenger away from nobody."""
    small, large = (Share.of("churn", salt=SALT, percent=percent) for percent in sorted((one, other)))

    assert small.holds(customer_id) <= large.holds(customer_id)


def test_another_rollout_tries_other_customers() -> None:
    """With another salt, being in one share says nothing of being in the other."""
    one, other = (Share.of("churn", salt=salt, percent=10) for salt in (SALT, OTHER))

    both = sum(one.holds(customer) and other.holds(customer) for customer in CUSTOMERS)

    expected = len(CUSTOMERS) * 0.01
    assert abs(both - expected) < 4 * np.sqrt(expected)


def test_every_process_chooses_the_same_customers() -> None:
    """Whatever seeds the hashes of Python itself, on whichever machine: these are written down."""
    share = Share.of("propensity", salt=SALT, percent=10)
    program = (
        "from engine.core.canary import Share\n"
        f"share = Share.of('propensity', salt={SALT!r}, percent=10)\n"
        "print(','.join(c for c in (f'C{n:06d}' for n in range(60)) if share.holds(c)))"
    )

    elsewhere = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )

    chosen = [customer for customer in CUSTOMERS[:60] if share.holds(customer)]
    assert elsewhere.stdout.strip().split(",") == chosen
    assert chosen == ["C000009", "C000012", "C000035"]
