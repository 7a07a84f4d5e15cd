"""What a condition saw: every part of its text with the value it had for one customer, action and instant.

Values come from the same generated code that decides (`scalar.py`), part by part, so a trace cannot
disagree with the decision it explains.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Final

from engine.core.rulebook import Input, Rulebook, SourcePosition
from engine.domain import Action
from engine.ruleset.cel import ConditionLanguage
from engine.ruleset.customer import run_source
from engine.ruleset.definitions import language_of
from engine.ruleset.expression import COLUMNS, PROPENSITY, ColumnRead, InputRead, PropensityRead
from engine.ruleset.kinds import Kind
from engine.ruleset.outline import Part, outline
from engine.ruleset.positions import locate
from engine.ruleset.scalar import ScalarWriter, function_text
from engine.ruleset.sources import RuleSources
from engine.ruleset.yamltree import YamlDocument, parse_yaml

NOT_COMPUTABLE: Final = "not computable"
ABSENT: Final = "absent"
NO_ACTION: Final = "no action is looked at"
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

    `text` is `condition[offset:end]`. `missing` is the cause where the part is an input itself (absent,
    stale, withheld), "not computable" where an operation failed, else the inputs it lacks, by name.
    """

    text: str
    offset: int
    end: int
    kind: Kind
    value: object
    missing: str
    is_atom: bool
    parts: tuple[Trace, ...]

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


class Tracer:
    """Traces conditions of one rule set; parts are compiled once per text.

    `language` says what the conditions of a file may say; the file "" stands for any other.
    """

    def __init__(self, language: Callable[[str], ConditionLanguage], inputs: tuple[Input, ...]) -> None:
        self._language = lru_cache(maxsize=1024)(language)
        self._names = tuple(declared.name for declared in inputs)
        self._compiled = lru_cache(maxsize=4096)(self._compile)

    @classmethod
    def of(cls, rulebook: Rulebook) -> Tracer:
        """A tracer for the conditions of a rulebook."""
        return cls(partial(language_of, rulebook), rulebook.vocabulary.inputs)

    def outline(self, condition: str, *, file: str = "") -> Part:
        """The parts of a condition of a file. Raises ValueError where it is not a right one."""
        return self._compiled(condition, file)[0]

    def trace(self, condition: str, situation: Situation, *, file: str = "") -> Trace:
        """Every part of a condition of a file with its value.

        Raises ValueError where it is not a right one.
        """
        part, functions = self._compiled(condition, file)
        values = [situation.values.get(name) for name in self._names]
        columns = [getattr(situation.action, column, None) for column in COLUMNS]
        arguments = (values, situation.now_ms, situation.values.get(PROPENSITY), *columns)
        return self._traced(part, functions, arguments, situation)

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

    def _traced(
        self,
        part: Part,
        functions: Mapping[int, Callable[..., object]],
        arguments: tuple[object, ...],
        situation: Situation,
    ) -> Trace:
        below = tuple(self._traced(p, functions, arguments, situation) for p in part.parts)
        try:
            value = functions[id(part)](*arguments)
        except Exception:  # a value that is not of its declared type is unknown, as when deciding
            value = None
        missing = "" if value is not None else _cause(part, below, situation)
        return Trace(part.text, part.offset, part.end, part.node.kind, value, missing, part.is_atom, below)


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
    """A trace as indented lines: the words of a part, and its value under them."""
    lines = [f"{indent}{_one_line(trace.text)}  =>  {shown(trace)}"]
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
