"""The small language of input cells: DMN's unary tests, written as CEL and as a set of values.

-   (or nothing)       any value
"month-to-month"       a value; a word needs no quotes
one-year, two-year     one of several tests
< 10   >= 2026-01-01   a comparison
[10..20)               an interval, `[` and `]` inside, `(` and `)` outside
not(dsl, fiber)        none of the tests
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from engine.ruleset import diagnostics as codes
from engine.ruleset.diagnostics import did_you_mean
from engine.ruleset.expression import INT_MAX, INT_MIN, Kind
from engine.ruleset.lowering import timestamp_ms
from engine.ruleset.reasoning import every_value_of
from engine.ruleset.regions import Region
from engine.ruleset.values import Numbers, ValueSet, Words, compared, meet, without

MAX_CELL: Final = 1_000
ANY: Final = frozenset({"", "-"})
_NOT = re.compile(r"not\s*\(")
_SIGN = re.compile(r"<=|>=|!=|==|<|>|=")
_INTERVAL_START: Final = "[(]"
_NUMBER = re.compile(r"[-+]?\d{1,40}(?:\.\d{1,40})?(?:[eE][-+]?\d{1,3})?")
_INSTANT = re.compile(r"\d{4}-\d{2}-\d{2}(?:T\d{2}:\d{2}:\d{2}(?:\.\d{1,3})?(?:Z|[+-]\d{2}:\d{2}))?")
_QUOTED = re.compile(r'"((?:[^"\\]|\\["\\])*)"')
_BARE = re.compile(r"[^,()\[\]<>=!\"]+")
_BLANK = re.compile(r"\s*")
_EXAMPLES: Final[Mapping[Kind, str]] = {
    Kind.INT: "12, < 12 or [12..24)",
    Kind.DOUBLE: "70, < 70 or [70..100)",
    Kind.BOOL: "true or false",
    Kind.TIMESTAMP: "< 2026-01-31 or [2026-01-01..2026-02-01)",
    Kind.STRING: 'one-year, or "one-year", "two-year"',
    Kind.LIST: "a tag, or not(tag)",
}


@dataclass(frozen=True, slots=True)
class Column:
    """An input of a table: the name conditions know it by, its kind, and the values it can have."""

    name: str
    kind: Kind
    values: tuple[str, ...] | None = None  # the only texts it can be; None: any

    @property
    def every(self) -> ValueSet:
        """All values."""
        kind = Kind.STRING if self.kind is Kind.LIST else self.kind
        return every_value_of(self.name, kind, {} if self.values is None else {self.name: self.values})


@dataclass(frozen=True, slots=True)
class Cell:
    """One test of a row: its CEL text and the values that pass. `negated` matters for lists of tags."""

    cel: str
    passes: ValueSet
    negated: bool = False


class CellRefused(Exception):
    """The cell cannot be read; `offset` counts characters of it."""

    def __init__(self, offset: int, code: str, message: str, advice: str) -> None:
        super().__init__(message)
        self.offset, self.code, self.message, self.advice = offset, code, message, advice


def read_cell(text: str, column: Column) -> Cell | None:
    """The test of a cell; None where any value passes. Raises CellRefused."""
    if text.strip() in ANY:
        return None
    if len(text) > MAX_CELL:
        message = f"the cell is longer than {MAX_CELL} characters"
        raise CellRefused(0, codes.BAD_CELL, message, "split the row")
    return _Reader(text, column).cell()


@dataclass(frozen=True, slots=True)
class _Test:
    cel: str
    passes: ValueSet
    literal: str = ""  # text of a single value, so that several make one `in`


class _Reader:
    """Reads one cell from left to right."""

    def __init__(self, text: str, column: Column) -> None:
        self.text, self.column = text, column
        self.at = 0

    def cell(self) -> Cell:
        self._skip()
        negated = _NOT.match(self.text, self.at)
        if negated:
            self.at = negated.end()
        tests = self._tests()
        if negated:
            self._expect(")")
        self._skip()
        if self.at < len(self.text):
            raise self._refuse("this does not belong here")
        return self._joined(tests, bool(negated))

    def _tests(self) -> list[_Test]:
        tests = [self._test()]
        while self._skip() == ",":
            self.at += 1
            tests.append(self._test())
        return tests

    def _joined(self, tests: Sequence[_Test], negated: bool) -> Cell:
        every = self.column.every
        left = every
        for test in tests:
            left = without(left, test.passes)
        cel = self._cel(tests)
        passes = left if negated else without(every, left)
        return Cell(f"!({cel})" if negated else cel, passes, negated)

    def _cel(self, tests: Sequence[_Test]) -> str:
        name = self.column.name
        if self.column.kind is Kind.LIST:
            return " || ".join(f"{test.literal} in {name}" for test in tests)
        if len(tests) > 1 and all(test.literal for test in tests):
            return f"{name} in [{', '.join(test.literal for test in tests)}]"
        return " || ".join(test.cel for test in tests)

    def _test(self) -> _Test:
        sign = self._skip()
        if found := _SIGN.match(self.text, self.at):
            return self._comparison(found)
        if sign and sign in _INTERVAL_START:
            return self._interval()
        start = self.at
        literal, value = self._literal()
        if self.column.kind is Kind.BOOL:
            cel = self.column.name if value else f"!{self.column.name}"
            return _Test(cel, compared(self.column.every, "==", value))
        self._check_known(start, value)
        return _Test(f"{self.column.name} == {literal}", compared(self.column.every, "==", value), literal)

    def _comparison(self, found: re.Match[str]) -> _Test:
        if self.column.kind in (Kind.BOOL, Kind.STRING, Kind.LIST):
            raise self._refuse(f"`{found[0]}` is for numbers and instants")
        if found[0] in ("!=", "==", "="):
            raise self._refuse(f"`{found[0]}` is not needed here")
        self.at = found.end()
        literal, value = self._literal()
        cel = f"{self.column.name} {found[0]} {literal}"
        return _Test(cel, compared(self.column.every, found[0], value))

    def _interval(self) -> _Test:
        if self.column.kind in (Kind.BOOL, Kind.STRING, Kind.LIST):
            raise self._refuse("an interval is for numbers and instants")
        start = self.at
        low_sign = ">=" if self.text[self.at] == "[" else ">"
        self.at += 1
        low, low_value = self._literal()
        self._expect("..")
        high, high_value = self._literal()
        if self._skip() not in ("]", ")", "["):
            raise self._refuse("an interval ends with `]` or `)`")
        high_sign = "<=" if self.text[self.at] == "]" else "<"
        self.at += 1
        every = self.column.every
        passes = meet(compared(every, low_sign, low_value), compared(every, high_sign, high_value))
        if passes.is_empty:
            raise CellRefused(
                start, codes.BAD_CELL, "nothing lies in this interval", "the lower bound comes first"
            )
        name = self.column.name
        return _Test(f"({name} {low_sign} {low} && {name} {high_sign} {high})", passes)

    def _literal(self) -> tuple[str, bool | int | float | str]:
        """CEL text and value of a literal of the column's kind."""
        self._skip()
        match self.column.kind:
            case Kind.INT | Kind.DOUBLE:
                return self._number()
            case Kind.BOOL:
                return self._boolean()
            case Kind.TIMESTAMP:
                return self._instant()
            case _:
                return self._word()

    def _number(self) -> tuple[str, int | float]:
        found = _NUMBER.match(self.text, self.at)
        if found is None:
            raise self._refuse("not a number")
        if self.column.kind is Kind.DOUBLE:
            number = float(found[0])
            if abs(number) > 1e300:
                raise self._refuse("the number is too large")
            self.at = found.end()
            return repr(number), number
        if not found[0].lstrip("+-").isdigit() or not INT_MIN <= int(found[0]) <= INT_MAX:
            raise self._refuse(f"`{self.column.name}` is a whole number")
        self.at = found.end()
        return str(int(found[0])), int(found[0])

    def _boolean(self) -> tuple[str, bool]:
        for word in ("true", "false"):
            if self.text.startswith(word, self.at):
                self.at += len(word)
                return word, word == "true"
        raise self._refuse("not true or false")

    def _instant(self) -> tuple[str, int]:
        found = _INSTANT.match(self.text, self.at)
        written = "" if found is None else found[0] if "T" in found[0] else f"{found[0]}T00:00:00Z"
        value = timestamp_ms(written)
        if found is None or value is None:
            raise self._refuse("not a date or instant")
        self.at = found.end()
        instant = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(milliseconds=value)
        return f'timestamp("{instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")}")', value

    def _word(self) -> tuple[str, str]:
        if quoted := _QUOTED.match(self.text, self.at):
            self.at = quoted.end()
            word = re.sub(r"\\(.)", r"\1", quoted[1])
        else:
            found = _BARE.match(self.text, self.at)
            word = found[0].strip() if found else ""
            if not found or not word:
                raise self._refuse("a value is missing here")
            self.at = found.end()
        return cel_text(word), word

    def _check_known(self, start: int, value: object) -> None:
        known = self.column.values
        if known is not None and value not in known:
            message = f"`{self.column.name}` is never `{value}`"
            raise CellRefused(start, codes.UNKNOWN_LITERAL, message, did_you_mean(str(value), known))

    def _skip(self) -> str:
        """The next sign that is not blank."""
        blank = _BLANK.match(self.text, self.at)
        assert blank is not None  # it matches the empty text
        self.at = blank.end()
        return self.text[self.at : self.at + 1]

    def _expect(self, sign: str) -> None:
        self._skip()
        if not self.text.startswith(sign, self.at):
            raise self._refuse(f"`{sign}` is missing here")
        self.at += len(sign)

    def _refuse(self, message: str) -> CellRefused:
        advice = f"write e.g. {_EXAMPLES[self.column.kind]}"
        return CellRefused(self.at, codes.BAD_CELL, message, advice)


def cel_text(word: str) -> str:
    """A text literal of CEL."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'


def column_passes(cell: Cell, value: object) -> bool:
    """Whether the value of one action's field passes."""
    if isinstance(value, tuple):  # tags: any of those named
        named = cell.passes if not cell.negated else without(Words(frozenset(), others=True), cell.passes)
        assert isinstance(named, Words)
        return any(named.holds(tag) for tag in value) != cell.negated
    if isinstance(cell.passes, Numbers):
        assert isinstance(value, (int, float))
        return cell.passes.holds(value)
    return cell.passes.holds(str(value))


def region_of(name: str, cell: Cell) -> Region:
    """Where a cell passes."""
    return ({name: cell.passes},)
