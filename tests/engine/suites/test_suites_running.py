"""Suites: cases decide, expectations hold or are told, failing ones show what the rules saw."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import pytest
from suite_company import HEAD, expanded, ran

from engine.suites.report import as_json, as_junit, as_text, coverage_text
from engine.suites.running import chosen

WEB = "    customer: nora\n    channel: web\n    placement: hero\n"


def _case(expect: str, *, more: str = "", name: str = "a case") -> str:
    return f"  - name: {name}\n{WEB}{more}    expect: {expect}\n"


@pytest.mark.parametrize(
    "expect",
    [
        "{actions: [discount, bill_help]}",
        "{first: discount, returned: [bill_help]}",
        "{churn_band: high, profiled: true, no_action: false, shadow_rules: []}",
        "{reasons: {discount: [BEST_VALUE]}}",
    ],
)
def test_what_is_decided_can_be_expected(expect: str) -> None:
    """Order, membership, band, consent and reasons are all expectations."""
    results, _ = ran(_case(expect))

    assert [d.sentence for d in results[0].differences] == []


@pytest.mark.parametrize(
    ("expect", "told"),
    [
        ("{actions: [bill_help]}", "actions: expected [bill_help], got [discount, bill_help]"),
        ("{first: bill_help}", "first: expected bill_help, got discount"),
        ("{not_returned: [discount]}", "not_returned: discount was returned at rank 1"),
        ("{suppressed: {discount: eligibility}}", "suppressed: discount was returned"),
        ("{reasons: {discount: [RISK_LOW]}}", "reasons: discount with RISK_LOW, got"),
        ("{no_action: true}", "no_action: expected true, got [discount, bill_help]"),
        ("{churn_band: low}", "churn_band: expected low, got high"),
        ("{profiled: false}", "profiled: expected false, got true"),
        ("{shadow_rules: [service.boost]}", "shadow_rules: expected [service.boost], got []"),
    ],
)
def test_what_is_not_as_expected_is_told_in_a_sentence(expect: str, told: str) -> None:
    """Each kind of expectation names what was wanted and what came."""
    results, _ = ran(_case(expect))

    assert len(results[0].differences) == 1
    assert results[0].differences[0].sentence.startswith(told)


def test_suppressions_are_held_to_stage_reason_and_rule() -> None:
    """A fate is wrong in any of its parts."""
    more = "    set: {scores.churn: 0.1}\n"
    right = "{suppressed: {discount: {stage: eligibility, reasons: [RISK_LOW], rules: [retention.at-risk]}}}"
    wrong = "{suppressed: {discount: {stage: contact, reasons: [TOO_OFTEN], rules: [contact.cap]}}}"

    results, _ = ran(_case(right, more=more) + _case(wrong, more=more, name="another"))

    fate = "removed at eligibility (RISK_LOW by retention.at-risk)"
    assert [[d.sentence for d in r.differences] for r in results] == [
        [],
        [
            f"suppressed: discount at stage contact, got {fate}",
            f"suppressed: discount with reason TOO_OFTEN, got {fate}",
            "suppressed: discount by rule contact.cap, got [retention.at-risk]",
        ],
    ]


def test_nothing_to_propose_has_reasons_of_its_own() -> None:
    """Doing nothing is an answer, and its reasons can be expected."""
    more = "    filter: {actions: [discount]}\n    set: {scores.churn: 0.1}\n"

    results, _ = ran(_case("{no_action: [RISK_LOW]}", more=more))

    assert "no action" in as_text(results) or results[0].holds


def test_a_failing_case_prints_the_condition_with_every_value() -> None:
    """The author sees at once which comparison was not as thought."""
    more = "    set: {scores.churn: 0.2}\n"

    results, _ = ran(_case("{first: discount}", more=more, name="at risk"))

    assert as_text(results) == "\n".join(
        [
            "FAILED small: at risk",
            "  suites/small_test.yaml:11:5",
            "  first: expected discount, got bill_help",
            "  decided: 1. bill_help (3.00)",
            "  allow retention.at-risk, asked about discount",
            "    rules.yaml:8:11",
            '    scores.churn >= 0.55 && features.contract == "month-to-month"  =>  false',
            "      scores.churn >= 0.55  =>  false",
            "        scores.churn  =>  0.2",
            '      features.contract == "month-to-month"  =>  true',
            '        features.contract  =>  "month-to-month"',
            "",
            "1 case, 1 failed",
        ]
    )


def test_withheld_and_absent_inputs_are_told_apart_in_traces() -> None:
    """Without consent to profiling the score is withheld, not absent."""
    more = "    set: {consents.profiling: null}\n"

    results, _ = ran(_case("{first: discount}", more=more))

    assert "scores.churn  =>  unknown (withheld)" in as_text(results)


def test_a_matrix_is_every_combination_and_rows_have_their_own_expectations() -> None:
    """One entry stands for many cases, each with its values in its name."""
    matrix = (
        "    matrix:\n      scores.churn: [0.6, 0.9]\n      features.tenure: [1, 2]\n"
        "    rows:\n"
        "      - {set: {features.contract: month-to-month}, expect: {first: discount}}\n"
        "      - {set: {features.contract: two-year}, expect: {first: bill_help}}\n"
    )

    results, _ = ran(f"  - name: risk\n{WEB}{matrix}")

    assert [r.holds for r in results] == [True] * 8
    assert results[1].case.name == ("risk [scores.churn=0.6, features.tenure=1, features.contract=two-year]")


def test_now_is_frozen_and_contacts_lie_before_it() -> None:
    """Windows, validity and time of day depend on the case and never on the clock."""
    contacts = HEAD.replace(
        "    scores:",
        "    contacts:\n"
        "      - {action: discount, channel: web, outcome: shown, ago: 1d}\n"
        "      - {action: discount, channel: web, outcome: shown, ago: 6d}\n"
        "    scores:",
    )
    capped = _case("{suppressed: {discount: {stage: contact, reasons: [TOO_OFTEN]}}}")
    expired = _case(
        "{suppressed: {discount: availability}}", more="    now: 2027-01-01\n", name="after the end"
    )

    results, _ = ran(capped + expired, head=contacts)

    assert [r.holds for r in results] == [True, True]


def test_a_customer_may_be_like_another() -> None:
    """Only what differs is written."""
    head = HEAD.replace("cases:\n", "  paul:\n    like: nora\n    consents: {marketing: objected}\ncases:\n")
    case = _case("{suppressed: {discount: consent}, churn_band: high}")

    results, _ = ran(case.replace("nora", "paul").replace("churn_band: high", "first: bill_help"), head=head)

    assert results[0].holds


def test_old_views_are_stale() -> None:
    """A fixture says how old what it knows is."""
    head = HEAD.replace("    scores:", "    ages: {all: 30h}\n    scores:")

    results, _ = ran(_case("{first: bill_help}"), head=head)
    failing, _ = ran(_case("{first: discount}"), head=head)

    assert results[0].holds
    assert "features.contract  =>  unknown (stale)" in as_text(failing)


def test_every_mistake_in_a_suite_is_told_with_its_place() -> None:
    """Unknown names would make a case pass or fail for the wrong reason."""
    cases = (
        "  - name: a\n    customer: norah\n    channel: web\n"
        "  - name: b\n    customer: nora\n    channel: webb\n"
        "  - name: c\n    customer: nora\n    channel: web\n    set: {features.tenur: 3, now: soon}\n"
        "    expect: {first: discont, suppressed: {bill_help: {reasons: [RISK_LO]}}}\n"
        "  - name: d\n    customer: nora\n    channel: web\n    context: {call_reason: 3}\n"
        "  - name: e\n    customer: nora\n    channel: web\n    placement: heroo\n"
        "  - name: f\n    customer: nora\n    channel: web\n    expect: {churn_band: hi, firsts: x}\n"
    )

    _, structural = expanded(cases)
    _, problems = expanded(cases.split("  - name: f")[0])

    assert [d.message for d in structural] == ["unknown field `firsts`"]
    assert [(d.line, d.column, d.message, d.advice) for d in problems] == [
        (12, 15, "unknown customer `norah`", "did you mean `nora`?"),
        (16, 14, "unknown channel `webb`", "did you mean `web`?"),
        (20, 27, "unknown feature `tenur`", "did you mean `tenure`?"),
        (20, 35, "not a date or instant; write 2026-01-31 or 2026-01-31T08:00:00Z", ""),
        (21, 21, "unknown action `discont`", "did you mean `discount`?"),
        (21, 65, "unknown reason `RISK_LO`", "did you mean `RISK_LOW`?"),
        (25, 28, "`3` is not of type string", ""),
        (26, 5, "channel `web` has no placement `heroo`", "did you mean `hero`?"),
    ]


def test_wrong_fixtures_are_told_once() -> None:
    """A customer's mistake is one, however many cases use it."""
    head = HEAD.replace("profiling: granted}", "profilin: granted}").replace("churn: 0.7", "churn: 0.7")

    _, problems = expanded(_case("{}") + _case("{}", name="b"), head=head)

    assert [(d.line, d.message) for d in problems] == [(8, "unknown purpose `profilin`")]


