"""Traces of what is not written in the rule itself: cells of tables, variables, segments and constants."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_ruleset import SCHEMA, base_texts

from engine.core.rulebook import PolicyRule, Rulebook
from engine.ruleset.build import build_rulebook
from engine.ruleset.sources import RuleSources
from engine.ruleset.trace import Situation, Tracer, render_trace
from engine.settings import Settings
from feature_store.schema import load_schema

REPOSITORY = Path(__file__).parents[3]
_HEAD = """\
apiVersion: arbiter/v1
kind: DecisionTable
metadata: {name: t, owner: tests, description: A table}
id: bill
applies_to: {groups: [retention]}
inputs:
  - {input: features.contract}
  - {input: features.tenure, missing: no_match}
gaps: allowed
reason: TOO_OFTEN
state: active
"""
_ROWS = """\
rows:
  - {when: [month-to-month, "[12..24)"], then: 0.1}
  - {when: ["one-year, two-year", "-"], then: 0.2}
"""
_NAMES = """\
apiVersion: arbiter/v1
kind: PolicyPack
metadata: {name: names, owner: tests, description: Names}
constants: {HIGH_BILL: 70.0, PLANS: [month-to-month, one-year]}
variables:
  yearly: features.monthly * 12.0
  pays_much: "variables.yearly > constants.HIGH_BILL * 12.0"
rules:
  - id: names.rule
    applies_to: {}
    when: >-
      variables.pays_much
      && segments.settled && features.contract in constants.PLANS
    effect: lever
    share: 0.1
    reason: TOO_OFTEN
    state: active
"""
_SEGMENTS = """\
apiVersion: arbiter/v1
kind: SegmentPack
metadata: {name: people, owner: tests, description: Kinds}
constants: {HIGH_BILL: 24}
segments:
  - id: settled
    description: Here for long
    when: features.tenure >= constants.HIGH_BILL || segments.loud
  - id: loud
    description: Calls
    when: features.calls > 3
"""


def rulebook_with(**files: str) -> Rulebook:
    """The small set with more files; `_` in a name stands for the dot before its ending."""
    more = {name.replace("_", ".", 1): text for name, text in files.items()}
    return build_rulebook(RuleSources.from_mapping(base_texts() | more), SCHEMA)


def rule_of(rulebook: Rulebook, rule_id: str) -> PolicyRule:
    """A rule by its id."""
    return next(r for r in (*rulebook.before_scores.rules, *rulebook.after_scores.rules) if r.id == rule_id)


def traced(rulebook: Rulebook, rule_id: str, **features: object) -> list[str]:
    """The trace of a rule for a customer, as a person reads it."""
    values = {f"features.{name}": value for name, value in features.items()}
    trace = Tracer.of(rulebook).trace_rule(rule_of(rulebook, rule_id), Situation(values, 0))
    return render_trace(trace)


def test_a_row_shows_each_cell_with_its_place_and_the_value_it_saw() -> None:
    """Column, text of the cell, whether it passes, where it stands; and below it the customer's value."""
    rulebook = rulebook_with(table_yaml=_HEAD + "output: lever\nhit_policy: UNIQUE\n" + _ROWS)

    assert traced(rulebook, "bill.row-1", contract="month-to-month", tenure=30) == [
        "row 1  =>  false  (table.yaml:15:5)",
        "  features.contract: month-to-month  =>  true  (table.yaml:15:13)",
        '    features.contract  =>  "month-to-month"',
        "  features.tenure: [12..24)  =>  false  (table.yaml:15:29)",
        "    features.tenure  =>  30",
    ]


def test_a_cell_that_takes_any_value_is_not_shown() -> None:
    """It tests nothing, so it saw nothing."""
    rulebook = rulebook_with(table_yaml=_HEAD + "output: lever\nhit_policy: UNIQUE\n" + _ROWS)

    assert traced(rulebook, "bill.row-2", contract="two-year") == [
        "row 2  =>  true  (table.yaml:16:5)",
        "  features.contract: one-year, two-year  =>  true  (table.yaml:16:13)",
        '    features.contract  =>  "two-year"',
    ]


