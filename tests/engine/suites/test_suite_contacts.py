"""Suites state what is reserved, what is left of budgets, and what the customer's clock shows."""

from __future__ import annotations

import pytest
from suite_company import BASE, HEAD, SCHEMA

from engine.core.snapshot import assemble
from engine.ruleset.build import build_rulebook
from engine.ruleset.diagnostics import Diagnostic
from engine.ruleset.sources import RuleSources
from engine.ruleset.trace import RulePlaces
from engine.suites.cases import ConcreteCase, expand_suites
from engine.suites.running import Result, SuiteRun
from engine.suites.scores import TableScorer

PACK = """
apiVersion: arbiter/v1
kind: ContactPack
metadata: {name: small, owner: tests, description: Limits of every kind}
time_zone: Europe/Zurich
policies:
  - {id: contact.cap, kind: cap, applies_to: {groups: [retention]}, per: group, counts: [reserved, shown],
     limit: 1, window: 7d, reserve_for: 30m, reason: TOO_OFTEN}
  - {id: contact.budget, kind: budget, applies_to: {groups: [retention]}, per: action,
     counts: [reserved, shown], limit: 10, window: 7d, reserve_for: 30m, reason: TOO_OFTEN}
  - {id: contact.quiet, kind: quiet_hours, applies_to: {groups: [retention]}, channels: [email],
     from: "21:00", to: "08:00", reason: TOO_OFTEN}
"""
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in BASE.glob("*.yaml")} | {"contact.yaml": PACK}
SOURCES = RuleSources.from_mapping(TEXTS)
RULEBOOK = build_rulebook(SOURCES, SCHEMA)
RESERVED = HEAD.replace(
    "    scores:",
    "    contacts: [{action: discount, channel: web, outcome: reserved, ago: 29m}]\n    scores:",
)


def expanded(cases: str, *, head: str = HEAD) -> tuple[list[ConcreteCase], list[Diagnostic]]:
    """The concrete cases of a suite text, and what is wrong with it."""
    return expand_suites({"suites/small_test.yaml": head + cases}, RULEBOOK, SCHEMA)


def ran(cases: str, *, head: str = HEAD) -> list[Result]:
    """The results of a suite text without mistakes."""
    concrete, problems = expanded(cases, head=head)
    assert problems == []
    scorer = TableScorer(actions=RULEBOOK.actions)
    snapshot = assemble(rulebook=RULEBOOK, schema=SCHEMA, scorer=scorer, engine_version="test")
    return SuiteRun(snapshot, RulePlaces(SOURCES), lambda: scorer).run(concrete)


CASE = "  - {name: c, customer: nora, channel: web, placement: hero, %s}\n"
ON_EMAIL = "  - {name: c, customer: nora, channel: email, %s}\n"
OUT = "expect: {suppressed: {discount: {stage: contact, rules: [%s]}}}"
IN = "expect: {returned: [discount]}"


@pytest.mark.parametrize(
    ("head", "case", "expect"),
    [
        (HEAD, CASE, IN),
        (RESERVED, CASE, OUT % "contact.cap"),
        (RESERVED.replace("29m", "30m"), CASE, IN),
        (RESERVED.replace("ago: 29m", "ago: 29m, reserved_for: 20m"), CASE, IN),
        (HEAD, CASE, "budgets: {contact.budget/discount: 1}, " + IN),
        (HEAD, CASE, "budgets: {contact.budget/discount: 0}, " + OUT % "contact.budget"),
        (HEAD, CASE, "set: {budgets.contact.budget/discount: 0}, " + OUT % "contact.budget"),
        (HEAD, ON_EMAIL, IN),
        (HEAD, ON_EMAIL, 'now: "2026-06-01T22:30[Europe/Zurich]", ' + OUT % "contact.quiet"),
        (HEAD, ON_EMAIL, 'set: {now: "2026-06-01T20:59[Europe/Zurich]"}, ' + IN),
    ],
)
def test_what_limits_contacts_can_be_stated(head: str, case: str, expect: str) -> None:
    """Reservations by how long ago they were made, budgets by what is left, and local times."""
    (result,) = ran(case % expect, head=head)

    assert [difference.sentence for difference in result.differences] == []


@pytest.mark.parametrize(
    ("head", "said", "told"),
    [
        (HEAD, "budgets: {contact.budget: 0}", "unknown budget `contact.budget`"),
        (HEAD, "set: {budgets.contact.budget/discount: many}", "`many` is not what is left of a budget"),
        (HEAD, "set: {budgets.contact.budget/discount: -1}", "`-1` is not what is left of a budget"),
        (HEAD, 'set: {now: "2026-03-29T02:30[Europe/Zurich]"}', "clocks in Europe/Zurich skip that time"),
        (RESERVED.replace("reserved,", "shown, reserved_for: 30m,"), "limit: 3", "is not reserved"),
        (
            RESERVED.replace("action: discount", "action: bill_help"),
            "limit: 3",
            "no contact policy reserves `bill_help`",
        ),
    ],
)
def test_what_cannot_be_is_told(head: str, said: str, told: str) -> None:
    """A fixture that means nothing would make a case pass or fail for the wrong reason."""
    _, problems = expanded(CASE % said, head=head)

    assert [told in problem.message for problem in problems] == [True]


def test_a_local_time_in_a_case_is_checked_as_it_is_read() -> None:
    """`now` of a case, too, with its place."""
    _, problems = expanded(CASE % 'now: "2026-10-25T02:30[Europe/Zurich]"')

    assert {problem.code for problem in problems} == {"R204"}
    assert any("show that time twice; write its offset too" in problem.message for problem in problems)
