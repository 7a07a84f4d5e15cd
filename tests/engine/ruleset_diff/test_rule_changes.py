"""What changed between two rule sets, in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.ruleset.changes import Change, FieldChange, How, changes
from engine.ruleset.sources import RuleSources

RULES = Path(__file__).resolve().parents[3] / "rules"


@pytest.fixture(scope="module")
def demo() -> RuleSources:
    """The demo company's rules."""
    return RuleSources.from_directory(RULES)


def edited(demo: RuleSources, file: str, before: str, after: str) -> dict[str, str]:
    """The rules with one edit, which must change something."""
    assert before in demo[file]
    return {**demo, file: demo[file].replace(before, after, 1)}


def only(demo: RuleSources, after: dict[str, str]) -> Change:
    """The one change between the demo's rules and others."""
    (found,) = changes(demo, after)
    return found


def test_the_same_rules_have_no_changes(demo: RuleSources) -> None:
    """A comment and the order of files are none either."""
    commented = {
        file: text if file.endswith(".csv") else f"# a comment\n{text}"
        for file, text in reversed(list(demo.items()))
    }

    assert changes(demo, commented) == ()


def test_a_changed_condition_is_told_with_both_texts_and_its_place(demo: RuleSources) -> None:
    """The line is the one of the rule as it is now."""
    after = edited(demo, "business/care.yaml", "features.tenure_months >= 36", "features.tenure_months >= 48")

    found = only(demo, after)

    line = demo["business/care.yaml"].splitlines().index("  - id: care.loyalty-tenure") + 1
    assert (found.how, found.noun, found.name) == (How.CHANGED, "rule", "care.loyalty-tenure")
    assert ("business/care.yaml", line) == (found.file, found.line)
    expected = FieldChange("condition", "features.tenure_months >= 36", "features.tenure_months >= 48")
    assert (expected,) == found.fields


@pytest.mark.parametrize(
    ("file", "before", "after", "noun", "field", "was", "now"),
    [
        ("business/care.yaml", "share: 0.2", "share: 0.3", "rule", "share", "+20 %", "+30 %"),
        ("business/care.yaml", "factor: 3.0", "factor: 2.0", "rule", "factor", "3", "2"),
        ("business/care.yaml", "state: active", "state: shadow", "rule", "state", "active", "shadow"),
        (
            "business/care.yaml",
            "applies_to: {actions: [callback_offer]}",
            "applies_to: {groups: [care]}",
            "rule",
            "scope.actions",
            "callback_offer",
            "",
        ),
        (
            "business/care.yaml",
            "reason: ANNIVERSARY",
            "reason: ANNIVERSARY\n    valid: {from: 2026-01-01}",
            "rule",
            "validity.from",
            "",
            "2026-01-01",
        ),
        (
            "consent/purposes.yaml",
            "  - id: service\n    basis: contract",
            "  - id: service\n    basis: consent",
            "purpose",
            "basis",
            "contract",
            "consent",
        ),
    ],
)
def test_fields_are_told_as_authors_write_them(
    demo: RuleSources, file: str, before: str, after: str, noun: str, field: str, was: str, now: str
) -> None:
    """Shares in percent, dates as dates, names of fields in words."""
    found = only(demo, edited(demo, file, before, after))

    assert noun == found.noun
    assert FieldChange(field, was, now) in found.fields


def test_an_added_and_a_removed_rule_say_what_they_do(demo: RuleSources) -> None:
    """Effect, scope, condition and reason, in a line."""
    file, rule = "business/care.yaml", demo["business/care.yaml"].partition("  - id: care.plan-check")[2]
    rule = "  - id: care.plan-check" + rule.partition("\n\n")[0] + "\n"
    without = {**demo, file: demo[file].replace(rule, "")}

    removed, added = only(demo, without), only(RuleSources(without), dict(demo))

    summary = "deny for actions plan_check when `features.tenure_months < 12`; reason GETTING_TO_KNOW"
    assert (How.REMOVED, summary) == (removed.how, removed.summary)
    assert (How.ADDED, summary) == (added.how, added.summary)


def test_moving_a_rule_to_another_file_is_no_change(demo: RuleSources) -> None:
    """Only what a rule says counts."""
    head, _, rules = demo["business/care.yaml"].partition("rules:\n")
    first, _, rest = rules.partition("\n\n")
    moved = {
        **demo,
        "business/care.yaml": f"{head}rules:\n{rest}",
        "business/other.yaml": f"{head}rules:\n{first}\n",
    }

    assert changes(demo, moved) == ()


def test_consent_comes_before_rules_and_rules_before_actions(demo: RuleSources) -> None:
    """What readers must not miss stands first."""
    after = edited(demo, "consent/purposes.yaml", "      app: legitimate_interest\n", "")
    after = edited(RuleSources(after), "business/care.yaml", "share: 0.2", "share: 0.3")
    value = next(line for line in demo["catalogue.yaml"].splitlines() if line.strip().startswith("value:"))
    after = edited(RuleSources(after), "catalogue.yaml", value, value.partition(":")[0] + ": 1.5")

    assert [found.noun for found in changes(demo, after)] == ["purpose", "rule", "action"]
