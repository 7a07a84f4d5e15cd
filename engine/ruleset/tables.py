"""Decision tables, read: typed columns, and rows whose cells are known to mean something.

The rows stand in the YAML file itself or in a CSV file beside it; both end as the same `Table`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from engine.core.rulebook import SourcePosition
from engine.domain import Effect
from engine.ruleset import diagnostics as codes
from engine.ruleset.authored import CellTest, RowTest
from engine.ruleset.cells import Cell, CellRefused, Column, column_passes, read_cell
from engine.ruleset.csvcells import TextCell
from engine.ruleset.diagnostics import Diagnostic, did_you_mean
from engine.ruleset.documents import ActionEntry
from engine.ruleset.expression import PROPENSITY, Kind
from engine.ruleset.lowering import COLUMN_KINDS
from engine.ruleset.reading import Located
from engine.ruleset.regions import Box
from engine.ruleset.ruleset import RuleSet
from engine.ruleset.table_documents import DecisionTableDocument, TableOutput
from engine.ruleset.tablesources import RawRow, RowReader
from engine.ruleset.values import ValueSet, Words, meet
from engine.ruleset.yamltree import Path, YamlDocument

MAX_ROWS: Final = 500
ACTION: Final = "action"
"""The variable of a box that stands for which action it is: all cells on fields of `action` in one."""
_ACTION_FIELD: Final = "action."
_SEGMENT: Final = "segments."
_TESTED: Final = frozenset({"bool", "int", "double", "string", "timestamp"})
"""Types of inputs that cells can test; a list could pass the cells of two rows at once."""
_BOUNDS: Final[Mapping[TableOutput, tuple[float, float]]] = {
    TableOutput.LEVER: (-10.0, 10.0),
    TableOutput.WEIGHT: (1e-6, 1_000.0),
    TableOutput.VALUE: (-1e12, 1e12),
}


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row that is right. `box` says where it matches; `number` counts from 1."""

    number: int
    id: str
    condition: str  # CEL
    box: Box
    effect: Effect
    amount: float
    output: str  # as it is compared with `priority`
    reason: str | None
    line: int
    column: int
    cells: tuple[CellTest, ...]

    def asks(self, file: str) -> RowTest:
        """The row as it stands in its file."""
        return RowTest(self.number, self.condition, SourcePosition(file, self.line, self.column), self.cells)


@dataclass(frozen=True, slots=True)
class Table:
    """A table that is right by itself. `every` has all values of each variable of the rows' boxes."""

    located: Located[DecisionTableDocument]
    source: YamlDocument  # the file the rows stand in
    rows: tuple[TableRow, ...]
    every: Box

    @property
    def document(self) -> DecisionTableDocument:
        """What the header says."""
        return self.located.document


@dataclass(frozen=True, slots=True)
class _Input:
    column: Column
    occurs: ValueSet  # the declared domain, or all values
    optional: bool  # a missing value matches no cell but "-"


