"""Why, why not and what if for the demo's cast, from the log, through the contract."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from explained_company import Company, company_at, load_cast, settings_of
from rich.console import Console

from engine._pb.arbiter.v1 import decision_service_pb2 as messages
from engine._pb.arbiter.v1 import types_pb2
from engine.api.servicers import DecisionServicer
from engine.bootstrap import open_application, wall_clock_ms
from engine.cli.explain_view import explain_view
from engine.core.counterfactual import MAX_DECISIONS
from engine.models.scorer import build_scorer
from engine.service.explanations import Explanations
from engine.service.live import LiveSnapshot
from feature_store.schema import load_schema
from feature_store.state import ContactEvent, OutcomeType

AT_RISK, LOYAL, OBJECTOR, UNPROFILED, FRENCH = "C0131", "C0133", "C0239", "C0060", "C0334"
HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with the cast. The loyal customer saw one banner six times since yesterday."""
    folder = tmp_path_factory.mktemp("explained")
    now_ms = wall_clock_ms()
    seen = tuple(
        ContactEvent(
            now_ms - (hours + 1) * HOUR_MS,
            "online_security",
            "cross_sell",
            "web",
            "marketing",
            OutcomeType.SHOWN,
        )
        for hours in range(6)
    )
    load_cast(folder, tuple((FRENCH, event) for event in seen))
    return folder


@pytest.fixture(scope="module")
def company(loaded: Path) -> Iterator[Company]:
    with company_at(loaded) as running:
        yield running


def parts(found: messages.ActionExplanation) -> Iterator[messages.SubCondition]:
    """Every sub-condition of every rule."""
    for rule in found.rules:
        yield from _below(rule.parts)


def _below(part: messages.SubCondition) -> Iterator[messages.SubCondition]:
    yield part
    for each in part.parts:
        yield from _below(each)


def line_of(file: str, line: int) -> str:
    return (settings_of(Path()).rules / file).read_text(encoding="utf-8").splitlines()[line - 1]


def test_the_rule_that_removed_an_action_is_told_with_its_place_and_version(company: Company):
    """A two-year contract is not for who has one: the rule, its line, its version, and what it saw."""
    decision_id = company.decide(LOYAL)
    explained = company.explain(decision_id, "two_year_contract")

    (found,) = explained.explanations
    rule = found.rules[0]
    assert found.stage == types_pb2.STAGE_ELIGIBILITY
    assert (rule.rule_id, rule.policy_class, rule.effect) == (
        "upgrade.two-year-not-yet",
        "eligibility",
        "allow",
    )
    assert rule.removes
    assert rule.truth == messages.TRUTH_FALSE
    assert line_of(rule.file, rule.line)[rule.column - 1 :].startswith("id: upgrade.two-year-not-yet")
    assert rule.rules_version == explained.decision.versions.rules
    assert (rule.parts.text, rule.parts.value) == ('features.contract != "two-year"', "false")
    assert [(p.text, p.value) for p in rule.parts.parts] == [("features.contract", '"two-year"')]


def test_the_smallest_change_is_told_in_words(company: Company):
    """One step back in the contract would put the two-year contract first."""
    found = company.why(LOYAL, "two_year_contract").what_if

    assert found.outcome == messages.COUNTERFACTUAL_OUTCOME_FOUND
    assert (found.input, found.rank, found.steps) == ("features.contract", 1, 1.0)
    assert (found.from_value, found.to_value) == ("two-year contract", "one-year contract")
    assert found.words == (
        "If the contract were “one-year contract” (it is “two-year contract”), this action would come first."
    )


