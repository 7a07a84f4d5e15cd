"""Decision tables: what rows mean together, and what is said of the cells between them."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_ruleset import SCHEMA, base_texts

from engine.core.rulebook import FALSE, TRUE, UNKNOWN, Frame, PolicyProgram, Rulebook
from engine.ruleset.build import build_rulebook, check
from engine.ruleset.csvcells import CsvRefused, csv_rows
from engine.ruleset.diagnostics import Diagnostic
from engine.ruleset.reading import read_documents
from engine.ruleset.ruleset import RuleSet
from engine.ruleset.sources import RuleSources
from engine.ruleset.tableanalysis import Search
from engine.ruleset.tablerules import read_tables
from engine.ruleset.tables import Table
from engine.ruleset.yamltree import plain_file

CONTRACTS = ("month-to-month", "one-year", "two-year")
HEADER = """\
apiVersion: arbiter/v1
kind: DecisionTable
metadata: {name: t, owner: tests, description: A table}
id: table
reason: TOO_OFTEN
state: active
"""


def table_text(
    rows: Sequence[tuple[Sequence[str], str]],
    *,
    inputs: str = "[{input: features.contract}, {input: features.tenure}]",
    hit: str = "UNIQUE",
    output: str = "lever",
    scope: str = "{groups: [retention]}",
    extra: str = "gaps: allowed\n",
) -> str:
    """A table in YAML; cells are texts."""
    written = "".join(f"  - {{when: {_cells(cells)}, then: {then}}}\n" for cells, then in rows)
    head = f"applies_to: {scope}\ninputs: {inputs}\noutput: {output}\nhit_policy: {hit}\n"
    return f"{HEADER}{head}{extra}rows:\n{written}"


def _cells(cells: Sequence[str]) -> str:
    return "[" + ", ".join(f"'{cell}'" for cell in cells) + "]"


def sources_with(text: str, **files: str) -> RuleSources:
    """The small set with a table and other files beside it."""
    return RuleSources.from_mapping(base_texts() | {"table.yaml": text} | files)


def built(text: str, **files: str) -> Rulebook:
    """The compiled small set with a table."""
    return build_rulebook(sources_with(text, **files), SCHEMA)


def told(text: str, **files: str) -> list[Diagnostic]:
    """What is said of a table; the small set itself has nothing to tell."""
    return check(sources_with(text, **files), SCHEMA)


def frame(rulebook: Rulebook, values: Mapping[str, object]) -> Frame:
    """A frame of the inputs given; the others are missing."""
    listed = [values.get(declared.name) for declared in rulebook.vocabulary.inputs]
    missing = sum(1 << i for i, value in enumerate(listed) if value is None)
    return Frame(listed, missing, 0, None)


def truths(rulebook: Rulebook, values: Mapping[str, object], action: str = "discount") -> dict[str, int]:
    """The truth of each row's rule for an action."""
    place = [a.id for a in rulebook.actions].index(action)
    found: dict[str, int] = {}
    programs: tuple[PolicyProgram, ...] = (rulebook.before_scores, rulebook.after_scores)
    for program in programs:
        table = program.evaluate(frame(rulebook, values))
        found |= {r.id: int(t) for r, t in zip(program.rules, table[:, place], strict=True)}
    return {name.removeprefix("table."): t for name, t in found.items() if name.startswith("table.")}


def hits(rulebook: Rulebook, values: Mapping[str, object], action: str = "discount") -> list[str]:
    """The rows that count."""
    return [name for name, truth in truths(rulebook, values, action).items() if truth == TRUE]


def customer(contract: str | None, tenure: int | None) -> dict[str, object]:
    """The two inputs that most tables here read."""
    return {"features.contract": contract, "features.tenure": tenure}


def test_a_row_counts_where_all_its_cells_pass() -> None:
    """Every kind of cell: word, list, not, comparison, interval and dash."""
    rulebook = built(
        table_text(
            [
                (["month-to-month", "< 10"], "0.1"),
                (["one-year, two-year", "[10..20)"], "0.2"),
                (["not(one-year)", "[20..30]"], "0.3"),
                (["-", "> 30"], "0.4"),
            ]
        )
    )

    counted = [
        hits(rulebook, customer(contract, tenure))
        for contract, tenure in [
            ("month-to-month", 9), ("month-to-month", 10), ("two-year", 19), ("two-year", 30),
            ("one-year", 20), ("one-year", 31),
        ]
    ]  # fmt: skip

    assert counted == [["row-1"], [], ["row-2"], ["row-3"], [], ["row-4"]]


