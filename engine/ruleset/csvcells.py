"""Rows of a CSV file with the place of every cell, as RFC 4180 has them; spreadsheets' BOM and `;` too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from engine.ruleset import diagnostics as codes
from engine.ruleset.diagnostics import Diagnostic
from engine.ruleset.yamltree import YamlDocument

BOM: Final = "\ufeff"


@dataclass(frozen=True, slots=True)
class TextCell:
    """The text of a cell and where it is written; line and column count from 1."""

    text: str
    line: int
    column: int


Row = list[TextCell]


class CsvRefused(Exception):
    """The file is not CSV."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostic.message)
        self.diagnostic = diagnostic


def csv_rows(file: YamlDocument, delimiter: str) -> Iterator[Row]:
    """Rows that are not blank. Raises CsvRefused where a quote is not closed or stands inside a cell."""
    at, line, start = 0, 1, 0
    text = file.text
    if text.startswith(BOM):
        at = start = len(BOM)
    row: Row = []
    while at < len(text) or row:
        cell, at, breaks, line_start = _cell(file, at, line, start, delimiter)
        row.append(cell)
        if breaks:
            line, start = line + breaks, line_start
        if text.startswith(delimiter, at):
            at += len(delimiter)
            continue
        if text.startswith("\r\n", at):
            at += 2
        elif at < len(text):
            at += 1
        line, start = line + 1, at
        if any(c.text.strip() for c in row):
            yield row
        row = []


def _cell(
    file: YamlDocument, at: int, line: int, start: int, delimiter: str
) -> tuple[TextCell, int, int, int]:
    """The cell at `at`, the place behind it, line breaks inside it and where the last line begins."""
    text = file.text
    if not text.startswith('"', at):
        end = at
        while end < len(text) and text[end] not in "\r\n" and not text.startswith(delimiter, end):
            end += 1
        lead = len(text[at:end]) - len(text[at:end].lstrip())
        return TextCell(text[at:end].strip(), line, at + lead - start + 1), end, 0, start
    end = at + 1
    while (end := text.find('"', end)) != -1 and text.startswith('""', end):
        end += 2
    behind = text[end + 1 : end + 2]
    if end == -1 or behind not in ("", "\r", "\n", delimiter):
        message = "this quote is not closed" if end == -1 else "a quoted cell goes on behind its quote"
        raise CsvRefused(
            file.at(line, at - start + 1, codes.BAD_CSV, message, 'write a quote inside a cell as ""')
        )
    inner = text[at + 1 : end]
    breaks = inner.count("\n")
    line_start = at + 1 + inner.rfind("\n") + 1 if breaks else start
    cell = TextCell(inner.replace('""', '"'), line, at - start + 2)
    return cell, end + 1, breaks, line_start