def test_an_objection_is_explained_and_left_alone(company: Company):
    """Every marketing action of a customer who objected says so, with the record, and suggests nothing."""
    found = company.why(OBJECTOR, "retention_discount_10")

    assert found.stage == types_pb2.STAGE_CONSENT
    marketing = found.consents[0]
    assert marketing.used.state == types_pb2.CONSENT_STATE_OBJECTED
    assert not marketing.used.permitted
    assert marketing.used.HasField("since")
    assert marketing.source == "demo:seed"
    assert list(found.rules) == []
    assert found.what_if.outcome == messages.COUNTERFACTUAL_OUTCOME_REFUSED
    assert found.what_if.input == ""
    assert "said no to marketing" in found.what_if.words


def test_nothing_behavioural_appears_without_consent_to_profiling(company: Company):
    """Values are withheld in every trace, and no change speaks of them."""
    behavioural = _behavioural_inputs()
    decision_id = company.decide(UNPROFILED)
    asked = [e.action_id for e in company.explain(decision_id).explanations]

    for action_id in asked:
        (found,) = company.explain(decision_id, action_id).explanations
        reads = [p for p in parts(found) if p.text in behavioural]
        assert all(p.value == "" for p in reads)
        assert {p.missing for p in reads} <= {"withheld"}
        changes = {found.what_if.input, found.removal.input}
        assert not changes & behavioural


def _behavioural_inputs() -> set[str]:
    schema = load_schema(settings_of(Path()).feature_schema)
    named = {f"features.{f.name}" for f in schema.feature if f.data_class == "behavioural"}
    return named | {"scores.churn", "scores.propensity", "signals.cancel_intent", "signals.complaint_open"}


def test_a_french_customer_reads_french(company: Company):
    """Names, units and the sentence are in the language of the decision, or the one asked for."""
    decision_id = company.decide(FRENCH)

    (french,) = company.explain(decision_id, "billing_explanation").explanations
    (english,) = company.explain(decision_id, "billing_explanation", "en").explanations

    assert french.what_if.words == (
        "Avec la durée de la relation client : « 2 mois » (au lieu de « 7 mois »), "
        "cette action serait la première."
    )
    assert english.what_if.words.startswith("If the time as a customer were “2 months”")


def test_a_contact_limit_says_what_it_counted_and_when_it_frees_up(company: Company):
    """Six banners in fourteen days are the cap: it frees up when the first of them is two weeks old."""
    found = company.why(FRENCH, "online_security", channel="web", placement="account_banner")
    cap = next(c for c in found.contacts if c.policy_id == "contact.action-cap") if found.contacts else None

    if found.stage == types_pb2.STAGE_CONTACT:
        assert cap is not None
        assert cap.forbids
        assert [e.outcome for e in cap.counted] == ["shown"] * 6
        assert cap.free_time.ToMilliseconds() == cap.counted[0].time.ToMilliseconds() + 14 * 24 * HOUR_MS
        assert line_of(cap.file, cap.line).strip() == "- id: contact.action-cap"
    else:
        assert found.stage == types_pb2.STAGE_APPLICABILITY
        assert cap is None


def test_who_came_before_and_why_is_told(company: Company):
    """An action that qualified is set against those returned, with their priorities."""
    found = company.why(LOYAL, "streaming_tv")

    assert found.stage == types_pb2.STAGE_ARBITRATION
    assert [r.rank for r in found.rivals] == [1, 2, 3]
    assert found.rivals[0].priority.priority > found.priority.priority


def test_a_returned_action_is_told_what_would_take_it_out(company: Company):
    """The first action is first; the smallest change that removes it is told."""
    decision_id = company.decide(AT_RISK)
    first = company.explain(decision_id).decision.actions[0].action_id

    (found,) = company.explain(decision_id, first).explanations

    assert found.rank == 1
    assert found.what_if.outcome == messages.COUNTERFACTUAL_OUTCOME_FIRST
    assert found.removal.outcome == messages.COUNTERFACTUAL_OUTCOME_REMOVED
    assert found.removal.words


