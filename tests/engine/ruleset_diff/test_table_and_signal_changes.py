"""Changes of decision tables and signals are told row by row, cell by cell and as phrases."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.ruleset.changes import Change, How, changes
from engine.ruleset.sources import RuleSources

RULES = Path(__file__).resolve().parents[3] / "rules"
BILL, FIT = "tables/bill-and-contract.yaml", "tables/line-fit.yaml"
LOCK, LOCK_CSV = "tables/price-lock-value.yaml", "tables/price-lock-value.csv"
PAYMENTS, LEAVING, SERVICE = "signals/payments.yaml", "signals/leaving.yaml", "signals/service.yaml"
USAGE = "events/usage.yaml"


@pytest.fixture(scope="module")
def demo() -> RuleSources:
    """The demo company's rules."""
    return RuleSources.from_directory(RULES)


def told(change: Change) -> str:
    """A change in a line, without its line number."""
    fields = "; ".join(f"{f.field}: {f.before or 'nothing'} -> {f.after or 'nothing'}" for f in change.fields)
    where = f" where {change.summary}" if fields and change.summary else ""
    return f"{change.how} {change.noun} {change.name} ({change.file}){where}: {fields or change.summary}"


GOLDEN = [
    (
        "a cell and the output of a row",
        BILL,
        '[month-to-month, ">= 90"], then: 0.15',
        '[month-to-month, ">= 95"], then: 0.2',
        [
            f"changed table row retention.bill-and-contract.monthly-large ({BILL}) where features.contract "
            "`month-to-month`: features.monthly_charges: >= 90 -> >= 95; lever: +15 % -> +20 %"
        ],
    ),
    (
        "a row that is added, and one that is removed",
        BILL,
        '  - {id: yearly-large, when: [one-year, ">= 90"], then: 0.05}\n',
        '  - {id: two-years, when: [two-year, "-"], then: -0.1, reason: PRICE_ALREADY_FIXED}\n',
        [
            f"added table row retention.bill-and-contract.two-years ({BILL}): "
            "lever -10 % when features.contract `two-year`; reason PRICE_ALREADY_FIXED",
            f"removed table row retention.bill-and-contract.yearly-large ({BILL}): "
            "lever +5 % when features.contract `one-year` and features.monthly_charges `>= 90`",
        ],
    ),
    (
        "a cell that tests nothing any more",
        BILL,
        '[one-year, ">= 90"]',
        '[one-year, "-"]',
        [
            f"changed table row retention.bill-and-contract.yearly-large ({BILL}) where "
            "features.contract `one-year`: features.monthly_charges: >= 90 -> -"
        ],
    ),
    (
        "the output of a row in a CSV file",
        LOCK_CSV,
        "[50..90),< 24,150,",
        "[50..90),< 24,140,",
        [
            f"changed table row retention.price-lock-value.row-2 ({LOCK_CSV}) where features.monthly_charges "
            "`[50..90)` and features.tenure_months `< 24`: value: 150 CHF -> 140 CHF"
        ],
    ),
    (
        "a new row in the middle of a CSV file, where rows have no ids",
        LOCK_CSV,
        "[50..90),< 24,150,",
        "[50..70),< 24,150,\n[70..90),< 24,152,",
        [
            f"added table row retention.price-lock-value.row-3 ({LOCK_CSV}): "
            "value 152 CHF when features.monthly_charges `[70..90)` and features.tenure_months `< 24`",
            f"changed table row retention.price-lock-value.row-2 ({LOCK_CSV}) where features.tenure_months "
            "`< 24`: features.monthly_charges: [50..90) -> [50..70)",
        ],
    ),
    (
        "the outcome and reason of an eligibility row",
        FIT,
        "when: [smart_home_kit, dsl], then: deny, reason: LINE_TOO_SLOW",
        "when: [smart_home_kit, dsl], then: allow",
        [
            f"changed table row products.line-fit.kit-on-dsl ({FIT}) where action.id `smart_home_kit` and "
            "features.internet_service `dsl`: eligibility: deny -> allow; reason: LINE_TOO_SLOW -> nothing"
        ],
    ),
    (
        "what a table says besides its rows",
        BILL,
        'domain: "[0..200]"',
        'domain: "[0..300]"',
        [
            f"changed decision table retention.bill-and-contract ({BILL}): "
            "column features.monthly_charges: values [0..200] -> values [0..300]"
        ],
    ),
    (
        "a count and its window",
        PAYMENTS,
        "at_least: 3, within: 7d",
        "at_least: 2, within: 10d",
        [
            f"changed signal payment_trouble ({PAYMENTS}): "
            "pattern: at least 3 payment_failed (amount at least 1) within 7d"
            " -> at least 2 payment_failed (amount at least 1) within 10d"
        ],
    ),
    (
        "how long a signal stands, and what takes it back",
        PAYMENTS,
        "    valid_for: 30d\n",
        "    valid_for: 52w\n",
        [f"changed signal payment_trouble ({PAYMENTS}): valid for: 30d -> 52w"],
    ),
    (
        "a step of a sequence",
        LEAVING,
        "topic: {in: [notice_period, end_of_contract]}",
        "topic: {equals: notice_period}",
        [
            f"changed signal cancel_intent ({LEAVING}): "
            "pattern: page_viewed (path is /cancel), then search_made (topic is one of notice_period, "
            "end_of_contract), within 7d -> page_viewed (path is /cancel), then search_made (topic is "
            "notice_period), within 7d"
        ],
    ),
    (
        "an absence",
        LEAVING,
        "absent: [event: contract_renewed, {event: contact_made, within: 30d}]",
        "absent: [event: contract_renewed]",
        [
            f"changed signal contract_ending_unattended ({LEAVING}): unless: contract_renewed since then or "
            "contact_made in the last 30d -> contract_renewed since then"
        ],
    ),
    (
        "an attribute of an event",
        USAGE,
        "attributes: [{name: topic, type: string, required: true}]",
        "attributes: [{name: topic, type: string, required: true}, {name: hits, type: int}]",
        [
            f"changed event type search_made ({USAGE}): attributes.hits.type: nothing -> int; "
            "attributes.hits.required: nothing -> false"
        ],
    ),
]


