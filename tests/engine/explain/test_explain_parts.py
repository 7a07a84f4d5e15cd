"""The parts explanations are made of: literals that rules compare with, reference ranges, sentences."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from explained_company import settings_of

from engine.core.change import Change
from engine.core.counterfactual import Counterfactual, Outcome
from engine.core.rulebook import Input, InputType
from engine.core.snapshot import Snapshot
from engine.models.ranges import number_ranges
from engine.rulefiles import read_files
from engine.ruleset.cel import ConditionLanguage
from engine.ruleset.comparisons import compared_literals
from engine.service.whatif_words import tell_what_if
from engine.snapshots import compile_snapshot
from model_registry import resolve

INPUTS = (
    Input("features.tenure", InputType.INT),
    Input("features.charge", InputType.DOUBLE),
    Input("context.page", InputType.STRING),
    Input("features.senior", InputType.BOOL),
)


@pytest.fixture(scope="module")
def demo() -> Snapshot:
    """The demo's rules and models, compiled."""
    settings = settings_of(Path())
    return compile_snapshot(read_files(settings), settings.registry)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("features.tenure >= 24 || features.tenure < 6", {"features.tenure": (6, 24)}),
        ('context.page in ["/a", "/b"]', {"context.page": ("/a", "/b")}),
        ('context.page.startsWith("/help")', {"context.page": ("/help",)}),
        ("features.charge + 10.0 <= 120.0", {"features.charge": (10.0, 120.0)}),
        ("features.tenure % 12 == 0", {"features.tenure": (0, 12)}),
        ("features.senior && features.tenure > 3", {"features.tenure": (3,)}),
    ],
)
def test_what_rules_compare_an_input_with_is_found(condition: str, expected: dict[str, tuple[object, ...]]):
    """Each comparison names its literals for the input it compares, and for no other."""
    node, problems = ConditionLanguage(INPUTS, {}).check(condition)

    assert problems == []
    assert node is not None
    assert compared_literals([node]) == expected


def test_the_numbers_that_models_read_have_ranges():
    """The published models' references tell where a number lies among customers."""
    registry = settings_of(Path()).registry
    versions = {name: resolve(registry, name) for name in ("churn", "propensity")}

    ranges = number_ranges(registry, versions)

    assert set(ranges) == {"features.tenure_months", "features.monthly_charges", "features.total_charges"}
    assert all(known.spread > 0 for known in ranges.values())
    assert ranges["features.tenure_months"].edges[0] < ranges["features.tenure_months"].edges[-1]


def test_every_input_that_may_be_told_has_a_name_in_every_language(demo: Snapshot):
    """No machine name reaches a person: features, signals, context, places and consents have labels."""
    rulebook = demo.rulebook
    told = {item.name for item in rulebook.vocabulary.inputs if not item.name.startswith("consents.")}
    told |= {"request.filter", "explain.contacts", "explain.local_time", "explain.budget"}
    told |= {f"explain.{outcome}" for outcome in Outcome} | {"explain.stays"}

    assert told - rulebook.labels.keys() == set()


def test_a_rule_set_from_before_the_sentences_is_answered_in_bare_facts(demo: Snapshot):
    """Decisions of old versions are explained with their own labels, or without any."""
    without = dataclasses.replace(demo, rulebook=dataclasses.replace(demo.rulebook, labels={}))
    change = Change("features.contract", "month-to-month", "two-year", 2.0)
    found = Counterfactual(Outcome.FOUND, change, rank=1)
    action = demo.rulebook.actions[0]

    told = tell_what_if(found, action=action, snapshot=without, language="en")
    protected = tell_what_if(
        Counterfactual(Outcome.PROTECTED, protected=("features.senior_citizen",)),
        action=action,
        snapshot=without,
        language="en",
    )

    assert told == "found: features.contract: month-to-month -> two-year"
    assert protected == "protected: features.senior_citizen"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            Change("features.tenure_months", 3, 1, 1.0),
            "If the time as a customer were “1 month” (it is “3",
        ),
        (
            Change("features.total_charges", None, 20.0, 1.0),
            "If the charges so far were “20.00 CHF” (it is “not",
        ),
        (Change("context.call_reason", "cancel", None, 1.0), "If the reason of the call were “not given”"),
        (Change("features.online_security", False, True, 1.0), "If Online Security were “yes” (it is “no”)"),
        (Change("contact.cap/offer", 6, 5, 1.0), "If the number of recent contacts were “5” (it is “6”)"),
        (
            Change("contact.contact.quiet-nights/offer", "2026-11-10 22:15", "2026-11-11 08:00", 1.0),
            "If the time where the customer is were “2026-11-11 08:00” (it is “2026-11-10 22:15”)",
        ),
        (
            Change("contact.contact.free-addons-budget/offer", 0, 1, 1.0),
            "If what is left of the budget were “1” (it is “0”)",
        ),
        (Change("consents.marketing", "unknown", "granted", 1.0), "If consent to marketing were “given”"),
        (Change("request.placement", "checkout", None, 1.0), "If the placement were “any”"),
    ],
)
def test_changes_read_as_people_would_say_them(demo: Snapshot, change: Change, expected: str):
    """Values have their units and names; what was not there is said in words."""
    found = Counterfactual(Outcome.FOUND, change, rank=1)

    told = tell_what_if(found, action=demo.rulebook.actions[0], snapshot=demo, language="en")

    assert told.startswith(expected)
