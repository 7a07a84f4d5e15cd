"""Files to typed documents: every mistake of structure becomes a positioned diagnostic."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import UnionType
from typing import Any, Final, Generic, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from engine.ruleset import diagnostics as codes
from engine.ruleset.diagnostics import Diagnostic, did_you_mean
from engine.ruleset.documents import API_VERSION, CatalogueDocument, Document
from engine.ruleset.filekinds import KINDS
from engine.ruleset.yamltree import Path, YamlDocument, parse_yaml, plain_file

CSV: Final = ".csv"
_APART: Final = {"PolicyPack": "rules", "ContactPack": "policies"}
"""Lists whose items nothing else in a rule set names: a wrong one is left out, and the others are checked."""
D = TypeVar("D", bound=Document)
D_co = TypeVar("D_co", bound=Document, covariant=True)


@dataclass(frozen=True, slots=True)
class Located(Generic[D_co]):
    """A typed document and the places of everything in it."""

    document: D_co
    yaml: YamlDocument

    def problem(self, path: Path, code: str, message: str, advice: str = "") -> Diagnostic:
        """A diagnostic at a path of the document."""
        return self.yaml.problem(path, code, message, advice)


@dataclass(frozen=True, slots=True)
class Reading:
    """All documents that could be typed, and what was wrong with the others."""

    documents: tuple[Located[Document], ...]
    diagnostics: tuple[Diagnostic, ...]
    untyped: tuple[YamlDocument, ...]  # files with mistakes of structure
    csv: Mapping[str, YamlDocument] = field(default_factory=dict)  # rows of decision tables, by path

    def has_unread(self, kind: str) -> bool:
        """Whether a document of a kind may be among those that could not be typed."""
        return any(_kind_of(yaml) in (kind, "") for yaml in self.untyped)

    def untyped_texts(self, kind: str, items: str, field: str) -> Iterator[tuple[YamlDocument, Path, str]]:
        """The text of a field in each item of a list, in files of a kind that could not be typed."""
        for yaml in self.untyped:
            if _kind_of(yaml) != kind:
                continue
            for i, item in enumerate(yaml.items(items)):
                text = item.get(field) if isinstance(item, dict) else None
                if isinstance(text, str):
                    yield yaml, (items, i, field), text

    def of_kind(self, kind: type[D]) -> tuple[Located[D], ...]:
        """The documents of one kind, sorted by path."""
        return tuple(typing.cast("Located[D]", d) for d in self.documents if isinstance(d.document, kind))


@dataclass(frozen=True, slots=True)
class _Read:
    """One file: what could be typed, and where it stands; what could not; and why."""

    typed: YamlDocument
    document: Document | None = None
    untyped: YamlDocument | None = None
    problems: tuple[Diagnostic, ...] = ()


_READ: ContextVar[dict[tuple[str, str], _Read] | None] = ContextVar("files_read", default=None)


@contextmanager
def files_read_once() -> Iterator[None]:
    """Within it a file that several rule sets have in common is read once, for work on more than one set."""
    token = _READ.set({})
    try:
        yield
    finally:
        _READ.reset(token)


def read_documents(sources: Mapping[str, str], *, kinds: Mapping[str, type[Document]] = KINDS) -> Reading:
    """Types every file as one of `kinds`; mistakes of one file do not hide those of another."""
    documents: list[Located[Document]] = []
    problems: list[Diagnostic] = []
    untyped: list[YamlDocument] = []
    csv = {file: plain_file(file, text) for file, text in sources.items() if file.endswith(CSV)}
    for file, text in sources.items():
        if file in csv:
            continue
        read = _read(file, text, kinds)
        problems += read.problems
        if read.document is not None:
            documents.append(Located(read.document, read.typed))
        if read.untyped is not None:
            untyped.append(read.untyped)
    return Reading(tuple(documents), tuple(problems), tuple(untyped), csv)


def _read(file: str, text: str, kinds: Mapping[str, type[Document]]) -> _Read:
    """One file, typed where it is right. Nobody changes what is read, so it may be shared."""
    known = _READ.get() if kinds is KINDS else None
    if known is not None and (file, text) in known:
        return known[file, text]
    read = _typed(parse_yaml(file, text), kinds)
    if known is not None:
        known[file, text] = read
    return read


def _kind_of(yaml: YamlDocument) -> str:
    kind = yaml.data.get("kind") if isinstance(yaml.data, dict) else None
    return kind if isinstance(kind, str) and kind in KINDS else ""


def _typed(yaml: YamlDocument, kinds: Mapping[str, type[Document]]) -> _Read:
    if yaml.problems:
        return _Read(yaml, untyped=yaml, problems=tuple(yaml.problems))
    if not isinstance(yaml.data, dict):
        advice = f"begin with `apiVersion: {API_VERSION}`, `kind:` and `metadata:`"
        problem = yaml.at(1, 1, codes.WRONG_VALUE, "not a document", advice)
        return _Read(yaml, untyped=yaml, problems=(problem,))
    kind = yaml.data.get("kind")
    model = kinds.get(kind) if isinstance(kind, str) else None
    if model is None:
        message = f"unknown kind `{kind}`" if "kind" in yaml.data else "`kind` is missing"
        problem = yaml.problem(("kind",), codes.UNKNOWN_KIND, message, did_you_mean(str(kind), kinds))
        return _Read(yaml, untyped=yaml, problems=(problem,))
    try:
        return _Read(yaml, model.model_validate(yaml.data))
    except ValidationError as error:
        problems = tuple(_diagnostics(yaml, model, error))
        return _partly(yaml, model, _wrong_items(yaml, error), problems)


def _wrong_items(yaml: YamlDocument, error: ValidationError) -> frozenset[int] | None:
    """The items that hold all that is wrong with a file, by their place in its list; None where more is."""
    places = [detail["loc"][:2] for detail in error.errors(include_url=False)]
    field = _APART.get(_kind_of(yaml))
    wrong = frozenset(place[1] for place in places if len(place) == 2 and isinstance(place[1], int))
    return wrong if all(len(place) == 2 and place[0] == field for place in places) else None


def _partly(
    yaml: YamlDocument, model: type[Document], wrong: frozenset[int] | None, problems: tuple[Diagnostic, ...]
) -> _Read:
    """A file without its wrong items, where those are all that is wrong."""
    if wrong is None:
        return _Read(yaml, untyped=yaml, problems=problems)
    field = _APART[_kind_of(yaml)]
    right = [place for place in range(len(yaml.items(field))) if place not in wrong]
    rest = yaml.with_items(field, right)
    try:
        document = model.model_validate(rest.data)
    except ValidationError:  # such as a list that must not be empty
        return _Read(yaml, untyped=yaml, problems=problems)
    return _Read(rest, document, yaml.with_items(field, sorted(wrong)), problems)


def _diagnostics(yaml: YamlDocument, model: type[Document], error: ValidationError) -> Iterable[Diagnostic]:
    for detail in error.errors(include_url=False):
        path = _known_path(yaml, detail["loc"])
        match detail["type"]:
            case "too_short" if detail["input"]:  # what was left of a list whose mistakes are told themselves
                continue
            case "extra_forbidden":
                advice = did_you_mean(str(path[-1]), _fields_at(model, path[:-1]))
                message = f"unknown field `{path[-1]}`"
                yield yaml.problem(path, codes.UNKNOWN_FIELD, message, advice, key=True)
            case "missing":
                missing = detail["loc"][-1]
                if (model, missing) == (CatalogueDocument, "currency"):
                    advice = "add the currency of all values and costs, e.g. `currency: CHF`"
                    yield yaml.problem(path, codes.NO_CURRENCY, "the values have no currency", advice)
                    continue
                yield yaml.problem(path, codes.MISSING_FIELD, f"`{missing}` is missing", "add it")
            case _:
                yield _wrong_value(yaml, path, detail)


def _wrong_value(yaml: YamlDocument, path: Path, detail: ErrorDetails) -> Diagnostic:
    name = next((str(p) for p in reversed(path) if isinstance(p, str)), "document")
    if detail["loc"] and detail["loc"][-1] == "[key]":
        return yaml.problem(
            path, codes.WRONG_VALUE, f"the key `{name}`: {_words(detail)}", _advice(detail), key=True
        )
    return yaml.problem(path, codes.WRONG_VALUE, f"`{name}`: {_words(detail)}", _advice(detail))


def _known_path(yaml: YamlDocument, loc: tuple[int | str, ...]) -> Path:
    """The longest beginning of pydantic's path that stands in the file."""
    path: Path = ()
    for part in loc:
        if (*path, part) not in yaml.values:
            break
        path = (*path, part)
    return path


