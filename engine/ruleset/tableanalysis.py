"""Cells of a decision table that no row covers, or that several rows cover where one may.

Exact over the declared values: intervals of numbers, categories, and the actions of the catalogue.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from typing import Final

from engine.ruleset import diagnostics as codes
from engine.ruleset.diagnostics import Diagnostic
from engine.ruleset.regions import Box, Region, box_words, meet_boxes, subtract
from engine.ruleset.table_documents import HitPolicy
from engine.ruleset.tablerules import ranked
from engine.ruleset.tables import Table, TableRow

MAX_PIECES: Final = 2_000
MAX_WORK: Final = 400_000
"""Sets of values that the search for gaps and for rows without effect compares in one table."""
_SHOWN_GAPS: Final = 5
_SHOWN_OVERLAPS: Final = 20


def overlaps(table: Table) -> Iterator[Diagnostic]:
    """Cells that two rows of a UNIQUE table cover."""
    if table.document.hit_policy is not HitPolicy.UNIQUE:
        return
    pairs = ((a, b, _both(a, b, table)) for a, b in combinations(table.rows, 2))
    for one, other, both in islice(((a, b, box) for a, b, box in pairs if box is not None), _SHOWN_OVERLAPS):
        message = f"rows {one.number} and {other.number} both cover {_words(both, table)}"
        advice = "narrow one of them, or choose hit policy FIRST"
        yield table.source.at(other.line, other.column, codes.ROWS_OVERLAP, message, advice)


def weaknesses(table: Table) -> Iterator[Diagnostic]:
    """Cells that no row covers, and rows that can never be the one that counts."""
    search = Search(table, MAX_WORK)
    yield from _gaps(table, search)
    yield from _never_hit(table, search)


def _both(one: TableRow, other: TableRow, table: Table) -> Box | None:
    both = meet_boxes(one.box, other.box)
    return None if both is None else meet_boxes(both, table.every)


def _words(box: Box, table: Table) -> str:
    return box_words(box, tuple(str(name) for name in table.every))


@dataclass(slots=True)
class Search:
    """Looks for what rows leave open; `work` bounds all of it together."""

    table: Table
    work: int

    def left(self, start: Box, cuts: Sequence[Box]) -> Region | None:
        """What of `start` no cut covers; None where that would take too long to find out."""
        every = self.table.every
        region: Region | None = ({**every, **start},)
        for cut in cuts:
            if not region:
                break
            self.work -= len(region) * len(every)
            region = subtract(region, cut, every, limit=MAX_PIECES) if self.work > 0 else None
        return region


def _gaps(table: Table, search: Search) -> Iterator[Diagnostic]:
    document = table.document
    if document.gaps == "allowed" or document.otherwise is not None:
        return
    left = search.left({}, [row.box for row in table.rows])
    if left is None:
        advice = "make the rows simpler, or say `gaps: allowed`"
        message = "the table is too interwoven to look for gaps"
        yield table.located.problem(("id",), codes.NOT_ANALYSED, message, advice)
        return
    for i, box in enumerate(left[:_SHOWN_GAPS]):
        more = (
            f" (and {len(left) - _SHOWN_GAPS} more)"
            if i == _SHOWN_GAPS - 1 and len(left) > _SHOWN_GAPS
            else ""
        )
        message = f"no row covers {_words(box, table)}{more}"
        advice = "add a row, declare the `domain` of an input, or say `gaps: allowed`"
        line, column = (1, 1) if document.csv else table.located.yaml.place(("rows",), key=True)
        yield table.source.at(line, column, codes.GAP, message, advice)


def _never_hit(table: Table, search: Search) -> Iterator[Diagnostic]:
    order = ranked(table.document, table.rows)
    for place, row in enumerate(order or table.rows):
        inside = meet_boxes(row.box, table.every)
        if inside is None or any(values.is_empty for values in row.box.values()):
            message = f"row {row.number} can never match: no action or declared value is in its cells"
        elif order and search.left(inside, [rival.box for rival in order[:place]]) == ():
            message = f"row {row.number} never counts: the rows that win over it cover all of it"
        else:
            continue
        yield table.source.at(row.line, row.column, codes.ROW_NEVER_HIT, message, "remove or narrow it")
