"""How rule files are laid out: one canonical form, whatever the author's editor did.

Indentation of two, list items below their key, one blank in flow mappings, no trailing blanks, at most one
blank line in a row, the schema in the first line; comments and quotes stay. Whole numbers beside decimal
ones in conditions become decimal, as CEL does not mix them. Nothing else that a file means may change, and
no comment may be lost: where laying out would do either, the file stays as it is and that is told.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from engine.ruleset import diagnostics as codes
from engine.ruleset.cel import ConditionLanguage
from engine.ruleset.diagnostics import Diagnostic
from engine.ruleset.documents import Document
from engine.ruleset.positions import locate
from engine.ruleset.schemas import is_schema_line, schema_line
from engine.ruleset.yamltree import Path, YamlDocument, parse_yaml

_WIDTH: Final = 1_000_000
"""No line is folded: texts are as long as their authors wrote them."""
_DECIMAL: Final = re.compile(r"write (\d+)\.0\Z")
_COMMENT: Final = re.compile(r"(?:^|(?<=\s))#[^\n]*", re.MULTILINE)
_MAX_DECIMALS: Final = 200
_RUAMEL_RAISES: Final = (YAMLError, ValueError, TypeError, AttributeError, AssertionError)


@dataclass(frozen=True, slots=True)
class LaidOut:
    """A file in canonical form; `text` is as it was where `problems` say why it stays."""

    text: str
    problems: tuple[Diagnostic, ...] = ()


def lay_out(
    file: str,
    text: str,
    *,
    kinds: Mapping[str, type[Document]],
    language: ConditionLanguage | None = None,
) -> LaidOut:
    """One file in canonical form. `file` is relative to the rules folder; with `language`, decimals are put
    right in conditions. Never raises for what the text holds.
    """
    plain = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    before = parse_yaml(file, plain)
    if before.problems:
        return LaidOut(text, tuple(before.problems))
    if not isinstance(before.data, dict) or not before.data:
        return LaidOut(text, (_left(before, "it is not a document"),))
    right = plain if language is None else _with_decimals(before, language)
    meant = before if right == plain else parse_yaml(file, right)
    written = _written(right)
    spaced = _spaced(meant if written == right else parse_yaml(file, written))
    laid = _with_schema(spaced, file, before.data.get("kind"), kinds)
    if laid == text:
        return LaidOut(text)
    after = parse_yaml(file, laid)
    if after.problems or after.data != meant.data or list(_keys(after)) != list(_keys(meant)):
        return LaidOut(text, (_left(before, "it would not mean the same"),))
    if _comments(laid) != _comments(right):
        return LaidOut(text, (_left(before, "a comment would be lost"),))
    return LaidOut(laid)


def _left(yaml: YamlDocument, why: str) -> Diagnostic:
    advice = "move comments to lines of their own, and write lists and mappings in the usual form"
    return yaml.at(1, 1, codes.UNUSUAL_YAML, f"cannot be laid out: {why}", advice)


def _written(text: str) -> str:
    """The text written anew; twice, as a comment may move once."""
    for _ in range(2):
        try:
            again = _once(text)
        except _RUAMEL_RAISES:
            return text
        if again == text:
            break
        text = again
    return text


def _once(text: str) -> str:
    yaml = YAML(typ="rt", pure=True)
    yaml.preserve_quotes = True
    yaml.width = _WIDTH
    yaml.indent(mapping=2, sequence=4, offset=2)
    out = io.StringIO()
    yaml.dump(yaml.load(text), out)
    return out.getvalue().strip("\n") + "\n"


def _spaced(yaml: YamlDocument) -> str:
    """A file's text without blanks at ends of lines and second blank lines, outside of values."""
    inside = _lines_of_values(yaml)
    kept: list[str] = []
    for number, line in enumerate(yaml.text.split("\n")):
        own = line if number in inside else line.rstrip()
        if own or number in inside or (kept and kept[-1]):
            kept.append(own)
    return "\n".join(kept).rstrip("\n") + "\n"


def _lines_of_values(yaml: YamlDocument) -> set[int]:
    """Lines, from 0, that hold more of a value than its first; blanks there may mean something."""
    inside: set[int] = set()
    for scalar in yaml.scalars.values():
        written = yaml.text[scalar.start : scalar.end]
        header = written.split("\n", 1)[0]
        keeps = scalar.style in ("|", ">") and "+" in header
        last = scalar.line + (written if keeps else written.rstrip()).count("\n")
        inside.update(range(scalar.line + 1, last + 1))
    return inside


def _with_schema(text: str, file: str, kind: object, kinds: Mapping[str, type[Document]]) -> str:
    """The text with the schema of its kind in the first line; unknown kinds have none."""
    lines = [line for line in text.split("\n") if not is_schema_line(line)]
    body = "\n".join(lines).lstrip("\n")
    if not isinstance(kind, str) or kind not in kinds:
        return body
    return f"{schema_line(file, kind)}\n{body}"


def _comments(text: str) -> list[str]:
    """What looks like a comment, without the schema line; the same before and after, whatever it is."""
    found = (match[0].rstrip() for match in _COMMENT.finditer(text))
    return sorted(comment for comment in found if not is_schema_line(comment))


def _keys(yaml: YamlDocument) -> list[Path]:
    """Every key in the order of the file."""
    return list(yaml.keys)


def _with_decimals(yaml: YamlDocument, language: ConditionLanguage) -> str:
    """The text with `70` written as `70.0` where a condition compares it with a decimal number."""
    text = yaml.text
    for path in [p for p in yaml.scalars if _is_condition(p)]:
        for _ in range(_MAX_DECIMALS):
            document = parse_yaml(yaml.file, text)
            value = _value_at(document, path)
            end = _end_of_whole(value, language) if isinstance(value, str) else None
            if end is None or not isinstance(value, str):
                break
            line, column = locate(text, document.scalars[path], value, end - 1)
            at = sum(len(each) + 1 for each in text.split("\n")[: line - 1]) + column
            text = f"{text[:at]}.0{text[at:]}"
    return text


def _is_condition(path: Path) -> bool:
    """Whether a value at a path is a condition: of a rule or segment, or a variable."""
    if path[:1] == ("variables",):
        return len(path) == 2
    return len(path) == 3 and path[0] in ("rules", "segments") and path[2] == "when"


def _value_at(yaml: YamlDocument, path: Path) -> object:
    value: object = yaml.data
    for part in path:
        value = value[part]  # type: ignore[index]  # a path of this document
    return value


def _end_of_whole(condition: str, language: ConditionLanguage) -> int | None:
    """Offset behind the first whole number that should be decimal; None where there is none."""
    for problem in language.meaning(condition, condition=False).problems:
        advised = _DECIMAL.match(problem.advice)
        if problem.code != codes.TYPE_MISMATCH or advised is None:
            continue
        literals = [m.end() for m in re.finditer(rf"(?<![\w.]){advised[1]}(?![\w.])", condition)]
        behind = [end for end in literals if end > problem.offset]
        before = [end for end in literals if end <= problem.offset]
        for end in (*behind[:1], *before[-1:]):
            if _is_better(condition, end, problem.offset, language):
                return end
    return None


def _is_better(condition: str, end: int, offset: int, language: ConditionLanguage) -> bool:
    """Whether a decimal there puts the mistake at `offset` right."""
    tried = f"{condition[:end]}.0{condition[end:]}"
    moved = offset + 2 if end <= offset else offset
    wrong = language.meaning(tried, condition=False).problems
    return not any(p.offset == moved and p.code == codes.TYPE_MISMATCH for p in wrong)