def _words(detail: ErrorDetails) -> str:
    context = detail.get("ctx", {})
    match detail["type"]:
        case "string_pattern_mismatch":
            return f"{_shown(detail['input'])} does not have the form {context['pattern'].strip('^$')}"
        case "enum" | "literal_error":
            return f"{_shown(detail['input'])} is none of {context['expected']}"
        case "model_type" | "dict_type":
            return f"must hold named fields, not {_shown(detail['input'])}"
        case "tuple_type":
            return f"must be a list, not {_shown(detail['input'])}"
        case "string_type" | "float_type" | "int_type" | "bool_type":
            wanted = {"string": "text", "float": "a number", "int": "a whole number", "bool": "true or false"}
            return f"must be {wanted[detail['type'].removesuffix('_type')]}, not {_shown(detail['input'])}"
        case _:
            message = detail["msg"].removeprefix("Input ").removeprefix("Value error, ")
            return message[:1].lower() + message[1:]


def _advice(detail: ErrorDetails) -> str:
    if detail["type"] in ("enum", "literal_error"):
        known = re.findall(r"'([^']*)'", str(detail["ctx"]["expected"]))
        return did_you_mean(str(detail["input"]), known)
    if detail["type"] == "string_type" and isinstance(detail["input"], (int, float, bool)):
        return "put it in quotes"
    return ""


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "named fields"
    if isinstance(value, (list, tuple)):
        return "a list"
    if value is None:
        return "nothing"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{text[:60]}…`" if len(text) > 60 else f"`{text}`"


def _fields_at(model: type[BaseModel], path: Path) -> set[str]:
    """Names of the fields a document may have at a path."""
    annotation: Any = model
    for part in path:
        annotation = _inner(annotation)
        if isinstance(part, str) and isinstance(annotation, type) and issubclass(annotation, BaseModel):
            fields = {f.alias or name: f.annotation for name, f in annotation.model_fields.items()}
            annotation = fields.get(part)
    annotation = _inner(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {f.alias or name for name, f in annotation.model_fields.items()}
    return set()


def _inner(annotation: Any) -> Any:  # noqa: ANN401  # annotations have no common type
    """The model inside an optional, annotated or repeated annotation."""
    while (origin := typing.get_origin(annotation)) is not None:
        arguments = [a for a in typing.get_args(annotation) if a not in (type(None), Ellipsis)]
        if origin not in (tuple, list, typing.Union, UnionType, typing.Annotated) or not arguments:
            break
        annotation = arguments[0]
    return annotation
