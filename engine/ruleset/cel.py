"""The language of conditions: CEL, typed by the feature schema and the vocabulary.

Google's parser and type checker say what a condition means; their words are turned into the house's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Final

from cel.expr import checked_pb2
from cel_expr_python import cel  # type: ignore[import-untyped]  # publishes no types
from cel_expr_python.ext import ext_strings  # type: ignore[import-untyped]  # publishes no types
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, duration_pb2, timestamp_pb2

from engine.core.rulebook import Input
from engine.ruleset import diagnostics as codes
from engine.ruleset.diagnostics import did_you_mean
from engine.ruleset.expression import Node, depth, size
from engine.ruleset.kinds import ELEMENT_OF, VALUE_OF, Kind, a_kind
from engine.ruleset.lowering import COLUMN_KINDS, Definition, Lowering, Problem, Refused, Spoiled
from engine.ruleset.positions import offset_of
from engine.ruleset.yamltree import is_text

ROOTS: Final = ("features", "context", "signals", "consents", "request", "scores")
MAX_DEPTH: Final = 50
"""Levels of meaning in a condition; code has up to three parentheses a level, and Python takes 200."""
_PACKAGE: Final = "arbiter.schema"
_ERROR = re.compile(r"ERROR: <input>:(-?\d+):(-?\d+): (.*)")
_UNDEFINED_FIELD = re.compile(r"undefined field '([^']*)' not found in struct 'arbiter\.schema\.(\w+)'")
_UNDECLARED = re.compile(r"undeclared reference to '([^']*)'")
_NO_OVERLOAD = re.compile(r"found no matching overload for '([^']*)' applied to '\((.*)\)'")
_SYNTAX_ERROR = re.compile(r"Syntax error: (.*)")
_DEFINED: Final = {"constants": "constant", "variables": "variable", "segments": "segment"}
_INT_LITERAL = re.compile(r"(?<![\w.])\d+(?![\w.])")
_Field = descriptor_pb2.FieldDescriptorProto
_FIELD_TYPES: Final = {
    Kind.BOOL: _Field.TYPE_BOOL,
    Kind.INT: _Field.TYPE_INT64,
    Kind.DOUBLE: _Field.TYPE_DOUBLE,
    Kind.STRING: _Field.TYPE_STRING,
}
_CEL_TYPES: Final = {
    Kind.BOOL: cel.Type.BOOL,
    Kind.INT: cel.Type.INT,
    Kind.DOUBLE: cel.Type.DOUBLE,
    Kind.STRING: cel.Type.STRING,
    Kind.TIMESTAMP: cel.Type.TIMESTAMP,
    Kind.DURATION: cel.Type.DURATION,
}
_FUNCTIONS: Final = (
    "startsWith", "endsWith", "contains", "matches", "size", "has", "duration", "timestamp", "int", "double",
    "string", "getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfYear", "getDayOfWeek",
    "getHours", "getMinutes", "getSeconds", "getMilliseconds", "lowerAscii", "upperAscii", "trim", "split",
    "join", "replace", "indexOf", "lastIndexOf", "substring", "exists", "all", "exists_one", "filter", "map",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Meaning:
    """The meaning of a text, or None with what is wrong; and the constants, variables, segments it names."""

    node: Node | None
    problems: tuple[Problem, ...]
    names: frozenset[str] = frozenset()


class ConditionLanguage:
    """Parses, type-checks and lowers conditions over fixed inputs.

    `domains` are the only values a text input (or field of `action`) can have, by its full name.
    """

    def __init__(self, inputs: Sequence[Input], domains: Mapping[str, Sequence[str]]) -> None:
        self._inputs = {declared.name: (i, declared) for i, declared in enumerate(inputs)}
        self._domains = domains
        self._fields = _fields_by_root(inputs)
        self._pool = _descriptor_pool(self._fields)
        self._definitions: Mapping[str, Definition] = {}
        self._environment = self._environment_of({})

    def knowing(self, definitions: Iterable[Definition]) -> ConditionLanguage:
        """The same language with more names: constants, variables and segments."""
        language = copy(self)
        language._definitions = {**self._definitions, **{d.name: d for d in definitions}}
        language._environment = self._environment_of(language._definitions)
        return language

    def _environment_of(self, definitions: Mapping[str, Definition]) -> Any:  # noqa: ANN401  # cel has no types
        roots = {root: cel.Type(f"{_PACKAGE}.{root.capitalize()}") for root in self._fields}
        names = {d.name: cel.Type.DYN if d.node is None else _cel_type(d.kind) for d in definitions.values()}
        variables = {**roots, **names, "now": cel.Type.TIMESTAMP}
        return cel.NewEnv(self._pool, variables=variables, extensions=[ext_strings.ExtStrings()])

    @property
    def definitions(self) -> Mapping[str, Definition]:
        """The constants, variables and segments that can be named."""
        return self._definitions

    def check(self, text: str) -> tuple[Node | None, list[Problem]]:
        """The condition's meaning, or None; and everything that is wrong with it."""
        meaning = self.meaning(text)
        return meaning.node, list(meaning.problems)

    def meaning(self, text: str, *, condition: bool = True) -> Meaning:
        """What a text means and which names it uses; any value will do where it is no `condition`."""
        if not is_text(text):
            return Meaning(None, (Problem(0, codes.SYNTAX, "the condition holds half a character", ""),))
        try:
            lowering = self.opened(text)
        except RuntimeError as error:
            return Meaning(None, tuple(self._translated(text, str(error))))
        node: Node | None = None
        try:
            node = lowering.node(lowering.checked.expr)
            lowering.problems += _problems_of(node, condition=condition)
        except Refused as refused:
            lowering.problems.append(refused.problem)
        except Spoiled:
            pass  # told where the name is defined
        right = None if lowering.problems else node
        return Meaning(right, tuple(lowering.problems), frozenset(_names(lowering.checked)))

    def definition(self, name: str, text: str) -> tuple[Definition, Meaning]:
        """A name for what a text means, and what is wrong with that."""
        meaning = self.meaning(text, condition=False)
        node = meaning.node
        if node is None:
            return Definition(name, text, Kind.OPAQUE, None, 0), meaning
        return Definition(name, text, node.kind, node, size(node)), meaning

    def opened(self, text: str) -> Lowering:
        """The typed tree of a condition and what lowers it, whole or in parts; for `outline.py`.

        Raises RuntimeError, whose text lists the mistakes.
        """
        return Lowering(self._checked(text), self._inputs, self._domains, self._definitions)

    def _checked(self, text: str) -> checked_pb2.CheckedExpr:
        """Raises RuntimeError, whose text lists the mistakes."""
        serialised = self._environment.compile(text).serialize()
        return checked_pb2.CheckedExpr.FromString(any_pb2.Any.FromString(serialised).value)

    def _translated(self, text: str, words: str) -> list[Problem]:
        problems = []
        for line, column, message in _ERROR.findall(words):
            offset = offset_of(text, int(line), int(column)) if int(line) > 0 else 0
            problems.append(self._problem(text, offset, message))
        return list(dict.fromkeys(problems)) or [
            _too_deep() if "recursion" in words else _not_understood(words)
        ]

    def _problem(self, text: str, offset: int, message: str) -> Problem:
        if found := _UNDEFINED_FIELD.search(message):
            name, root = found[1], found[2].lower()
            advice = did_you_mean(name, self._fields[root])
            return Problem(offset + 1, codes.UNDECLARED, f"`{root}` has no field `{name}`", advice)
        if found := _UNDECLARED.search(message):
            return self._undeclared(text, offset, found[1])
        if found := _NO_OVERLOAD.search(message):
            return _mismatch(text, offset, found[1], found[2].split(", "))
        if "recursion" in message:
            return _too_deep()
        if found := _SYNTAX_ERROR.search(message):
            return Problem(offset, codes.SYNTAX, f"cannot be read here: {_syntax_words(found[1])}", "")
        return _not_understood(message, offset)

    def _undeclared(self, text: str, offset: int, name: str) -> Problem:
        root, _, field = name.partition(".")
        if root in _DEFINED:
            return self._undefined(text, offset, root, field)
        if text[offset : offset + 1] == ".":  # the checker points at the dot of `root.field`
            offset = max(0, offset - len(root))
        if text[offset : offset + 1] == "(":
            before = text[:offset].rstrip()
            offset = len(before) - len(name) if before.endswith(name) else offset
            return Problem(
                offset, codes.UNDECLARED, f"unknown function `{name}`", did_you_mean(name, _FUNCTIONS)
            )
        known = [*self._fields, *dict.fromkeys(d.split(".")[0] for d in self._definitions), "now"]
        advice = did_you_mean(root, known) if "." in name else _quote_or_name(name, self._inputs, known)
        return Problem(offset, codes.UNDECLARED, f"unknown name `{root}`", advice)

    def _undefined(self, text: str, offset: int, root: str, field: str) -> Problem:
        """A name of a root that authors fill, e.g. constants."""
        known = [
            d.name.partition(".")[2] for d in self._definitions.values() if d.name.startswith(f"{root}.")
        ]
        if not field:
            advice = f"name one of them, e.g. {root}.{known[0]}" if known else "none is declared"
            return Problem(offset, codes.UNDECLARED, f"`{root}` is not a value by itself", advice)
        at = offset + 1 if text[offset : offset + 1] == "." else offset
        advice = did_you_mean(field, known)
        return Problem(at, codes.UNDECLARED, f"unknown {_DEFINED[root]} `{field}`", advice)