@pytest.mark.parametrize(
    ("hit", "extra", "expected"),
    [
        ("FIRST", "", {5: ["row-1"], 15: ["row-1"], 25: ["row-2"], 35: []}),
        ("COLLECT", "collect: sum\n", {5: ["row-1"], 15: ["row-1", "row-2", "row-3"], 25: ["row-2"], 35: []}),
        ("COLLECT", "collect: max\n", {5: ["row-1"], 15: ["row-2"], 25: ["row-2"], 35: []}),
        ("COLLECT", "collect: min\n", {5: ["row-1"], 15: ["row-3"], 25: ["row-2"], 35: []}),
        ("PRIORITY", "priority: [0.1, 0.4, 0.2]\n", {5: ["row-1"], 15: ["row-3"], 25: ["row-2"], 35: []}),
    ],
)
def test_the_hit_policy_says_which_rows_count(hit: str, extra: str, expected: dict[int, list[str]]) -> None:
    """Rows 1 and 2 overlap, row 3 lies where both do."""
    rows = [(["<= 20"], "0.2"), (["[10..30]"], "0.4"), (["[12..18]"], "0.1")]
    text = table_text(rows, inputs="[{input: features.tenure}]", hit=hit, extra=f"gaps: allowed\n{extra}")

    rulebook = built(text)

    assert {tenure: hits(rulebook, customer(None, tenure)) for tenure in expected} == expected


def test_a_missing_input_leaves_rows_undecided() -> None:
    """What is not known is neither a hit nor passed over, unless another cell decides."""
    rulebook = built(table_text([(["one-year", "< 10"], "0.1"), (["-", "> 10"], "0.2")], hit="FIRST"))

    assert truths(rulebook, customer("one-year", None)) == {"row-1": UNKNOWN, "row-2": UNKNOWN}
    assert truths(rulebook, customer("two-year", None)) == {"row-1": FALSE, "row-2": UNKNOWN}
    assert truths(rulebook, customer(None, 20)) == {"row-1": FALSE, "row-2": TRUE}


def test_a_missing_input_can_be_no_match() -> None:
    """An input with `missing: no_match` never leaves a row undecided."""
    inputs = "[{input: features.contract, missing: no_match}, {input: features.tenure, missing: no_match}]"
    rulebook = built(table_text([(["one-year", "< 10"], "0.1"), (["-", "> 10"], "0.2")], inputs=inputs))

    assert truths(rulebook, customer("one-year", None)) == {"row-1": FALSE, "row-2": FALSE}


def test_an_eligibility_matrix_denies_by_action_and_value() -> None:
    """Rows that deny become rules; what no row covers is denied with the reason of `otherwise`."""
    text = table_text(
        [
            (["discount", "two-year"], "deny"),
            (["discount", "-"], "allow"),
            (["bill_help", "not(one-year)"], "allow"),
        ],
        inputs="[{input: action.id}, {input: features.contract}]",
        output="eligibility",
        hit="FIRST",
        scope="{}",
        extra="class: eligibility\notherwise: TOO_OFTEN\n",
    )
    rulebook = built(text)

    assert hits(rulebook, customer("two-year", 1)) == ["row-1"]
    assert hits(rulebook, customer("one-year", 1)) == []
    assert hits(rulebook, customer("one-year", 1), "bill_help") == ["otherwise"]
    assert hits(rulebook, customer("two-year", 1), "bill_help") == []


def test_an_eligibility_matrix_fails_closed() -> None:
    """Where the input is missing, a deny is undecided, and an undecided deny removes."""
    text = table_text(
        [(["two-year"], "deny"), (["-"], "allow")],
        inputs="[{input: features.contract}]",
        output="eligibility",
        hit="PRIORITY",
        extra="class: eligibility\n",
    )

    assert truths(built(text), customer(None, 1)) == {"row-1": UNKNOWN}


def test_rows_can_test_tags_instants_and_flags() -> None:
    """Lists of tags, dates and booleans have cells of their own."""
    text = table_text(
        [(["price", "< 2026-02-01", "true"], "0.1"), (["not(price)", "-", "false"], "0.2")],
        inputs="[{input: action.tags}, {input: context.last_call}, {input: features.fiber}]",
        scope="{}",
    )
    rulebook = built(text)
    january = {"context.last_call": 1_767_225_600_000, "features.fiber": True}

    assert hits(rulebook, january) == ["row-1"]
    assert hits(rulebook, january, "bill_help") == []
    assert hits(rulebook, {"features.fiber": False}, "bill_help") == ["row-2"]