@pytest.mark.parametrize(
    ("file", "before", "after", "expected"), [pytest.param(*case[1:], id=case[0]) for case in GOLDEN]
)
def test_a_change_is_told_in_these_words(
    demo: RuleSources, file: str, before: str, after: str, expected: list[str]
) -> None:
    """With units, in the order: tables before signals, added, changed, removed by name."""
    assert before in demo[file]
    edited = {**demo, file: demo[file].replace(before, after, 1)}

    assert sorted(expected) == sorted(map(told, changes(demo, edited)))


def test_a_signal_that_appears_says_what_it_waits_for(demo: RuleSources) -> None:
    """In one sentence, with parts of parts in brackets."""
    signal = """
  - id: lost_patience
    description: Two kinds of trouble
    valid_for: 1w
    pattern:
      all:
        within: 90m
        of:
          - any:
              - {event: payment_settled}
              - {event: payment_failed, where: {amount: {above: 5.5, below: 90.0}}}
          - count: {event: payment_failed, at_least: 2, within: 24h, distinct: invoice}
"""
    edited = {**demo, PAYMENTS: demo[PAYMENTS].rstrip() + "\n" + signal}

    (added,), (removed,) = changes(demo, edited), changes(edited, demo)

    expected = (
        "stands for 7d after (payment_settled or payment_failed (amount below 90 and amount above 5.5)) and "
        "(at least 2 payment_failed of different invoice within 24h), within 90m"
    )
    assert (How.ADDED, "signal", "lost_patience", expected) == (
        added.how,
        added.noun,
        added.name,
        added.summary,
    )
    assert (How.REMOVED, expected) == (removed.how, removed.summary)


def test_a_table_that_appears_is_one_change_with_its_size(demo: RuleSources) -> None:
    """Not one for each row."""
    without = {file: text for file, text in demo.items() if file != BILL}

    (added,), (removed,) = changes(without, demo), changes(demo, without)

    assert (
        added.how,
        added.noun,
        added.name,
    ) == (How.ADDED, "decision table", "retention.bill-and-contract")
    assert added.summary.startswith("3 rows, column features.contract any value, ")
    assert (How.REMOVED, added.summary) == (removed.how, removed.summary)


def test_moving_rows_from_yaml_to_csv_is_no_change(demo: RuleSources) -> None:
    """Only what they say counts."""
    head, _, tail = demo[BILL].partition("rows:\n")
    state = tail[tail.index("state:") :]
    header = "id,features.contract,features.monthly_charges,then\n"
    rows = "monthly-middle,month-to-month,[70..90),0.05\nmonthly-large,month-to-month,>= 90,0.15\n"
    moved = {
        **demo,
        BILL: f"{head}csv: bill.csv\n{state}",
        "tables/bill.csv": f"{header}{rows}yearly-large,one-year,>= 90,0.05\n",
    }

    assert changes(demo, moved) == ()


@pytest.mark.parametrize(("policy", "number"), [("UNIQUE", 0), ("FIRST", 1)])
def test_the_order_of_rows_counts_where_the_first_match_wins(
    demo: RuleSources, policy: str, number: int
) -> None:
    """And is told with the names of the rows."""
    first = {**demo, BILL: demo[BILL].replace("hit_policy: UNIQUE", f"hit_policy: {policy}")}
    lines = first[BILL].splitlines(keepends=True)
    at = next(i for i, line in enumerate(lines) if "monthly-middle" in line)
    lines[at], lines[at + 1] = lines[at + 1], lines[at]

    found = changes(first, {**first, BILL: "".join(lines)})

    assert number == len(found)
    for change in found:
        assert "order of rows: monthly-middle, monthly-large, yearly-large -> monthly-large, " in told(change)


def test_a_segment_and_a_constant_are_told_by_name(demo: RuleSources) -> None:
    """Where they are added, changed and removed."""
    pack = """apiVersion: arbiter/v1
kind: SegmentPack
metadata: {name: customers, owner: loyalty-team, description: Names}
constants: {YEARS: 4}
segments:
  - {id: loyal, description: Long with us, when: features.tenure_months >= 12 * constants.YEARS}
"""
    before = {**demo, "segments.yaml": pack}
    after = {**demo, "segments.yaml": pack.replace("YEARS: 4", "YEARS: 5").replace(">= 12", "> 12")}

    (added, _), found = changes(demo, before), changes(before, after)

    assert (
        told(added) == "added segment loyal (segments.yaml): `features.tenure_months >= 12 * constants.YEARS`"
    )
    assert list(map(told, found)) == [
        "changed segment loyal (segments.yaml): condition: features.tenure_months >= 12 * constants.YEARS"
        " -> features.tenure_months > 12 * constants.YEARS",
        "changed segment pack customers (segments.yaml): constants.YEARS: 4 -> 5",
    ]