def _names(checked: checked_pb2.CheckedExpr) -> Iterator[str]:
    """The constants, variables and segments a typed tree names."""
    for reference in checked.reference_map.values():
        if reference.name.split(".")[0] in _DEFINED:
            yield reference.name


def _problems_of(node: Node, *, condition: bool) -> Iterator[Problem]:
    if condition and node.kind is not Kind.BOOL:
        message = f"a condition must be true or false; this is {a_kind(node.kind)}"
        yield Problem(0, codes.NOT_A_CONDITION, message, "compare it, e.g. with == or >")
    if depth(node) > MAX_DEPTH:
        yield _too_deep()


def _cel_type(kind: Kind) -> Any:  # noqa: ANN401  # cel has no types
    if kind in ELEMENT_OF:
        return cel.Type.List(_CEL_TYPES[ELEMENT_OF[kind]])
    if kind in VALUE_OF:
        return cel.Type.Map(cel.Type.STRING, _CEL_TYPES[VALUE_OF[kind]])
    return _CEL_TYPES[kind]


def _quote_or_name(name: str, inputs: Mapping[str, object], roots: Sequence[str]) -> str:
    """A bare word is a forgotten root, or text without its quotes."""
    full = [i for i in inputs if i.split(".", 1)[1] == name]
    if full:
        return "did you mean " + " or ".join(f"`{i}`" for i in full) + "?"
    return f'{did_you_mean(name, roots)}; text is quoted: "{name}"'