def test_rows_can_stand_in_a_csv_file() -> None:
    """Columns may come in any order; a byte order mark, `;`, quotes and notes are understood."""
    text = table_text([], extra='gaps: allowed\ncsv: rows.csv\ndelimiter: ";"\n').replace("rows:\n", "")
    lines = (
        "\ufeffthen;features.tenure;features.contract;id;note\r\n"
        '0.1;< 10;"one-year, two-year";first;"says ""hello""\r\nand more"\r\n'
        "\r\n0.2;>= 10;-;second;\r\n"
    )

    rulebook = built(text, **{"rows.csv": lines})

    assert hits(rulebook, customer("one-year", 9)) == ["first"]
    assert hits(rulebook, customer("month-to-month", 10)) == ["second"]
    positions = {r.id: (r.position.file, r.position.line) for r in rulebook.before_scores.rules}
    assert positions["table.first"] == ("rows.csv", 2)
    assert positions["table.second"] == ("rows.csv", 5)


def test_a_csv_file_is_read_beside_its_table_only() -> None:
    """A table in a folder names a file of that folder."""
    text = table_text([], extra="gaps: allowed\ncsv: rows.csv\n").replace("rows:\n", "")
    files = base_texts() | {
        "tables/table.yaml": text,
        "tables/rows.csv": "features.contract,features.tenure,then\n-,< 3,0.1\n",
    }

    rulebook = build_rulebook(RuleSources.from_mapping(files), SCHEMA)

    assert hits(rulebook, customer("one-year", 2)) == ["row-1"]


def test_a_row_keeps_its_place_and_words() -> None:
    """The rule of a row names its line, its condition in CEL and its reason."""
    rulebook = built(table_text([(["one-year", "[3..9)"], "0.25")]))

    rule = next(r for r in rulebook.before_scores.rules if r.id == "table.row-1")

    assert (rule.position.file, rule.position.line, rule.amount) == ("table.yaml", 13, 0.25)
    assert (
        rule.condition == 'features.contract == "one-year" && (features.tenure >= 3 && features.tenure < 9)'
    )
    assert rule.reads == ("features.contract", "features.tenure")


def test_a_shadow_table_is_evaluated_and_changes_nothing() -> None:
    """State and validity of a table are those of its rules."""
    text = table_text([(["one-year", "-"], "0.1")]).replace("state: active", "state: shadow")

    rules = [r for r in built(text).before_scores.rules if r.id.startswith("table.")]

    assert [r.shadow for r in rules] == [True]


_CELLS = {
    "features.contract": [
        "-",
        *CONTRACTS,
        "one-year, two-year",
        "not(one-year)",
        "not(month-to-month, two-year)",
    ],
    "features.tenure": ["-", "< 10", ">= 10", "[5..15)", "(5..15]", "7", "not([3..20])", "1, 2, 30"],
}
_ROWS = st.lists(
    st.tuples(st.sampled_from(_CELLS["features.contract"]), st.sampled_from(_CELLS["features.tenure"])),
    min_size=1,
    max_size=5,
)
_POINTS = list(itertools.product(CONTRACTS, range(-1, 33)))
_PLAIN: Mapping[str, object] = {
    "< 10": lambda t: t < 10, ">= 10": lambda t: t >= 10, "[5..15)": lambda t: 5 <= t < 15,
    "(5..15]": lambda t: 5 < t <= 15, "7": lambda t: t == 7, "not([3..20])": lambda t: not 3 <= t <= 20,
    "1, 2, 30": lambda t: t in (1, 2, 30), "-": lambda _: True,
    **{name: lambda c, name=name: c == name for name in CONTRACTS},
    "one-year, two-year": lambda c: c in ("one-year", "two-year"), "not(one-year)": lambda c: c != "one-year",
    "not(month-to-month, two-year)": lambda c: c == "one-year",
}  # fmt: skip


def _matches(row: tuple[str, str], point: tuple[str, int]) -> bool:
    return all(_PLAIN[cell](value) for cell, value in zip(row, point, strict=True))  # type: ignore[operator]  # predicates