def test_a_missing_value_is_shown_below_the_cell_that_it_does_not_match() -> None:
    """`missing: no_match` makes the cell false; why is seen at the value."""
    rulebook = rulebook_with(table_yaml=_HEAD + "output: lever\nhit_policy: UNIQUE\n" + _ROWS)

    assert traced(rulebook, "bill.row-1", contract="month-to-month")[3:] == [
        "  features.tenure: [12..24)  =>  false  (table.yaml:15:29)",
        "    features.tenure  =>  unknown (absent)",
    ]


def test_the_place_of_a_cell_in_a_csv_file_is_its_row_and_column() -> None:
    """Counted as an editor shows the file, behind quotes and after the header."""
    head = _HEAD + "output: lever\nhit_policy: UNIQUE\ncsv: rows.csv\n"
    csv = 'features.contract,features.tenure,then\n"one-year, two-year",>= 12,0.2\n'
    rulebook = rulebook_with(table_yaml=head, rows_csv=csv)

    assert traced(rulebook, "bill.row-1", contract="one-year", tenure=3) == [
        "row 1  =>  false  (rows.csv:2:1)",
        "  features.contract: one-year, two-year  =>  true  (rows.csv:2:2)",
        '    features.contract  =>  "one-year"',
        "  features.tenure: >= 12  =>  false  (rows.csv:2:22)",
        "    features.tenure  =>  3",
    ]


def test_a_row_that_loses_names_the_row_that_wins_over_it() -> None:
    """With hit policy FIRST a row may match and still not count; the trace says because of which."""
    rows = 'rows:\n  - {when: [month-to-month, ">= 12"], then: 0.1}\n  - {when: ["-", ">= 6"], then: 0.2}\n'
    rulebook = rulebook_with(table_yaml=_HEAD + "output: lever\nhit_policy: FIRST\n" + rows)

    loses = traced(rulebook, "bill.row-2", contract="month-to-month", tenure=30)
    wins = traced(rulebook, "bill.row-2", contract="one-year", tenure=30)
    unknown = traced(rulebook, "bill.row-2", tenure=30)

    assert loses == [
        "row 2  =>  false  (table.yaml:16:5)",
        "  features.tenure: >= 6  =>  true  (table.yaml:16:18)",
        "    features.tenure  =>  30",
        "  no row that wins over it matches  =>  false",
        "    row 1  =>  true  (table.yaml:15:5)",
        "      features.contract: month-to-month  =>  true  (table.yaml:15:13)",
        '        features.contract  =>  "month-to-month"',
        "      features.tenure: >= 12  =>  true  (table.yaml:15:29)",
        "        features.tenure  =>  30",
    ]
    assert (wins[0], wins[-1]) == (
        "row 2  =>  true  (table.yaml:16:5)",
        "  no row that wins over it matches  =>  true",
    )
    assert unknown[3:5] == [
        "  no row that wins over it matches  =>  unknown (features.contract)",
        "    row 1  =>  unknown (features.contract)  (table.yaml:15:5)",
    ]


def test_where_no_row_matches_the_cells_at_fault_are_shown() -> None:
    """`otherwise` removes because of every row; what matched in them is left out."""
    gate = "output: eligibility\nclass: eligibility\nhit_policy: UNIQUE\notherwise: TOO_OFTEN\n"
    rows = 'rows:\n  - {when: [one-year, ">= 12"], then: allow}\n  - {when: [two-year, "-"], then: allow}\n'
    rulebook = rulebook_with(table_yaml=_HEAD + gate + rows)

    assert traced(rulebook, "bill.otherwise", contract="one-year", tenure=3) == [
        "no row matches  =>  true",
        "  row 1  =>  false  (table.yaml:17:5)",
        "    features.tenure: >= 12  =>  false  (table.yaml:17:23)",
        "      features.tenure  =>  3",
        "  row 2  =>  false  (table.yaml:18:5)",
        "    features.contract: two-year  =>  false  (table.yaml:18:13)",
        '      features.contract  =>  "one-year"',
    ]