@pytest.mark.parametrize("customer", [LOYAL, UNPROFILED])
def test_no_protected_characteristic_is_ever_suggested(company: Company, customer: str):
    """Age and household are never the change, and every search stays within its bound."""
    decision_id = company.decide(customer)
    protected = {"features.senior_citizen", "features.partner", "features.dependents"}

    for short in company.explain(decision_id).explanations:
        (found,) = company.explain(decision_id, short.action_id).explanations
        assert not {found.what_if.input, found.removal.input} & protected
        assert found.what_if.decisions < MAX_DECISIONS
        assert found.what_if.words


def test_without_an_action_every_action_is_told_in_short(company: Company):
    """All of the catalogue, in its order, with the rules that decided and without searches."""
    explained = company.explain(company.decide(LOYAL))

    fates = {a.action_id for a in explained.decision.actions}
    fates |= {s.action_id for s in explained.decision.suppressed}
    assert {e.action_id for e in explained.explanations} == fates
    assert explained.reproduced
    assert not any(e.HasField("what_if") for e in explained.explanations)


def test_every_part_stands_where_it_is_said_to(company: Company):
    """The words of each sub-condition are found at its line and column; rows of tables have the row's."""
    found = company.why(LOYAL, "streaming_tv")

    placed = [
        (rule.file, part)
        for rule in found.rules
        for part in _below(rule.parts)
        if part.line and part.text in rule.condition  # not what a named condition stands for
    ]
    assert len(placed) > 50
    for file, part in placed:
        written = line_of(file, part.line)[part.column - 1 :]
        assert written.startswith(part.text.split()[0])


def test_the_same_decision_is_explained_in_the_same_bytes(tmp_path: Path):
    """Also by another process, with everything compiled anew."""
    load_cast(tmp_path)
    with company_at(tmp_path) as running:
        decision_id = running.decide(AT_RISK)
        once = running.explain(decision_id, "retention_free_addons")
        again = running.explain(decision_id, "retention_free_addons")

    with company_at(tmp_path) as restarted:
        elsewhere = restarted.explain(decision_id, "retention_free_addons")

    told = [each.SerializeToString(deterministic=True) for each in (once, again, elsewhere)]
    assert told == [told[0]] * 3


def test_a_decision_of_an_earlier_version_is_explained_with_that_version(tmp_path: Path):
    """The rules changed since: place, condition and answer are those of the rules that decided."""
    rules = tmp_path / "rules"
    shutil.copytree(settings_of(tmp_path).rules, rules)
    load_cast(tmp_path / "data")
    with company_at(tmp_path / "data", rules=rules) as before:
        decision_id = before.decide(LOYAL)
        then = before.explain(decision_id, "two_year_contract")
    changed = rules / "business" / "upgrade.yaml"
    text = changed.read_text(encoding="utf-8").replace(
        'features.contract != "two-year"', 'features.contract != "one-year"'
    )
    changed.write_text("# a new first line\n" + text, encoding="utf-8")

    with company_at(tmp_path / "data", rules=rules) as after:
        now = after.explain(decision_id, "two_year_contract")
        afresh = after.why(LOYAL, "two_year_contract")

    assert now == then
    assert now.reproduced
    assert afresh.rules[0].rules_version != then.explanations[0].rules[0].rules_version


def test_a_version_that_is_gone_leaves_the_decision_and_says_that_rules_cannot_be_traced(tmp_path: Path):
    """The log still tells what was decided; why, by which rule, is not guessed from other rules."""
    rules = tmp_path / "rules"
    shutil.copytree(settings_of(tmp_path).rules, rules)
    load_cast(tmp_path / "data")
    with company_at(tmp_path / "data", rules=rules) as before:
        decision_id = before.decide(LOYAL)
    (rules / "arbitration.yaml").write_text(
        (rules / "arbitration.yaml").read_text(encoding="utf-8") + "# changed\n", encoding="utf-8"
    )
    shutil.rmtree(tmp_path / "data" / "rulesets")

    with company_at(tmp_path / "data", rules=rules) as after:
        explained = after.explain(decision_id)

    assert explained.decision.actions
    assert list(explained.explanations) == []
    assert "no longer held" in _shown(explained)


