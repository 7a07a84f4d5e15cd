"""Rows of decision tables as they are written: in the YAML file itself, or in a CSV file beside it."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from engine.ruleset import diagnostics as codes
from engine.ruleset.csvcells import CsvRefused, Row, TextCell, csv_rows
from engine.ruleset.diagnostics import Diagnostic, did_you_mean
from engine.ruleset.reading import Located, Reading
from engine.ruleset.table_documents import DecisionTableDocument
from engine.ruleset.yamltree import Path, YamlDocument

_EXTRA_COLUMNS: Final = frozenset({"then", "reason", "id", "note"})


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row as it is written."""

    when: tuple[TextCell, ...]
    then: TextCell
    reason: str | None
    id: str | None
    line: int
    column: int


class RowReader:
    """Finds the rows of one table; `source` is the file they stand in."""

    def __init__(self, reading: Reading, located: Located[DecisionTableDocument]) -> None:
        self.reading, self.located = reading, located
        self.document = located.document
        self.source: YamlDocument = located.yaml
        self.problems: list[Diagnostic] = []

    def rows(self) -> list[RawRow]:
        """The rows, in order; `problems` is why some are not there."""
        return list(self._csv_rows()) if self.document.csv is not None else list(self._yaml_rows())

    def _yaml_rows(self) -> Iterator[RawRow]:
        place = self.located.yaml.place
        for i, row in enumerate(self.document.rows):
            path: Path = ("rows", i)
            when = tuple(TextCell(text, *place((*path, "when", j))) for j, text in enumerate(row.when))
            then = TextCell(row.then, *place((*path, "then")))
            yield RawRow(when, then, row.reason, row.id, *place(path))

    def _csv_rows(self) -> Iterator[RawRow]:
        assert self.document.csv is not None
        path = posixpath.join(posixpath.dirname(self.located.yaml.file), self.document.csv)
        source = self.reading.csv.get(path)
        if source is None:
            message = f"there is no file `{self.document.csv}` beside this one"
            advice = did_you_mean(path, self.reading.csv)
            self.problems.append(self.located.problem(("csv",), codes.UNKNOWN_NAME, message, advice))
            return
        self.source = source
        try:
            rows = list(csv_rows(source, self.document.delimiter))
        except CsvRefused as refused:
            self.problems.append(refused.diagnostic)
            return
        places = self._header(rows)
        if places is not None:
            for row in rows[1:]:
                yield from self._csv_row(row, places, width=len(rows[0]))

    def _header(self, rows: Sequence[Row]) -> dict[str, int] | None:
        """Column names to their places in a row; None where the first row is not a header."""
        header = rows[0] if rows else []
        wanted = [declared.input for declared in self.document.inputs]
        known = {*wanted, *_EXTRA_COLUMNS}
        before = len(self.problems)
        for i, cell in enumerate(header):
            if cell.text not in known or cell.text in [c.text for c in header[:i]]:
                message = f"the column `{cell.text}` is not an input of this table, or is there twice"
                advice = did_you_mean(cell.text, known)
                self.problems.append(self.source.at(cell.line, cell.column, codes.BAD_CSV, message, advice))
        for name in [*wanted, "then"]:
            if name not in [cell.text for cell in header]:
                message = f"the header has no column `{name}`"
                self.problems.append(self.source.at(1, 1, codes.BAD_CSV, message, "add it"))
        return None if len(self.problems) > before else {cell.text: i for i, cell in enumerate(header)}

    def _csv_row(self, row: Row, places: Mapping[str, int], *, width: int) -> Iterator[RawRow]:
        line, column = row[0].line, 1
        if len(row) != width:
            message = f"the row has {len(row)} cells, the header {width}"
            advice = "put cells that hold the delimiter in quotes"
            self.problems.append(self.source.at(line, column, codes.BAD_CSV, message, advice))
            return
        extra = {
            name: row[places[name]].text or None if name in places else None for name in ("reason", "id")
        }
        when = tuple(row[places[declared.input]] for declared in self.document.inputs)
        yield RawRow(when, row[places["then"]], extra["reason"], extra["id"], line, column)