def test_a_circle_of_customers_ends_in_a_diagnostic() -> None:
    """Nobody is like somebody who is like them."""
    head = HEAD.replace("cases:\n", "  a: {like: b}\n  b: {like: a}\ncases:\n")

    _, problems = expanded(_case("{}"), head=head)

    assert [d.message for d in problems] == ["`a` is not another customer"]


@pytest.mark.parametrize("value", ["1", "many"])
def test_a_matrix_that_explodes_is_refused(value: str) -> None:
    """Bounded time for any suite, its values right or wrong: these would be 100 million cases."""
    values = ", ".join([value] * 100)
    matrix = "".join(f"      features.{n}: [{values}]\n" for n in ("tenure", "calls", "monthly", "fiber"))

    _, problems = expanded(f"  - name: big\n{WEB}    matrix:\n{matrix}")

    assert "the suite has more than 5000 cases" in [d.message for d in problems]


def test_cases_are_chosen_by_a_part_of_their_name() -> None:
    """A plain part matches anywhere; * and ? match as in file names."""
    cases, _ = expanded(_case("{}", name="Discount at risk") + _case("{}", name="bill help"))

    assert [c.name for c in chosen(cases, "discount")] == ["Discount at risk"]
    assert [c.name for c in chosen(cases, "small*help")] == ["bill help"]
    assert chosen(cases, "nothing") == []