@given(_ROWS)
@settings(max_examples=20, deadline=None)
def test_first_is_the_first_row_that_matches(rows: list[tuple[str, str]]) -> None:
    """For every customer the compiled rules name the row a plain loop would stop at."""
    rulebook = built(table_text([(row, "0.1") for row in rows], hit="FIRST"))

    for point in _POINTS:
        expected = next(([f"row-{i}"] for i, row in enumerate(rows, 1) if _matches(row, point)), [])
        assert hits(rulebook, customer(*point)) == expected


@given(_ROWS)
@settings(max_examples=25, deadline=None)
def test_gaps_and_overlaps_are_those_a_search_finds(rows: list[tuple[str, str]]) -> None:
    """A UNIQUE table is refused exactly where a customer matches twice, and warned of where one does not."""
    counts = [sum(_matches(row, point) for row in rows) for point in _POINTS]

    codes = {d.code for d in told(table_text([(row, "0.1") for row in rows], extra=""))}

    assert ("R704" in codes) == any(count > 1 for count in counts)
    assert ("R705" in codes) == any(count == 0 for count in counts)


def test_a_large_table_is_compiled_in_bounded_time() -> None:
    """500 rows that exclude each other are 500 rules, and one more is refused."""
    rows = [([f"[{i}..{i + 1})"], "0.1") for i in range(501)]
    inputs = "[{input: features.tenure}]"

    large = built(table_text(rows[:500], inputs=inputs, hit="FIRST"))
    too_large = told(table_text(rows, inputs=inputs, hit="FIRST"))

    assert sum(r.id.startswith("table.") for r in large.before_scores.rules) == 500
    assert [d.message for d in too_large] == ["the table has more than 500 rows"]


def test_rows_that_compete_too_much_are_refused() -> None:
    """A condition that would have to name hundreds of other rows is a diagnostic, not a slow set."""
    rows = [([f">= {i}"], "0.1") for i in range(500)]

    found = told(table_text(rows, inputs="[{input: features.tenure}]", hit="FIRST", extra="gaps: allowed\n"))

    assert "row 500 competes with too many rows" in {d.message for d in found}


@pytest.mark.parametrize(
    "cell",
    ["<", "[1..", "not(", "((((", '"', "1,,2", "..", "9" * 39, "[1..2", "é", "- -", "<=>", "not(not(1))"],
)
def test_a_strange_cell_is_told_in_words(cell: str) -> None:
    """Whatever stands in a cell, the answer is a diagnostic at that cell."""
    text = table_text([([cell], "0.1")], inputs="[{input: features.tenure}]")

    assert {d.code for d in told(text)} == {"R701"}


@given(st.text(alphabet='a",;\n\r \ufeffé', max_size=40), st.sampled_from([",", ";"]))
@settings(max_examples=200, deadline=None)
def test_csv_is_read_as_python_reads_it(text: str, delimiter: str) -> None:
    """Cells are those of the standard library, wherever both find the text right."""
    try:
        rows = [[cell.text for cell in row] for row in csv_rows(plain_file("t.csv", text), delimiter)]
    except CsvRefused:
        return

    plain = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), delimiter=delimiter)
    expected = [[cell.strip() for cell in row] for row in plain if any(cell.strip() for cell in row)]
    assert [[cell.strip() for cell in row] for row in rows] == expected


def test_truths_are_bytes_of_the_core() -> None:
    """A table's rules are ordinary rules: the core's program has their rows."""
    rulebook = built(table_text([(["one-year", "-"], "0.1")]))

    assert rulebook.before_scores.evaluate(frame(rulebook, {})).dtype == np.int8


@pytest.mark.parametrize("hit", ["UNIQUE", "FIRST"])
def test_the_search_for_gaps_is_bounded(hit: str) -> None:
    """Hundreds of rows that cut many inputs at once end in a note or in gaps, not in minutes."""
    names = ["features.tenure", "features.calls", "features.monthly", "context.basket"]
    rows = [([f"[{i * k % 97}..{i * k % 97 + 40})" for k in (1, 7, 31, 53)], "0.1") for i in range(1, 201)]
    search = Search(_table(table_text(rows, inputs=_inputs(names), hit=hit)), 5_000)

    assert search.left({}, [row.box for row in search.table.rows]) is None
    assert search.work > -1_000_000


def _inputs(names: Sequence[str]) -> str:
    return "[" + ", ".join(f"{{input: {name}}}" for name in names) + "]"


def _table(text: str) -> Table:
    rules = RuleSet.of(read_documents(sources_with(text)), SCHEMA, ())
    (table,) = read_tables(rules).tables
    return table