def _fields_by_root(inputs: Sequence[Input]) -> dict[str, dict[str, Kind]]:
    fields: dict[str, dict[str, Kind]] = {root: {} for root in ROOTS}
    for declared in inputs:
        root, name = declared.name.split(".", 1)
        fields[root][name] = Kind(declared.type.value)
    fields["scores"]["propensity"] = Kind.DOUBLE
    fields["action"] = dict(COLUMN_KINDS)
    return fields


def _descriptor_pool(fields_by_root: Mapping[str, Mapping[str, Kind]]) -> descriptor_pool.DescriptorPool:
    """A pool with one message per root; proto2, so that fields have presence."""
    pool = descriptor_pool.DescriptorPool()
    for module in (timestamp_pb2, duration_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(
        name="arbiter/schema.proto",
        package=_PACKAGE,
        syntax="proto2",
        dependency=["google/protobuf/timestamp.proto"],
    )
    for root, fields in fields_by_root.items():
        message = file.message_type.add(name=root.capitalize())
        for number, (name, kind) in enumerate(fields.items(), start=1):
            _add_field(message, number, name, kind)
    pool.AddSerializedFile(file.SerializeToString())
    return pool


def _add_field(message: descriptor_pb2.DescriptorProto, number: int, name: str, kind: Kind) -> None:
    number = number if number < 19_000 else number + 1_000  # protobuf keeps 19000 to 19999
    repeated = kind in ELEMENT_OF or kind in VALUE_OF
    label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
    field = message.field.add(name=name, number=number, label=label)
    if kind in VALUE_OF:
        field.type, field.type_name = _Field.TYPE_MESSAGE, _add_map(message, name, VALUE_OF[kind])
    elif kind is Kind.TIMESTAMP:
        field.type, field.type_name = _Field.TYPE_MESSAGE, ".google.protobuf.Timestamp"
    else:
        field.type = _FIELD_TYPES[ELEMENT_OF.get(kind, kind)]


def _add_map(message: descriptor_pb2.DescriptorProto, name: str, value: Kind) -> str:
    """Declares the entries of a map from text, once; returns the name of their type, as protobuf wants it."""
    entry_name = "".join(part[:1].upper() + part[1:] for part in name.split("_")) + "Entry"
    if all(entry.name != entry_name for entry in message.nested_type):
        entry = message.nested_type.add(name=entry_name)
        entry.options.map_entry = True
        optional = _Field.LABEL_OPTIONAL
        entry.field.add(name="key", number=1, label=optional, type=_Field.TYPE_STRING)
        entry.field.add(name="value", number=2, label=optional, type=_FIELD_TYPES[value])
    return f".{_PACKAGE}.{message.name}.{entry_name}"


def _mismatch(text: str, offset: int, function: str, types: list[str]) -> Problem:
    names = [_type_name(t) for t in types]
    sign = function.strip("_@").replace("_", " ") if function != "_[_]" else "[ ]"
    message = f"`{sign}` does not take {' and '.join(names)}"
    return Problem(offset, codes.TYPE_MISMATCH, message, _mismatch_advice(text, offset, sign, types))


def _mismatch_advice(text: str, offset: int, sign: str, types: list[str]) -> str:
    if set(types) == {"double", "int"}:
        after = types[-1] == "int"
        literals = _INT_LITERAL.findall(text[offset:] if after else text[:offset])
        if literals:
            return f"write {literals[0 if after else -1]}.0"
        return "convert one side: double(...) or int(...)"
    if "null_type" in types:
        return "ask `has(...)` or `!has(...)`"
    if sign == "%":
        return "`%` is for whole numbers; convert with int(...)"
    if set(types) == {"string", "int"} or set(types) == {"string", "double"}:
        return "write numbers without quotes and text with quotes"
    if any(t.startswith(_PACKAGE) for t in types):
        return "name one of the fields, e.g. features.x"
    return "both sides must have the same type" if len(types) == 2 else ""


def _type_name(name: str) -> str:
    known = {
        "google.protobuf.Timestamp": "timestamp",
        "google.protobuf.Duration": "duration",
        "null_type": "null",
    }
    return known.get(name, name.removeprefix(f"{_PACKAGE}.").lower())


def _syntax_words(words: str) -> str:
    """The parser's words without its list of every token it would have liked."""
    words = re.sub(r",? expecting .*", "", words)
    return (
        words.replace("mismatched input", "unexpected")
        .replace("extraneous input", "unexpected")
        .replace("'<EOF>'", "end of condition")
    )


def _too_deep() -> Problem:
    advice = "split the rule in two, or use `in` with a list"
    return Problem(0, codes.UNSUPPORTED, "the condition is nested too deeply", advice)


def _not_understood(words: str, offset: int = 0) -> Problem:
    first = words.strip().splitlines()[0][:200] if words.strip() else "cannot be read"
    return Problem(offset, codes.SYNTAX, first, "")
