"""What a condition saw: every part of its text with the value it had for one customer, action and instant.

Values come from the same generated code that decides (`scalar.py`), part by part, so a trace cannot
disagree with the decision it explains.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Final

from engine.core.rulebook import Input, PolicyRule, Rulebook, SourcePosition
from engine.domain import Action
from engine.ruleset.authored import NOTHING_AUTHORED, Authored, CellTest, RowRule, RowTest, Written
from engine.ruleset.cel import ConditionLanguage
from engine.ruleset.customer import run_source
from engine.ruleset.definitions import authored_of, language_of
from engine.ruleset.expression import COLUMNS, PROPENSITY, ColumnRead, InputRead, Literal, PropensityRead
from engine.ruleset.kinds import Kind
from engine.ruleset.outline import Part, outline
from engine.ruleset.positions import locate
from engine.ruleset.scalar import ScalarWriter, function_text
from engine.ruleset.sources import RuleSources
from engine.ruleset.yamltree import YamlDocument, parse_yaml

NOT_COMPUTABLE: Final = "not computable"
ABSENT: Final = "absent"
NO_ACTION: Final = "no action is looked at"
MAX_ROWS_SHOWN: Final = 20
"""Rows of a table that a trace shows beside the one it is about; more hide the answer."""
_SPELLED_OUT: Final = ("variables.", "segments.")
_HAS_RULES: Final = re.compile(r"\brules[\"']?[ \t]*:")
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_ARGUMENTS: Final = ", ".join(["V", "n", "p", *(f"a{i}" for i in range(len(COLUMNS)))])


@dataclass(frozen=True, slots=True)
class Situation:
    """What a condition is asked about. `values` are inputs by name as in `Frame.values`: None or not there
    is missing, instants are milliseconds; `scores.propensity` stands there too. `causes` says, by input
    name, why one is missing.
    """

    values: Mapping[str, object]
    now_ms: int
    action: Action | None = None
    causes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trace:
    """A part of a condition and its value; None with `missing` set where it is unknown.

    `text` is `condition[offset:end]`; a row of a table and its cells have their own words. `missing` is the
    cause where the part is an input itself (absent, stale, withheld), "not computable" where an operation
    failed, else the inputs it lacks, by name. `position` is where a part stands that is not in the
    condition itself: in what a variable or segment stands for, or in a table.
    """

    text: str
    offset: int
    end: int
    kind: Kind
    value: object
    missing: str
    is_atom: bool
    parts: tuple[Trace, ...]
    position: SourcePosition | None = None

    def walk(self) -> Iterator[Trace]:
        """The part and all below it, as they are read."""
        yield self
        for part in self.parts:
            yield from part.walk()

    def atoms(self) -> Iterator[Trace]:
        """The outermost truths that are not put together from others: the branches."""
        if self.is_atom:
            yield self
            return
        for part in self.parts:
            yield from part.atoms()


@dataclass(frozen=True, slots=True)
class _Asked:
    """A situation, and the same as arguments of the generated functions."""

    situation: Situation
    arguments: tuple[object, ...]


class Tracer:
    """Traces conditions of one rule set; parts are compiled once per text.

    `language` says what the conditions of a file may say; the file "" stands for any other.
    """

    def __init__(
        self,
        language: Callable[[str], ConditionLanguage],
        inputs: tuple[Input, ...],
        authored: Authored = NOTHING_AUTHORED,
    ) -> None:
        self._language = lru_cache(maxsize=1024)(language)
        self._names = tuple(declared.name for declared in inputs)
        self._authored = authored
        self._compiled = lru_cache(maxsize=4096)(self._compile)

    @classmethod
    def of(cls, rulebook: Rulebook) -> Tracer:
        """A tracer for the conditions of a rulebook."""
        return cls(partial(language_of, rulebook), rulebook.vocabulary.inputs, authored_of(rulebook))

    def outline(self, condition: str, *, file: str = "") -> Part:
        """The parts of a condition of a file. Raises ValueError where it is not a right one."""
        return self._compiled(condition, file)[0]

    def trace(self, condition: str, situation: Situation, *, file: str = "") -> Trace:
        """Every part of a condition of a file with its value, and below a name what it stands for.

        Raises ValueError where it is not a right one.
        """
        return self._trace(condition, self._asked(situation), file)

    def trace_rule(self, rule: PolicyRule, situation: Situation) -> Trace:
        """What a rule saw: every part of its condition, or row and cells where it comes from a table.

        Raises ValueError where its condition is not a right one.
        """
        asked, file = self._asked(situation), rule.position.file
        asks = self._authored.rows.get(rule.id)
        if asks is None:
            return self._trace(rule.condition, asked, file)
        return self._row_rule(asks, rule, asked)

    def _asked(self, situation: Situation) -> _Asked:
        values = [situation.values.get(name) for name in self._names]
        columns = [getattr(situation.action, column, None) for column in COLUMNS]
        return _Asked(situation, (values, situation.now_ms, situation.values.get(PROPENSITY), *columns))

    def _compile(self, condition: str, file: str) -> tuple[Part, Mapping[int, Callable[..., object]]]:
        whole = outline(self._language(file), condition)
        parts = list(whole.walk())
        writer = ScalarWriter()
        texts = [
            function_text(f"f{i}", _ARGUMENTS, [part.node], writer.careful(part.node))
            for i, part in enumerate(parts)
        ]
        space = run_source("\n".join(texts), writer.bindings)
        return whole, {id(part): space[f"f{i}"] for i, part in enumerate(parts)}

    def _trace(self, condition: str, asked: _Asked, file: str, written: Written | None = None) -> Trace:
        part, functions = self._compiled(condition, file)

        def traced(part: Part) -> Trace:
            below = (*(traced(p) for p in part.parts), *self._meant(part.name, asked, file))
            try:
                value = functions[id(part)](*asked.arguments)
            except Exception:  # a value that is not of its declared type is unknown, as when deciding
                value = None
            missing = "" if value is not None else _cause(part, below, asked.situation)
            place = None if written is None else written.place(part.offset)
            kind = part.node.kind
            return Trace(part.text, part.offset, part.end, kind, value, missing, part.is_atom, below, place)

        return traced(part)

    def _meant(self, name: str, asked: _Asked, file: str) -> Iterator[Trace]:
        """What a variable or segment stands for; a constant stands for its value."""
        home = self._authored.home(name, file)
        definition = self._language(home).definitions.get(name) if name.startswith(_SPELLED_OUT) else None
        if definition is None or isinstance(definition.node, Literal):
            return
        with suppress(ValueError):  # where nobody kept what its file may say
            yield self._trace(definition.text, asked, home, self._authored.names.get((home, name)))

    def _row_rule(self, asks: RowRule, rule: PolicyRule, asked: _Asked) -> Trace:
        if asks.row is None:
            return self._no_match(asks.others, "no row matches", asked, every_row=True)
        whole = self._trace(rule.condition, asked, rule.position.file)
        row = self._row(asks.row, asked)
        others = [self._no_match(asks.others, "no row that wins over it matches", asked)]
        parts = (*row.parts, *(others if asks.others else ()))
        return replace(row, value=whole.value, missing=whole.missing, parts=parts)

    def _row(self, row: RowTest, asked: _Asked) -> Trace:
        """A row by itself, with its cells."""
        whole = self._trace(row.condition, asked, row.position.file)
        cells = tuple(self._cell(cell, asked) for cell in row.cells)
        return replace(whole, text=f"row {row.number}", parts=cells, position=row.position)

    def _cell(self, cell: CellTest, asked: _Asked) -> Trace:
        """A cell, and the value of its column."""
        whole = self._trace(cell.condition, asked, cell.position.file)
        column = self._trace(cell.column, asked, cell.position.file)
        return replace(whole, text=f"{cell.column}: {cell.text}", parts=(column,), position=cell.position)

    def _no_match(
        self, rows: Sequence[RowTest], words: str, asked: _Asked, *, every_row: bool = False
    ) -> Trace:
        """That no row matches: with those that do or may, or with every one and the cells it fails by."""
        traced = [self._row(row, asked) for row in rows]
        value = _none_of([row.value for row in traced])
        told = [_failing(row) for row in traced if every_row or row.value is not False]
        lacking = dict.fromkeys(row.missing for row in traced if row.missing)
        missing = "" if value is not None else ", ".join(lacking)
        return Trace(words, 0, len(words), Kind.BOOL, value, missing, False, tuple(told[:MAX_ROWS_SHOWN]))


def _none_of(values: Sequence[object]) -> bool | None:
    """Whether none is true; None where that hangs on an unknown one."""
    if any(value is True for value in values):
        return False
    return None if any(value is None for value in values) else True


def _failing(row: Trace) -> Trace:
    """A row that does not match, with only the cells that keep it from matching."""
    if row.value is not False:
        return row
    return replace(row, parts=tuple(cell for cell in row.parts if cell.value is not True))


def _cause(part: Part, below: tuple[Trace, ...], situation: Situation) -> str:
    if isinstance(part.node, InputRead):
        return situation.causes.get(part.node.input, ABSENT)
    if isinstance(part.node, PropensityRead):
        return situation.causes.get(PROPENSITY, ABSENT)
    if isinstance(part.node, ColumnRead):
        return NO_ACTION
    lacking = dict.fromkeys(b.text for t in below for b in t.walk() if b.missing and not b.parts)
    return ", ".join(lacking) or NOT_COMPUTABLE


def render_trace(trace: Trace, *, indent: str = "") -> list[str]:
    """A trace as indented lines: the words of a part, its value, and its place where that is elsewhere."""
    place = trace.position
    at = "" if place is None else f"  ({place.file}:{place.line}:{place.column})"
    lines = [f"{indent}{_one_line(trace.text)}  =>  {shown(trace)}{at}"]
    for part in trace.parts:
        lines += render_trace(part, indent=indent + "  ")
    return lines


def shown(trace: Trace) -> str:
    """The value of a part in words for people."""
    if trace.value is None:
        return f"unknown ({trace.missing})"
    return shown_value(trace.value, trace.kind)


def shown_value(value: object, kind: Kind) -> str:
    """A value as it would be written in a condition."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, (tuple, list, frozenset, set)):
        return "[" + ", ".join(shown_value(v, kind) for v in value) + "]"
    if kind is Kind.TIMESTAMP and isinstance(value, int):
        return _instant(value)
    if kind is Kind.DURATION and isinstance(value, int):
        return _duration(value)
    return repr(value)