class TableReader:
    """Reads one table; `problems` is why there is none, or what is odd about it."""

    def __init__(self, rules: RuleSet, located: Located[DecisionTableDocument]) -> None:
        self.rules, self.located = rules, located
        self.document = located.document
        self.source = located.yaml
        self.problems: list[Diagnostic] = []
        self.actions: tuple[ActionEntry, ...] = tuple(
            a
            for a, inside in zip(rules.actions, rules.in_scope(self.document.applies_to), strict=True)
            if inside
        )

    def table(self) -> Table | None:
        """The table, or None where something is wrong with it."""
        self._check_header()
        inputs = self._inputs()
        raw = self._raw_rows(inputs)
        rows = [self._row(i, row, inputs) for i, row in enumerate(raw, start=1)] if inputs else []
        good = tuple(row for row in rows if row is not None)
        if self.problems or not good:
            return None
        return Table(self.located, self.source, good, self._every(inputs))

    def _bad(self, path: Path, message: str, advice: str, code: str = codes.BAD_TABLE) -> None:
        self.problems.append(self.located.problem(path, code, message, advice))

    def _check_header(self) -> None:
        table = self.document
        if (table.csv is None) == (not table.rows):
            self._bad(("kind",), "a table has either `rows` or a `csv` file", "give one of them")
        gate = table.output is TableOutput.ELIGIBILITY
        if gate and table.policy_class is None:
            self._bad(("output",), "an eligibility table needs `class`", "add `class: eligibility`")
        for name, given in (("class", table.policy_class), ("otherwise", table.otherwise)):
            if given is not None and not gate:
                self._bad((name,), f"`{name}` is for eligibility tables", "remove it")
        if (problem := collect_problem(table)) is not None:
            self._bad(("hit_policy",), *problem)
        self._check_currency()

    def _check_currency(self) -> None:
        table, catalogue = self.document, self.rules.catalogue
        if table.output is not TableOutput.VALUE:
            if table.currency is not None:
                self._bad(("currency",), "`currency` is for value tables", "remove it")
        elif table.currency is None:
            advice = f"add `currency: {catalogue.document.currency}`" if catalogue else "add `currency`"
            self._bad(("output",), "the values of this table have no currency", advice, codes.NO_CURRENCY)
        elif catalogue and table.currency != catalogue.document.currency:
            message = f"the catalogue is in {catalogue.document.currency}, this table in {table.currency}"
            self._bad(("currency",), message, "convert the values", codes.NO_CURRENCY)

    def _inputs(self) -> list[_Input]:
        """The columns; empty where one of them is wrong."""
        found = [self._input(i) for i in range(len(self.document.inputs))]
        names = [declared.input for declared in self.document.inputs]
        for i, name in enumerate(names):
            if name in names[:i]:
                self._bad(("inputs", i, "input"), f"the input `{name}` has a column already", "remove one")
        return [] if None in found else [declared for declared in found if declared is not None]

    def _input(self, i: int) -> _Input | None:
        declared = self.document.inputs[i]
        kind = self._kinds().get(declared.input)
        if kind is None:
            advice = did_you_mean(declared.input, self._kinds())
            self._bad(("inputs", i, "input"), f"unknown input `{declared.input}`", advice, codes.UNKNOWN_NAME)
            return None
        optional = declared.missing == "no_match"
        if optional and declared.input.startswith((_ACTION_FIELD, _SEGMENT)):
            message = f"`{declared.input}` is not an input, so it is never missing itself"
            self._bad(("inputs", i, "missing"), message, "remove `missing`")
        column = Column(declared.input, kind, self.rules.domains.get(declared.input))
        every = column.every
        every = replace(every, special=frozenset())
        place = TextCell(declared.domain, *self.located.yaml.place(("inputs", i, "domain")))
        domain = self._cell(self.located.yaml, place, column)
        return _Input(column, every if domain is None else meet(every, domain.passes), optional)

    def _kinds(self) -> dict[str, Kind]:
        kinds = {i.name: Kind(i.type.value) for i in self.rules.inputs if i.type.value in _TESTED}
        kinds |= {f"{_ACTION_FIELD}{name}": kind for name, kind in COLUMN_KINDS.items()}
        for pack in self.rules.segment_packs:
            kinds |= {f"{_SEGMENT}{segment.id}": Kind.BOOL for segment in pack.document.segments}
        return kinds | {PROPENSITY: Kind.DOUBLE}

    def _cell(self, source: YamlDocument, cell: TextCell, column: Column) -> Cell | None:
        try:
            return read_cell(cell.text, column)
        except CellRefused as refused:
            at = cell.column + refused.offset if "\n" not in cell.text else cell.column
            line = source.lines[cell.line - 1] if cell.line <= len(source.lines) else ""
            quoted = line[cell.column - 1 : cell.column] in ("'", '"') and not cell.text.startswith('"')
            found = source.at(
                cell.line, at + quoted, refused.code, f"`{cell.text}`: {refused.message}", refused.advice
            )
            self.problems.append(found)
            return None

    def _raw_rows(self, inputs: Sequence[_Input]) -> list[RawRow]:
        reader = RowReader(self.rules.reading, self.located)
        rows = reader.rows()
        self.problems += reader.problems
        self.source = reader.source
        if len(rows) > MAX_ROWS:
            self._bad(("kind",), f"the table has more than {MAX_ROWS} rows", "split it by scope")
            return []
        for row in rows:
            if inputs and len(row.when) != len(inputs):
                message = f"the row has {len(row.when)} cells for {len(inputs)} inputs"
                advice = 'one cell for each input, in their order; "-" for any value'
                self.problems.append(self.source.at(row.line, row.column, codes.BAD_TABLE, message, advice))
        return [row for row in rows if len(row.when) == len(inputs)]

    def _row(self, number: int, raw: RawRow, inputs: Sequence[_Input]) -> TableRow | None:
        cells = [
            self._cell(self.source, cell, declared.column)
            for cell, declared in zip(raw.when, inputs, strict=True)
        ]
        output = self._output(raw)
        if output is None:
            return None
        effect, amount, word = output
        return TableRow(
            number=number,
            id=f"{self.document.id}.{raw.id or f'row-{number}'}",
            condition=_condition(cells, inputs),
            box=self._box(cells, inputs),
            effect=effect,
            amount=amount,
            output=word,
            reason=None if effect is Effect.ALLOW else raw.reason or self.document.reason,
            line=raw.line,
            column=raw.column,
            cells=self._tests(raw, cells, inputs),
        )

    def _tests(
        self, raw: RawRow, cells: Sequence[Cell | None], inputs: Sequence[_Input]
    ) -> tuple[CellTest, ...]:
        return tuple(
            CellTest(
                column=declared.column.name,
                text=written.text.strip(),
                condition=_test(cell, declared),
                position=SourcePosition(self.source.file, written.line, written.column),
            )
            for written, cell, declared in zip(raw.when, cells, inputs, strict=True)
            if cell is not None
        )

    def _output(self, raw: RawRow) -> tuple[Effect, float, str] | None:
        """What a row decides; None where it cannot be read."""
        kind, text = self.document.output, raw.then.text.strip()
        if kind is TableOutput.ELIGIBILITY:
            if text in (Effect.ALLOW.value, Effect.DENY.value):
                return self._checked_reason(raw, Effect(text), 0.0, text)
            self._bad_output(raw, f"`{text}` is neither allow nor deny", "write allow or deny")
            return None
        low, high = _BOUNDS[kind]
        try:
            amount = float(text)
        except ValueError:
            amount = float("nan")
        if not low <= amount <= high:
            self._bad_output(
                raw, f"`{text}` is not a {kind.value}", f"write a number from {low:g} to {high:g}"
            )
            return None
        return self._checked_reason(raw, Effect(kind.value), amount, text)

    def _checked_reason(
        self, raw: RawRow, effect: Effect, amount: float, word: str
    ) -> tuple[Effect, float, str] | None:
        if effect is Effect.ALLOW:
            if raw.reason is not None:
                self._bad_output(raw, "a row that allows gives no reason", "leave it out")
            return effect, amount, word
        if raw.reason is None and self.document.reason is None:
            advice = "give the row or the table a `reason`"
            self._bad_output(raw, f"the row says `{word}` and not why", advice)
            return None
        return effect, amount, word

    def _bad_output(self, raw: RawRow, message: str, advice: str) -> None:
        then = raw.then
        self.problems.append(self.source.at(then.line, then.column, codes.BAD_TABLE, message, advice))

    def _box(self, cells: Sequence[Cell | None], inputs: Sequence[_Input]) -> Box:
        box: dict[object, ValueSet] = {}
        ids = {action.id for action in self.actions}
        for cell, declared in zip(cells, inputs, strict=True):
            name = declared.column.name
            if cell is not None and name.startswith(_ACTION_FIELD):
                field = name.removeprefix(_ACTION_FIELD)
                ids &= {a.id for a in self.actions if column_passes(cell, getattr(a, field))}
                box[ACTION] = Words(frozenset(ids))
            elif cell is not None:
                box[name] = cell.passes
        return box

    def _every(self, inputs: Sequence[_Input]) -> Box:
        every: dict[object, ValueSet] = {}
        for declared in inputs:
            if declared.column.name.startswith(_ACTION_FIELD):
                every[ACTION] = Words(frozenset(action.id for action in self.actions))
            else:
                every[declared.column.name] = declared.occurs
        return every