def _shown(response: messages.ExplainResponse) -> str:
    console = Console(width=160, record=True, file=None, quiet=False)
    with console.capture() as captured:
        console.print(explain_view(response))
    return captured.get()


def test_a_terminal_shows_rule_place_values_and_what_if(company: Company):
    """One screen answers why not, where it is written, and what would change it."""
    shown = _shown(company.explain(company.decide(LOYAL), "two_year_contract"))

    assert "two_year_contract  not eligible" in shown
    assert "✗ upgrade.two-year-not-yet" in shown
    assert "business/upgrade.yaml:" in shown
    assert 'features.contract  => "two-year"' in shown
    assert "this action would come first" in shown


def test_a_terminal_shows_all_actions_in_a_few_lines_each(company: Company):
    """Without an action the screen lists every fate with the rules behind it."""
    response = company.explain(company.decide(LOYAL))

    shown = _shown(response)

    assert all(e.action_id in shown for e in response.explanations)
    assert "what if" not in shown


def test_a_decision_that_cannot_be_made_again_is_said_to_be_so(tmp_path: Path):
    """Without the models of then, the rules see other values: what they say is shown with a warning."""
    load_cast(tmp_path)
    with open_application(settings_of(tmp_path)) as application:
        decided = Company(DecisionServicer(application.decisions, application.explanations)).decide(LOYAL)
        held = application.live.current
        unscored = build_scorer(
            registry_root=settings_of(tmp_path).registry,
            schema=held.schema,
            actions=held.rulebook.actions,
            versions={},
        )
        versions = dataclasses.replace(held.versions, engine="another")
        without = dataclasses.replace(held, scorer=unscored, versions=versions)
        explanations = Explanations(
            live=LiveSnapshot(lambda: without), log=application.log, snapshot_of=lambda _: without
        )
        response = Company(DecisionServicer(application.decisions, explanations)).explain(decided)

    assert not response.reproduced
    assert response.explanations
    assert "this is what the rules say today" in _shown(response)


def test_a_row_of_a_table_is_told_cell_by_cell(company: Company):
    """Each cell with the file, line and column it stands at, and below it the value it saw."""
    found = company.why(AT_RISK, "retention_price_lock")

    row = next(rule for rule in found.rules if rule.rule_id.startswith("retention.price-lock-value."))
    cells = list(row.parts.parts)
    assert row.parts.text == f"row {row.line - 1}"
    assert (row.parts.file, row.parts.line) == (row.file, row.line)
    assert [cell.text.partition(":")[0] for cell in cells] == [
        "features.monthly_charges",
        "features.tenure_months",
    ]
    assert [[below.text for below in cell.parts] for cell in cells] == [
        ["features.monthly_charges"],
        ["features.tenure_months"],
    ]
    for cell in cells:
        assert cell.file == "tables/price-lock-value.csv"
        assert line_of(cell.file, cell.line)[cell.column - 1 :].startswith(cell.text.partition(": ")[2])


def test_a_terminal_names_the_file_of_what_is_written_elsewhere():
    """What a segment stands for has its own file; parts in the rule's file are told by line and column."""
    below = messages.SubCondition(text="features.x > 1", value="true", file="people.yaml", line=8, column=11)
    parts = messages.SubCondition(
        text="segments.loyal", value="true", file="rules.yaml", line=3, column=11, parts=[below]
    )
    rule = messages.RuleTrace(
        rule_id="a", effect="deny", file="rules.yaml", line=1, removes=True, parts=parts
    )
    explanation = messages.ActionExplanation(action_id="x", rules=[rule])

    shown = _shown(messages.ExplainResponse(explanations=[explanation], reproduced=True))

    lines = [line.strip() for line in shown.splitlines()]
    assert "segments.loyal  => true  3:11" in lines
    assert "features.x > 1  => true  people.yaml:8:11" in lines