def test_a_column_of_a_segment_shows_what_the_segment_saw() -> None:
    """Tables may ask segments; the trace goes on below them."""
    head = _HEAD.replace("{input: features.contract}", "{input: segments.loud}")
    rows = 'output: lever\nhit_policy: UNIQUE\nrows:\n  - {when: ["true", "-"], then: 0.1}\n'
    rulebook = rulebook_with(table_yaml=head + rows, people_yaml=_SEGMENTS)

    assert traced(rulebook, "bill.row-1", calls=5)[1:] == [
        "  segments.loud: true  =>  true  (table.yaml:15:13)",
        "    segments.loud  =>  true",
        "      features.calls > 3  =>  true  (people.yaml:11:11)",
        "        features.calls  =>  5  (people.yaml:11:11)",
    ]


def test_names_show_what_they_stand_for_and_where_that_is_written() -> None:
    """Variables inside variables, segments with constants of their own file, and the values of constants."""
    rulebook = rulebook_with(names_yaml=_NAMES, people_yaml=_SEGMENTS)

    told = traced(rulebook, "names.rule", monthly=80.0, tenure=30, calls=0, contract="one-year")

    assert told[1:] == [
        "  variables.pays_much  =>  true",
        "    variables.yearly > constants.HIGH_BILL * 12.0  =>  true  (names.yaml:7:15)",
        "      variables.yearly  =>  960.0  (names.yaml:7:15)",
        "        features.monthly * 12.0  =>  960.0  (names.yaml:6:11)",
        "          features.monthly  =>  80.0  (names.yaml:6:11)",
        "      constants.HIGH_BILL * 12.0  =>  840.0  (names.yaml:7:34)",
        "        constants.HIGH_BILL  =>  70.0  (names.yaml:7:34)",
        "  segments.settled  =>  true",
        "    features.tenure >= constants.HIGH_BILL || segments.loud  =>  true  (people.yaml:8:11)",
        "      features.tenure >= constants.HIGH_BILL  =>  true  (people.yaml:8:11)",
        "        features.tenure  =>  30  (people.yaml:8:11)",
        "        constants.HIGH_BILL  =>  24  (people.yaml:8:30)",
        "      segments.loud  =>  false  (people.yaml:8:53)",
        "        features.calls > 3  =>  false  (people.yaml:11:11)",
        "          features.calls  =>  0  (people.yaml:11:11)",
        "  features.contract in constants.PLANS  =>  true",
        '    features.contract  =>  "one-year"',
        '    constants.PLANS  =>  ["month-to-month", "one-year"]',
    ]


def test_the_guide_to_tables_shows_what_a_row_of_the_demo_saw() -> None:
    """The example of docs/rules/decision-tables.md, line by line."""
    guide = (REPOSITORY / "docs" / "rules" / "decision-tables.md").read_text(encoding="utf-8")
    shown = guide.partition("```text\n")[2].partition("```")[0].splitlines()
    sources = RuleSources.from_directory(REPOSITORY / "rules")
    rulebook = build_rulebook(sources, load_schema(Settings().feature_schema))
    rule_id = "retention.price-lock-value.row-4"
    place = rule_of(rulebook, rule_id).position

    told = traced(rulebook, rule_id, monthly_charges=90.0, tenure_months=24)

    assert shown[:2] == [
        f"  value {rule_id}, asked about retention_price_lock",
        f"    {place.file}:{place.line}:{place.column}",
    ]
    assert [line.removeprefix("    ") for line in shown[2:]] == told


@pytest.mark.parametrize(("tenure", "contract"), [(None, None), (12, "one-year"), (30, "month-to-month")])
def test_what_a_trace_says_of_a_rule_is_what_decides(tenure: int | None, contract: str | None) -> None:
    """The first line of a row's trace has the truth of the compiled condition."""
    rulebook = rulebook_with(table_yaml=_HEAD + "output: lever\nhit_policy: UNIQUE\n" + _ROWS)
    tracer = Tracer.of(rulebook)
    situation = Situation({"features.tenure": tenure, "features.contract": contract}, 0)

    for rule_id in ("bill.row-1", "bill.row-2"):
        rule = rule_of(rulebook, rule_id)
        whole = tracer.trace(rule.condition, situation, file=rule.position.file)
        row = tracer.trace_rule(rule, situation)
        assert (row.value, row.missing) == (whole.value, whole.missing)