def _instant(value_ms: int) -> str:
    text = (_EPOCH + dt.timedelta(milliseconds=value_ms)).isoformat(timespec="milliseconds")
    return text.replace(".000+", "+").replace("+00:00", "Z")


def _duration(value_ms: int) -> str:
    sign, rest = ("-" if value_ms < 0 else ""), abs(value_ms)
    parts = []
    for unit, size in (("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return sign + ("".join(parts) or "0s")


def _one_line(text: str) -> str:
    return " ".join(text.split())


class RulePlaces:
    """Where rules and the characters of their conditions are written."""

    def __init__(self, sources: RuleSources) -> None:
        self._places: dict[str, tuple[YamlDocument, int, str]] = {}
        for file, text in sources.items():
            if not _HAS_RULES.search(text):  # spares reading large catalogues again
                continue
            yaml = parse_yaml(file, text)
            listed = yaml.data.get("rules") if isinstance(yaml.data, dict) else None
            for i, entry in enumerate(listed if isinstance(listed, list) else []):
                if isinstance(entry, dict) and isinstance(entry.get("when"), str):
                    self._places[str(entry.get("id"))] = (yaml, i, str(entry["when"]))

    def of(self, rule_id: str, offset: int = 0) -> SourcePosition | None:
        """Place of a character of a rule's condition, counted in `PolicyRule.condition`; None if unknown."""
        found = self._places.get(rule_id)
        if found is None:
            return None
        yaml, index, when = found
        lead = len(when) - len(when.lstrip())  # a rulebook holds conditions without blanks around them
        line, column = locate(yaml.text, yaml.scalars["rules", index, "when"], when, offset + lead)
        return SourcePosition(yaml.file, line, column)
