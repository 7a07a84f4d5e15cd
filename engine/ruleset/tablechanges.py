"""What changed between two versions of a decision table, row by row and cell by cell.

Rows are the same that have the same id; rows without one are matched by their cells, in their order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Final

from engine.ruleset.reading import Located, Reading
from engine.ruleset.table_documents import DecisionTableDocument, HitPolicy, TableOutput
from engine.ruleset.tablesources import RowReader

ANY: Final = "-"
"""The cell that every value passes."""
_Pair = tuple["TableRow | None", "TableRow | None"]


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row as people see it: `name` is what explanations call it, `fields` its cells and output by name."""

    name: str
    named: bool  # by its author; else by its number
    file: str
    line: int
    cells: Mapping[str, str]
    output: tuple[str, str]  # what it decides, and to what
    reason: str

    @property
    def fields(self) -> dict[str, str]:
        """All of the row, cells first; a cell that tests nothing is left out."""
        told = {name: text for name, text in self.cells.items() if text != ANY}
        what, decided = self.output
        return told | {what: decided} | ({"reason": self.reason} if self.reason else {})

    @property
    def words(self) -> str:
        """The row in a line."""
        what, decided = self.output
        reason = f"; reason {self.reason}" if self.reason else ""
        return f"{what} {decided} when {_tests(self.cells) or 'anything'}{reason}"

    def tests_with(self, other: TableRow) -> str:
        """The cells that both rows have alike: what tells this row from others, in words."""
        return _tests({name: text for name, text in self.cells.items() if other.cells.get(name) == text})


@dataclass(frozen=True, slots=True)
class TableText:
    """A table and its rows, from YAML or CSV."""

    id: str
    rows: tuple[TableRow, ...]
    in_order: bool  # whether the order of rows decides


def table_text(reading: Reading, located: Located[DecisionTableDocument]) -> TableText:
    """A table that is right, as people see it."""
    table = located.document
    reader = RowReader(reading, located)
    rows = []
    for number, raw in enumerate(reader.rows(), start=1):
        cells = {
            declared.input: cell.text.strip() or ANY
            for declared, cell in zip(table.inputs, raw.when, strict=True)
        }
        rows.append(
            TableRow(
                name=f"{table.id}.{raw.id or f'row-{number}'}",
                named=raw.id is not None,
                file=reader.source.file,
                line=raw.line,
                cells=cells,
                output=(table.output.value, _decided(table, raw.then.text.strip())),
                reason=raw.reason or "",
            )
        )
    return TableText(table.id, tuple(rows), table.hit_policy is HitPolicy.FIRST)


def paired_rows(was: TableText, now: TableText) -> Iterator[_Pair]:
    """The rows of both versions that are one row; None on the side that does not have it."""
    named_was, named_now = ({row.name: row for row in t.rows if row.named} for t in (was, now))
    for name in dict.fromkeys([*named_now, *named_was]):
        yield named_was.get(name), named_now.get(name)
    numbered = [[row for row in t.rows if not row.named] for t in (was, now)]
    yield from _paired_in_order(*numbered)


def order_of_rows(was: TableText, now: TableText) -> tuple[str, str] | None:
    """The names of the rows of both versions in order, where order decides and differs."""
    if not (was.in_order and now.in_order):
        return None
    pairs = [(a, b) for a, b in paired_rows(was, now) if a is not None and b is not None]
    by_was = [a.name for a, _ in sorted(pairs, key=lambda pair: was.rows.index(pair[0]))]
    by_now = [a.name for a, _ in sorted(pairs, key=lambda pair: now.rows.index(pair[1]))]
    short = [", ".join(name.removeprefix(f"{was.id}.") for name in names) for names in (by_was, by_now)]
    return None if by_was == by_now else (short[0], short[1])


def _tests(cells: Mapping[str, str]) -> str:
    return " and ".join(f"{name} `{text}`" for name, text in cells.items() if text != ANY)


def _paired_in_order(was: Sequence[TableRow], now: Sequence[TableRow]) -> Iterator[_Pair]:
    """Rows with the same cells first; what stands between them is taken as the same rows, changed."""
    cells = [[tuple(row.cells.items()) for row in rows] for rows in (was, now)]
    for _, i, i_end, j, j_end in SequenceMatcher(a=cells[0], b=cells[1], autojunk=False).get_opcodes():
        for k in range(max(i_end - i, j_end - j)):
            before = was[i + k] if i + k < i_end else None
            after = now[j + k] if j + k < j_end else None
            yield before, after


def _decided(table: DecisionTableDocument, text: str) -> str:
    """The output of a row with its unit."""
    try:
        number = float(text)
    except ValueError:
        return text
    if table.output is TableOutput.LEVER:
        return f"{number * 100:+g} %"
    return f"{number:g} {table.currency}" if table.currency else f"{number:g}"
