"""The language of conditions: CEL, typed by the feature schema and the vocabulary.

Google's parser and type checker say what a condition means; their words are turned into the house's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from cel.expr import checked_pb2
from cel_expr_python import cel  # type: ignore[import-untyped]  # publishes no types
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, duration_pb2, timestamp_pb2

from engine.core.rulebook import Input
from engine.ruleset import diagnostics as codes
from engine.ruleset.diagnostics import did_you_mean
from engine.ruleset.expression import Kind, Node, depth
from engine.ruleset.lowering import COLUMN_KINDS, Lowering, Problem, Refused
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
_INT_LITERAL = re.compile(r"(?<![\w.])\d+(?![\w.])")
_Field = descriptor_pb2.FieldDescriptorProto
_FIELD_TYPES: Final = {
    Kind.BOOL: _Field.TYPE_BOOL,
    Kind.INT: _Field.TYPE_INT64,
    Kind.DOUBLE: _Field.TYPE_DOUBLE,
    Kind.STRING: _Field.TYPE_STRING,
    Kind.LIST: _Field.TYPE_STRING,
}
_FUNCTIONS: Final = (
    "startsWith", "endsWith", "contains", "matches", "size", "has", "duration", "timestamp", "int", "double",
    "string", "getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfYear", "getDayOfWeek",
    "getHours", "getMinutes", "getSeconds", "getMilliseconds",
)  # fmt: skip


class ConditionLanguage:
    """Parses, type-checks and lowers conditions over fixed inputs.

    `domains` are the only values a text input (or field of `action`) can have, by its full name.
    """

    def __init__(self, inputs: Sequence[Input], domains: Mapping[str, Sequence[str]]) -> None:
        self._inputs = {declared.name: (i, declared) for i, declared in enumerate(inputs)}
        self._domains = domains
        self._fields = _fields_by_root(inputs)
        pool = _descriptor_pool(self._fields)
        variables = {root: cel.Type(f"{_PACKAGE}.{root.capitalize()}") for root in self._fields}
        self._environment = cel.NewEnv(pool, variables={**variables, "now": cel.Type.TIMESTAMP})

    def check(self, text: str) -> tuple[Node | None, list[Problem]]:
        """The condition's meaning, or None; and everything that is wrong with it."""
        if not is_text(text):
            return None, [Problem(0, codes.SYNTAX, "the condition holds half a character", "")]
        try:
            checked = self._checked(text)
        except RuntimeError as error:
            return None, self._translated(text, str(error))
        lowering = Lowering(checked, self._inputs, self._domains)
        try:
            node = lowering.node(checked.expr)
        except Refused as refused:
            return None, [*lowering.problems, refused.problem]
        if node.kind is not Kind.BOOL:
            advice = "compare it, e.g. with == or >"
            message = f"a condition must be true or false; this is {_a_kind(node.kind)}"
            lowering.problems.append(Problem(0, codes.NOT_A_CONDITION, message, advice))
        if depth(node) > MAX_DEPTH:
            lowering.problems.append(_too_deep())
        return (None if lowering.problems else node), lowering.problems

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
        root = name.split(".")[0]
        if text[offset : offset + 1] == ".":  # the checker points at the dot of `root.field`
            offset = max(0, offset - len(root))
        if text[offset : offset + 1] == "(":
            before = text[:offset].rstrip()
            offset = len(before) - len(name) if before.endswith(name) else offset
            return Problem(
                offset, codes.UNDECLARED, f"unknown function `{name}`", did_you_mean(name, _FUNCTIONS)
            )
        known = [*self._fields, "now"]
        advice = did_you_mean(root, known) if "." in name else _quote_or_name(name, self._inputs, known)
        return Problem(offset, codes.UNDECLARED, f"unknown name `{root}`", advice)


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
    label = _Field.LABEL_REPEATED if kind is Kind.LIST else _Field.LABEL_OPTIONAL
    number = number if number < 19_000 else number + 1_000  # protobuf keeps 19000 to 19999
    field = message.field.add(name=name, number=number, label=label)
    if kind is Kind.TIMESTAMP:
        field.type, field.type_name = _Field.TYPE_MESSAGE, ".google.protobuf.Timestamp"
    else:
        field.type = _FIELD_TYPES[kind]


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


def _a_kind(kind: Kind) -> str:
    return {Kind.INT: "an int", Kind.LIST: "a list"}.get(kind, f"a {kind.value}")


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
