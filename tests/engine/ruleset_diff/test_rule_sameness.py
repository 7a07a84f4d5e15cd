"""Deciding once where a change cannot touch a customer never changes what a comparison says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pytest

from engine.core.pipeline import decide, decide_examined
from engine.core.sameness import Sameness
from engine.core.snapshot import Snapshot
from engine.domain import Decision
from engine.publishing import named_set
from engine.service.impact import RETURNED, Case, compare
from engine.settings import Settings
from engine.snapshots import compile_snapshot

Edited = Callable[[str, str, str], Path]
Compiled = Callable[..., Snapshot]
_NEW_RULE = """rules:
  - id: care.new-rule
    applies_to: {groups: [care]}
    when: features.tenure_months >= 60
    effect: lever
    share: 0.4
    reason: ANNIVERSARY
    state: STATE

"""


@dataclass(frozen=True)
class Edit:
    """An edit of the demo's rules: file, text before, text after."""

    file: str
    before: str
    after: str


TOUCHING = {
    "a lever's share": Edit("business/care.yaml", "share: 0.5", "share: -0.9"),
    "a threshold of churn": Edit("business/retention.yaml", "scores.churn >= 0.3", "scores.churn >= 0.6"),
    "a condition": Edit(
        "business/retention.yaml", "features.tenure_months < 3", "features.tenure_months < 9"
    ),
    "a rule that is put in the shadow": Edit("business/care.yaml", "state: active", "state: shadow"),
    "a new lever": Edit("business/care.yaml", "rules:\n", _NEW_RULE.replace("STATE", "active")),
    "a rule that ends": Edit(
        "business/care.yaml", "reason: ANNIVERSARY", "reason: ANNIVERSARY\n    valid: {to: 2020-01-01}"
    ),
    "a purpose": Edit("consent/purposes.yaml", "      web: legitimate_interest\n", ""),
    "a contact limit": Edit("contact/limits.yaml", "limit: 6\n    window: 14d", "limit: 1\n    window: 52w"),
    "a cell of a table": Edit(
        "tables/bill-and-contract.yaml", '">= 90"], then: 0.15', '">= 95"], then: 0.15'
    ),
    "the output of a row": Edit("tables/price-lock-value.csv", "[50..90),< 24,150", "[50..90),< 24,15"),
}
TOUCHING_NOBODY = {
    "a text": Edit("catalogue.yaml", "headline: {en: ", "headline: {en: New and "),
    "a new rule in the shadow": Edit("business/care.yaml", "rules:\n", _NEW_RULE.replace("STATE", "shadow")),
    "a condition said otherwise": Edit(
        "business/retention.yaml", "features.tenure_months < 3", "3 > features.tenure_months"
    ),
}
TOUCHING_ALL = {
    "the threshold of arbitration": Edit("arbitration.yaml", "threshold: 1.0", "threshold: 9.0"),
    "a value": Edit("catalogue.yaml", "    value: ", "    value: 1"),
}


def told(decision: Decision) -> tuple[object, ...]:
    """All of a decision that a comparison looks at."""
    fates = {out.action_id: (out.stage, out.priority) for out in decision.suppressed}
    fates |= {action.action_id: (RETURNED, action.priority) for action in decision.actions}
    return [action.action_id for action in decision.actions], fates, decision.consents, decision.profiled


@pytest.fixture
def some(demo_cast: list[Case]) -> list[Case]:
    """Fewer of the customers."""
    return demo_cast[::4]


def held(before: Snapshot, after: Snapshot, cast: list[Case]) -> int:
    """How many cases are the same by `Sameness`, each of which is proven by deciding it anew."""
    sameness, count = Sameness(before, after), 0
    for case in cast:
        request, state, now_ms = case.request, case.state, case.now_ms
        decision, examination = decide_examined(before, request, state, now_ms=now_ms)
        if sameness.holds(request, state, now_ms=now_ms, decision=decision, examination=examination):
            anew = decide(after, request, state, now_ms=now_ms, with_model_reasons=False)
            assert told(decision) == told(anew)
            count += 1
    return count


@pytest.fixture
def compiled(diff_settings: Settings, demo_snapshot: Snapshot, rules_edited: Edited) -> Compiled:
    """Compiles the demo's rules with edits."""

    def compiled_with(*edits: Edit) -> Snapshot:
        for edit in edits:
            folder = rules_edited(edit.file, edit.before, edit.after)
        archived = named_set(diff_settings, str(folder)).archived
        return compile_snapshot(archived, diff_settings.registry, beside=demo_snapshot)

    return compiled_with


@pytest.mark.parametrize("what", TOUCHING)
def test_who_is_the_same_is_decided_the_same_and_who_changes_is_not_missed(
    demo_snapshot: Snapshot, some: list[Case], compiled: Compiled, what: str
) -> None:
    """Both ways round, as adding and removing are not alike."""
    after = compiled(TOUCHING[what])

    forth, back = held(demo_snapshot, after, some), held(after, demo_snapshot, some)

    assert 0 < forth < len(some)
    assert 0 < back < len(some)


@pytest.mark.parametrize("what", TOUCHING_NOBODY)
def test_a_change_that_does_nothing_is_decided_once_for_all(
    demo_snapshot: Snapshot, some: list[Case], compiled: Compiled, what: str
) -> None:
    """Words, rules in the shadow, and conditions that are true of the same customers."""
    assert held(demo_snapshot, compiled(TOUCHING_NOBODY[what]), some) == len(some)


@pytest.mark.parametrize("what", TOUCHING_ALL)
def test_a_change_of_what_all_decisions_share_is_decided_twice_for_all(
    demo_snapshot: Snapshot, some: list[Case], compiled: Compiled, what: str
) -> None:
    """Nothing is guessed."""
    assert held(demo_snapshot, compiled(TOUCHING_ALL[what]), some[:50]) == 0


def test_the_quick_way_counts_what_deciding_everything_twice_counts(
    demo_snapshot: Snapshot, demo_cast: list[Case], compiled: Compiled
) -> None:
    """Figure by figure. Models of another version forbid both shared scores and deciding once."""
    names = ("a purpose", "a threshold of churn", "the output of a row", "a contact limit")
    after = compiled(*(TOUCHING[name] for name in names))
    elsewhere = replace(demo_snapshot, versions=replace(demo_snapshot.versions, models={"churn": 0}))

    quick = compare(demo_snapshot, after, demo_cast, by=["contract"])
    plain = compare(elsewhere, after, demo_cast, by=["contract"])

    assert 0 == plain.decided_once < quick.decided_once
    assert asdict(replace(plain, decided_once=quick.decided_once)) == asdict(quick)
    assert quick.changed > 0


def test_levers_that_are_added_up_in_another_order_are_not_taken_as_the_same(
    demo_snapshot: Snapshot, some: list[Case], rules_edited: Edited, diff_settings: Settings
) -> None:
    """Sums of floating-point numbers depend on it."""
    folder = rules_edited("arbitration.yaml", "# A contact", "# A contact")
    (folder / "business" / "retention.yaml").rename(folder / "business" / "a-retention.yaml")
    archived = named_set(diff_settings, str(folder)).archived
    after = compile_snapshot(archived, diff_settings.registry, beside=demo_snapshot)

    assert held(demo_snapshot, after, some[:50]) == 0
