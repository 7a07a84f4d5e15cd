"""One YAML file as plain values that remember where they stand.

A strict part of YAML 1.2: one document, no anchors, aliases or tags, unique text keys, bounded depth.
Dates stay text; whoever knows the field gives them their type. Reading takes time linear in the file.
libyaml parses, as it is ten times faster; what it or we refuse goes to ruamel.yaml, which says in plain words
and at the exact place what is wrong, and reads the few texts that only YAML 1.2 allows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

import yaml
from ruamel.yaml import YAML, events
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError

from engine.ruleset import diagnostics as codes
from engine.ruleset.diagnostics import Diagnostic

T = TypeVar("T")
Path = tuple[str | int, ...]
Place = tuple[int, int]
"""Line and column, both from 0."""
Value = str | int | float | bool | None | list["Value"] | dict[str, "Value"]
Event = Any
"""An event of either parser: the same attributes, and no class in common."""
MAX_DEPTH: Final = 40
_TAB: Final = "found character '\\t' that cannot start any token"
_INT = re.compile(r"[-+]?[0-9]{1,40}\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]{1,5})?\Z")
_WORDS: Final[dict[str, bool | None]] = {
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
    "null": None, "Null": None, "NULL": None, "~": None, "": None,
}  # fmt: skip
_READ_DIFFERENTLY = re.compile("[\t\x85\u2028\u2029\ufeff]|[|>][-+0-9]*#")
"""What the parsers differ in: where things stand after tabs, breaks of YAML 1.1 and byte order marks; and
libyaml takes a comment that sticks to the sign of a block.
"""
_ALIAS = (events.AliasEvent, yaml.AliasEvent)
_DOCUMENT_START = (events.DocumentStartEvent, yaml.DocumentStartEvent)
_MAPPING_START = (events.MappingStartEvent, yaml.MappingStartEvent)
_MAPPING_END = (events.MappingEndEvent, yaml.MappingEndEvent)
_SEQUENCE_START = (events.SequenceStartEvent, yaml.SequenceStartEvent)
_SEQUENCE_END = (events.SequenceEndEvent, yaml.SequenceEndEvent)
_SCALAR = (events.ScalarEvent, yaml.ScalarEvent)
_NODE = (*_ALIAS, *_SCALAR, *_MAPPING_START, *_SEQUENCE_START)


@dataclass(frozen=True, slots=True)
class Scalar:
    """Where and how a scalar is written. Lines, columns and indices count from 0."""

    style: str  # "" for plain, else one of ' " | >
    line: int
    column: int
    start: int
    end: int


@dataclass(slots=True)
class YamlDocument:
    """Plain values of one file and their places; `problems` are reasons not to use `data`."""

    file: str
    text: str
    data: Value = None  # as pydantic takes it: dict, list, str, int, float, bool, None
    keys: dict[Path, Place] = field(default_factory=dict)
    values: dict[Path, Place] = field(default_factory=dict)
    scalars: dict[Path, Scalar] = field(default_factory=dict)
    problems: list[Diagnostic] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def place(self, path: Path, *, key: bool = False) -> tuple[int, int]:
        """Line and column, from 1, of the value (or key) at a path, or of what is nearest above it."""
        while path:
            found = (self.keys if key else self.values).get(path) or self.values.get(path)
            if found is not None:
                return found[0] + 1, found[1] + 1
            path, key = path[:-1], bool(self.keys.get(path[:-1]))
        return 1, 1

    def items(self, name: str) -> list[Value]:
        """The items of one of its lists; none where it is no list."""
        listed = self.data.get(name) if isinstance(self.data, dict) else None
        return listed if isinstance(listed, list) else []

    def with_items(self, name: str, kept: Sequence[int]) -> YamlDocument:
        """The document with some items of one of its lists only; places are those of the file."""
        assert isinstance(self.data, dict)
        listed = self.items(name)
        place_of = {old: new for new, old in enumerate(kept)}

        def moved(held: Mapping[Path, T]) -> dict[Path, T]:
            found = {}
            for path, value in held.items():
                if len(path) < 2 or path[0] != name:
                    found[path] = value
                elif path[1] in place_of:
                    found[(name, place_of[path[1]], *path[2:])] = value
            return found

        return replace(
            self,
            data=self.data | {name: [listed[old] for old in kept]},
            keys=moved(self.keys),
            values=moved(self.values),
            scalars=moved(self.scalars),
        )

    def problem(
        self, path: Path, code: str, message: str, advice: str = "", *, key: bool = False
    ) -> Diagnostic:
        """A diagnostic at a path."""
        return self.at(*self.place(path, key=key), code, message, advice)

    def at(self, line: int, column: int, code: str, message: str, advice: str = "") -> Diagnostic:
        """A diagnostic at a line and column, both from 1."""
        source = self.lines[line - 1] if 0 < line <= len(self.lines) else ""
        return Diagnostic(self.file, line, column, code, message, advice, source)


def parse_yaml(file: str, text: str) -> YamlDocument:
    """Reads one file. Never raises for what the text holds: see `problems`."""
    if _READ_DIFFERENTLY.search(text):
        return read_slowly(file, text)
    document = _empty(file, text)
    try:
        _Builder(document).build(yaml.parse(text, Loader=yaml.CSafeLoader))
    except (_Refused, yaml.YAMLError, UnicodeEncodeError):
        return read_slowly(file, text)
    return document


def read_slowly(file: str, text: str) -> YamlDocument:
    """Reads one file with ruamel.yaml alone. Never raises for what the text holds: see `problems`."""
    document = _empty(file, text)
    try:
        _Builder(document).build(YAML(typ="safe", pure=True).parse(text))
    except _Refused as refused:
        document.problems.append(refused.diagnostic)
    except MarkedYAMLError as error:
        document.problems.append(_syntax_problem(document, error))
    except (YAMLError, ValueError, AttributeError, AssertionError) as error:  # ruamel raises all of them
        document.problems.append(_character_problem(document, error))
    return document


def _empty(file: str, text: str) -> YamlDocument:
    return YamlDocument(file, text, lines=re.split(r"\r\n|\r|\n", text))


def plain_file(file: str, text: str) -> YamlDocument:
    """A file that is not YAML, for diagnostics in it."""
    return YamlDocument(file, text, lines=re.split(r"\r\n|\r|\n", text.removeprefix("\ufeff")))


def is_text(value: str) -> bool:
    """Whether a string can be written as UTF-8; half of a surrogate pair cannot."""
    return value.isascii() or not any("\ud800" <= c <= "\udfff" for c in value)


class _Refused(Exception):
    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostic.message)
        self.diagnostic = diagnostic


class _Builder:
    """Turns parser events into values; its own stack bounds the depth before Python's does."""

    def __init__(self, document: YamlDocument) -> None:
        self.document = document
        self.depth = 0
        self.documents = 0

    def build(self, events: Iterator[Event]) -> None:
        for event in events:
            if isinstance(event, _DOCUMENT_START):
                self._start_document(event)
            elif isinstance(event, _NODE):
                self.document.data = self._node(event, events, ())

    def _start_document(self, event: Event) -> None:
        self.documents += 1
        if self.documents > 1:
            advice = "give each document a file of its own"
            raise self._refuse(event, codes.SEVERAL_DOCUMENTS, "a second document begins here", advice)

    def _node(self, event: Event, events: Iterator[Event], path: Path) -> Value:
        self._check(event)
        self.document.values[path] = _place(event)
        if isinstance(event, _SCALAR):
            return self._scalar(event, path)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            message = f"values are nested more than {MAX_DEPTH} deep here"
            raise self._refuse(event, codes.NESTED_TOO_DEEPLY, message, "nothing in a rule set needs that")
        mapping = isinstance(event, _MAPPING_START)
        value = self._mapping(events, path) if mapping else self._sequence(events, path)
        self.depth -= 1
        return value

    def _check(self, event: Event) -> None:
        if isinstance(event, _SCALAR) and not is_text(event.value):
            message = "an escape stands for half a character"
            raise self._refuse(event, codes.UNUSUAL_YAML, message, "write the character itself")
        anchor = getattr(event, "anchor", None)
        if isinstance(event, _ALIAS) or anchor:
            advice = "write the value out where it is used"
            raise self._refuse(
                event, codes.ALIAS, f"anchors and aliases (`{anchor}`) are not allowed", advice
            )
        if tag := getattr(event, "tag", None):
            message = f"the tag `{tag}` is not allowed"
            raise self._refuse(event, codes.UNUSUAL_YAML, message, "leave the tag out")

    def _scalar(self, event: Event, path: Path) -> Value:
        start, end = event.start_mark, event.end_mark
        style = event.style or ""
        self.document.scalars[path] = Scalar(style, start.line, start.column, start.index, end.index)
        return event.value if style else _plain_value(event.value)

    def _sequence(self, events: Iterator[Event], path: Path) -> list[Value]:
        items: list[Value] = []
        while not isinstance(event := next(events), _SEQUENCE_END):
            items.append(self._node(event, events, (*path, len(items))))
        return items

    def _mapping(self, events: Iterator[Event], path: Path) -> dict[str, Value]:
        items: dict[str, Value] = {}
        while not isinstance(event := next(events), _MAPPING_END):
            key = self._key(event)
            if key in items:
                line = self.document.keys[(*path, key)][0] + 1
                advice = f"it is first given on line {line}; keep one of them"
                self.document.problems.append(
                    self._refuse(event, codes.DUPLICATE_KEY, f"`{key}` is given twice", advice).diagnostic
                )
            self.document.keys[(*path, key)] = _place(event)
            items[key] = self._node(next(events), events, (*path, key))
        return items

    def _key(self, event: Event) -> str:
        self._check(event)
        if not isinstance(event, _SCALAR):
            raise self._refuse(
                event, codes.UNUSUAL_YAML, "a key must be a word", "quote it if it is meant as text"
            )
        if not event.style and not isinstance(_plain_value(event.value), str):
            message = f"the key `{event.value}` is not text"
            raise self._refuse(event, codes.UNUSUAL_YAML, message, "quote it if it is meant as text")
        return str(event.value)

    def _refuse(self, event: Event, code: str, message: str, advice: str) -> _Refused:
        line, column = _place(event)
        return _Refused(self.document.at(line + 1, column + 1, code, message, advice))