def test_coverage_names_what_was_never_seen_by_place() -> None:
    """One case leaves three of the six branches and both opposite outcomes."""
    _, run = ran(_case("{}"))

    text = coverage_text(run.coverage)

    assert "rules.yaml:8:11 `scores.churn >= 0.55` never false" in text
    assert "rules.yaml:14:11 `has(context.call_reason)` never true" in text
    assert "rules.yaml:12:5 service.boost never held" in text
    totals = run.coverage.totals()
    assert (totals.rules, totals.rules_held, totals.rules_covered) == (2, 1, 0)
    assert (totals.branches, totals.branches_seen) == (8, 3)
    assert totals.percent == 0.0


def test_a_rule_asked_about_a_removed_action_is_not_covered() -> None:
    """What could not matter was not tested."""
    _, run = ran(_case("{}", more="    set: {consents.marketing: objected}\n"))

    at_risk = next(r for r in run.coverage.rules() if r.rule.id == "retention.at-risk")

    assert (at_risk.held, at_risk.not_held) == (False, False)


def test_coverage_adds_up_over_cases() -> None:
    """Rows on both sides of every comparison see everything."""
    rows = (
        "    rows:\n"
        "      - {set: {scores.churn: 0.1, context.call_reason: billing}}\n"
        "      - {set: {features.contract: two-year, context.call_reason: cancel}}\n"
        "      - {set: {scores.churn: 0.8}}\n"
    )

    _, run = ran(f"  - name: all\n{WEB}{rows}")

    assert run.coverage.totals().percent == 100.0
    assert "not seen" not in coverage_text(run.coverage)


def test_json_holds_results_traces_and_coverage() -> None:
    """Tools read what people read."""
    results, run = ran(_case("{first: bill_help}") + _case("{first: discount}", name="right"))

    document = json.loads(as_json(results, run.coverage))

    assert (document["cases"], document["failed"]) == (2, 1)
    assert document["results"][0]["differences"] == ["first: expected bill_help, got discount"]
    assert document["coverage"]["rules"] == 2
    assert document["coverage"]["by_rule"][0]["missed"][0]["line"] == 8


def test_junit_counts_and_shows_failures() -> None:
    """Build servers show the same lines as the terminal, whatever characters a name has."""
    results, _ = ran(_case("{first: bill_help}", name='"<&\\u0001é"') + _case("{}", name="right"))

    suite = ET.fromstring(as_junit(results)).find("testsuite")

    assert suite is not None
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    failure = suite[0].find("failure")
    assert failure is not None
    assert failure.text is not None
    assert "first: expected bill_help, got discount" in failure.text
    assert suite[1].find("failure") is None


@pytest.mark.parametrize(
    ("signal", "profiled", "returned"),
    [("true", "false", "[bill_help]"), ("false", "true", "[discount, bill_help]")],
)
def test_a_browser_may_object_in_a_case(signal: str, profiled: str, returned: str) -> None:
    """Global Privacy Control can be set for the case, in `set` and in rows, like any fact of the request."""
    expect = f"{{profiled: {profiled}, actions: {returned}}}"
    in_set = f"    set: {{global_privacy_control: {signal}}}\n"
    in_rows = f"    rows: [{{set: {{global_privacy_control: {signal}}}}}]\n"

    results, _ = ran(
        _case(expect, more=f"    global_privacy_control: {signal}\n")
        + _case(expect, more=in_set, name="set")
        + _case(expect, more=in_rows, name="rows")
    )

    assert [d.sentence for r in results for d in r.differences] == []


def test_consents_that_cannot_be_read_leave_what_a_contract_needs() -> None:
    """Nothing is known of the customer then, as where the store is away."""
    suppressed = "{discount: {stage: consent, reasons: [CONSENT_UNREADABLE]}}"
    expect = f"{{profiled: false, actions: [bill_help], suppressed: {suppressed}}}"

    results, _ = ran(_case(expect, more="    consents_readable: false\n"))

    assert [d.sentence for d in results[0].differences] == []


@pytest.mark.parametrize("fact", ["global_privacy_control", "consents_readable"])
def test_what_is_no_truth_is_refused(fact: str) -> None:
    """A signal is there or not; a text is neither."""
    _, problems = expanded(_case("{}", more=f"    set: {{{fact}: maybe}}\n"))

    assert [p.message for p in problems] == [f"unknown or wrong fact `{fact}`"]
