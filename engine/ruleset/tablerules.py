"""Decision tables as policy rules: one rule a row, so that one back end and one semantics serve both.

Where rows compete, a row's condition says that no row before it matches; only rows that can match together
are named, so tables stay small. A row that touches a missing input is neither matched nor passed over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from engine.core.rulebook import SourcePosition
from engine.domain import Effect
from engine.ruleset import diagnostics as codes
from engine.ruleset.authored import RowRule
from engine.ruleset.diagnostics import Diagnostic, did_you_mean
from engine.ruleset.documents import RuleEntry
from engine.ruleset.regions import meet_boxes
from engine.ruleset.ruleset import RuleSet
from engine.ruleset.table_documents import Collect, DecisionTableDocument, HitPolicy, TableOutput
from engine.ruleset.tables import Table, TableReader, TableRow
from engine.ruleset.yamltree import YamlDocument

MAX_CONDITION: Final = 3_000


@dataclass(frozen=True, slots=True)
class TableRule:
    """A rule made from a row, and where the row is written."""

    entry: RuleEntry
    amount: float
    position: SourcePosition
    source: YamlDocument
    asks: RowRule


@dataclass(frozen=True, slots=True)
class Tables:
    """All tables of a set that are right, their rules, and what is wrong with the others."""

    tables: tuple[Table, ...]
    rules: tuple[TableRule, ...]
    diagnostics: tuple[Diagnostic, ...]


NO_TABLES: Final = Tables((), (), ())


def read_tables(rules: RuleSet) -> Tables:
    """Reads and compiles every table; nothing where the inputs are not known because a file is wrong."""
    if rules.vocabulary is None or rules.consent is None or rules.catalogue is None:
        return NO_TABLES
    tables: list[Table] = []
    made: list[TableRule] = []
    problems: list[Diagnostic] = []
    for located in rules.decision_tables:
        reader = TableReader(rules, located)
        table = reader.table()
        problems += reader.problems
        if table is not None:
            problems += _wordless(rules, table)
            found, refused = _rules(table)
            problems += refused
            tables.append(table)
            made += found
    problems += _unread_csv(rules)
    problems += _values_twice(rules, tables)
    return Tables(tuple(tables), tuple(made), tuple(problems))


def _wordless(rules: RuleSet, table: Table) -> Iterator[Diagnostic]:
    """Reasons in a CSV file that have no words; `checks.py` has seen to those in YAML."""
    for row in table.rows if table.document.csv and rules.knows_all_reasons else ():
        if row.reason is not None and row.reason not in rules.reasons:
            advice = did_you_mean(row.reason, rules.reasons)
            message = f"the reason `{row.reason}` has no words"
            yield table.source.at(row.line, row.column, codes.MISSING_REASON, message, advice)


def _unread_csv(rules: RuleSet) -> Iterator[Diagnostic]:
    named = {
        (located.yaml.file.rpartition("/")[0], located.document.csv) for located in rules.decision_tables
    }
    for path, source in rules.reading.csv.items():
        folder, _, name = path.rpartition("/")
        if (folder, name) not in named and not rules.reading.untyped:
            message = "no decision table names this file"
            advice = "write a DecisionTable with `csv:` beside it, or remove the file"
            yield source.at(1, 1, codes.UNREAD_CSV, message, advice)


def _values_twice(rules: RuleSet, tables: Sequence[Table]) -> Iterator[Diagnostic]:
    """An action whose value two tables decide would have their sum."""
    seen: dict[str, str] = {}
    for table in tables:
        if table.document.output is not TableOutput.VALUE:
            continue
        for action, inside in zip(rules.actions, rules.in_scope(table.document.applies_to), strict=True):
            if inside and action.id in seen:
                message = f"the table `{seen[action.id]}` decides the value of `{action.id}` already"
                yield table.located.problem(("applies_to",), codes.VALUE_TWICE, message, "narrow one scope")
            elif inside:
                seen[action.id] = table.document.id


def ranked(table: DecisionTableDocument, rows: Sequence[TableRow]) -> list[TableRow] | None:
    """Rows in the order in which they win; None where they do not compete.

    An output that `priority` does not list comes last.
    """
    match table.hit_policy:
        case HitPolicy.FIRST:
            return list(rows)
        case HitPolicy.PRIORITY:
            order = list(table.priority) or [Effect.DENY.value, Effect.ALLOW.value]
            return sorted(
                rows, key=lambda row: order.index(row.output) if row.output in order else len(order)
            )
        case HitPolicy.COLLECT if table.collect in (Collect.MIN, Collect.MAX):
            sign = 1 if table.collect is Collect.MIN else -1
            return sorted(rows, key=lambda row: sign * row.amount)
        case _:
            return None


def _rules(table: Table) -> tuple[list[TableRule], list[Diagnostic]]:
    made: list[TableRule] = []
    problems: list[Diagnostic] = []
    order = ranked(table.document, table.rows)
    for place, row in enumerate(order or table.rows):
        rivals = (order or [])[:place]
        met = [rival for rival in rivals if meet_boxes(rival.box, row.box) is not None]
        condition = _without_rivals(row, met)
        if len(condition) > MAX_CONDITION:
            message = f"row {row.number} competes with too many rows"
            advice = "make the rows exclude each other, and the hit policy UNIQUE"
            problems.append(table.source.at(row.line, row.column, codes.BAD_TABLE, message, advice))
        elif row.effect is not Effect.ALLOW:
            made.append(_rule(table, row, condition, met))
    made.sort(key=lambda rule: rule.position.line)
    if table.document.otherwise is not None:
        made.append(_otherwise(table))
    return made, [*problems, *_unlisted(table)]


def _unlisted(table: Table) -> Iterator[Diagnostic]:
    for row in table.rows if table.document.priority else ():
        if row.output not in table.document.priority:
            message = f"`priority` does not list `{row.output}`"
            yield table.source.at(row.line, row.column, codes.BAD_TABLE, message, "add it to `priority`")


def _without_rivals(row: TableRow, rivals: Sequence[TableRow]) -> str:
    if not rivals:
        return row.condition
    return f"{_bracketed(row)} && !({' || '.join(_bracketed(rival) for rival in rivals)})"


def _bracketed(row: TableRow) -> str:
    return row.condition if row.condition == "true" else f"({row.condition})"


def _otherwise(table: Table) -> TableRule:
    """The rule of an eligibility table for where no row matches."""
    condition = "!(" + " || ".join(_bracketed(row) for row in table.rows) + ")"
    line, column = table.located.yaml.place(("otherwise",), key=True)
    entry = _entry(table, f"{table.document.id}.otherwise", condition, Effect.DENY, table.document.otherwise)
    position = SourcePosition(table.located.yaml.file, line, column)
    asks = RowRule(None, tuple(row.asks(table.source.file) for row in table.rows))
    return TableRule(entry, 0.0, position, table.located.yaml, asks)


def _rule(table: Table, row: TableRow, condition: str, rivals: Sequence[TableRow]) -> TableRule:
    entry = _entry(table, row.id, condition, row.effect, row.reason)
    file = table.source.file
    asks = RowRule(row.asks(file), tuple(rival.asks(file) for rival in rivals))
    return TableRule(entry, row.amount, SourcePosition(file, row.line, row.column), table.source, asks)


def _entry(table: Table, name: str, condition: str, effect: Effect, reason: str | None) -> RuleEntry:
    document = table.document
    return RuleEntry.model_construct(
        id=name,
        policy_class=document.policy_class,
        applies_to=document.applies_to,
        when=condition,
        effect=effect,
        share=None,
        factor=None,
        reason=reason,
        otherwise=None,
        valid=document.valid,
        state=document.state,
    )