def _place(event: Event) -> tuple[int, int]:
    return event.start_mark.line, event.start_mark.column


def _plain_value(text: str) -> Value:
    """The value of an unquoted scalar by YAML 1.2's core rules, without octal, hex, infinity and NaN."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.match(text):
        return int(text)
    return float(text) if _FLOAT.match(text) else text


def _syntax_problem(document: YamlDocument, error: MarkedYAMLError) -> Diagnostic:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
    problem = str(error.problem or error.context or "cannot be read").strip()
    if problem == _TAB:
        return document.at(line, column, codes.NOT_YAML, "a tab stands here", "indent with spaces")
    context = f" ({error.context})" if error.context and error.problem else ""
    advice = "quote texts that hold `: `, ` #`, or begin with a sign such as @ % & * ! | > { ["
    return document.at(line, column, codes.NOT_YAML, f"not YAML: {problem}{context}", advice)


def _character_problem(document: YamlDocument, error: Exception) -> Diagnostic:
    if not isinstance(error, ReaderError):
        return document.at(
            1, 1, codes.NOT_YAML, f"not YAML: {str(error).splitlines()[0] if str(error) else error!r}"
        )
    before = document.text[: error.position or 0]
    line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
    message = f"the character U+{ord(document.text[error.position]):04X} is not allowed"
    return document.at(line, column, codes.NOT_YAML, message, "delete it")
