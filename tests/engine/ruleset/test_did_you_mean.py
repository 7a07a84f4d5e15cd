"""What an author may have meant: names spelt nearly the same, and names of which a part was written."""

from __future__ import annotations

import pytest

from engine.ruleset.diagnostics import did_you_mean

FEATURES = (
    "app_sessions_30d", "cancel_page_visits_7d", "contract", "data_usage_gb_30d", "failed_payments_90d",
    "internet_service", "monthly_charges", "paperless_billing", "payment_method", "senior_citizen",
    "streaming_movies", "streaming_tv", "support_calls_30d", "tenure_months", "total_charges",
)  # fmt: skip


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("tenur", ["tenure_months"]),
        ("tenre", ["tenure_months"]),
        ("Tenure_Months", ["tenure_months"]),
        ("contrat", ["contract"]),
        ("calls", ["support_calls_30d"]),
        ("usage_data", ["data_usage_gb_30d"]),
        ("charges", ["total_charges", "monthly_charges"]),
        ("pay", ["payment_method", "failed_payments_90d"]),
        ("stream", ["streaming_tv", "streaming_movies"]),
    ],
)
def test_a_beginning_or_a_part_of_a_name_finds_it(written: str, meant: list[str]) -> None:
    """The nearest come first, and never more than two."""
    words = " or ".join(f"`{name}`" for name in meant)

    assert did_you_mean(written, FEATURES) == f"did you mean {words}?"


@pytest.mark.parametrize("written", ["age", "t", "te", "", "churn", "income", "tenure_weeks_ago", "_"])
def test_what_is_no_part_of_a_name_is_not_guessed_at(written: str) -> None:
    """`age` stands inside `usage` and `page`, and means neither; then all there is is told."""
    told = did_you_mean(written, FEATURES)

    assert told.startswith("known: app_sessions_30d, ")
    assert told.endswith(" and 3 more")


def test_upper_and_lower_case_are_one() -> None:
    """Constants are in capitals, and typed in a hurry."""
    assert did_you_mean("high_bill", ["HIGH_BILL", "LOW"]) == "did you mean `HIGH_BILL`?"


def test_where_nothing_is_declared_that_is_told() -> None:
    """There is nothing to choose from."""
    assert did_you_mean("x", []) == "none is declared"