def collect_problem(table: DecisionTableDocument) -> tuple[str, str] | None:
    """What is wrong with how hit policy, `collect` and `priority` go together; message and advice."""
    policy, gate = table.hit_policy.value, table.output is TableOutput.ELIGIBILITY
    if policy != "COLLECT" and table.collect is not None:
        return "`collect` is for hit policy COLLECT", "remove it"
    if policy != "PRIORITY" and table.priority:
        return "`priority` is for hit policy PRIORITY", "remove it"
    if policy == "PRIORITY" and not gate and not table.priority:
        return "hit policy PRIORITY needs `priority`", "list the outputs, the one that wins first"
    if policy == "COLLECT" and gate and table.collect is not None:
        return "eligibility is collected by itself: one row that denies is enough", "remove `collect`"
    if policy == "COLLECT" and table.output is TableOutput.WEIGHT and table.collect == "sum":
        return "weights multiply and have no sum", "leave `collect` out, or write min or max"
    needs = policy == "COLLECT" and table.output in (TableOutput.LEVER, TableOutput.VALUE)
    return ("COLLECT needs `collect`", "write sum, min or max") if needs and table.collect is None else None


def _condition(cells: Sequence[Cell | None], inputs: Sequence[_Input]) -> str:
    parts = [_test(cell, declared) for cell, declared in zip(cells, inputs, strict=True) if cell is not None]
    return " && ".join(parts) or "true"


def _test(cell: Cell, declared: _Input) -> str:
    text = f"({cell.cel})" if "||" in cell.cel and not cell.negated else cell.cel
    return f"has({declared.column.name}) && {text}" if declared.optional else text
