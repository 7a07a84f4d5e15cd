"""Reads consents out of other systems' files: JSON lines, CSV, or XDM-like profiles, by a declared mapping.

Every row keeps its line, so that each error is told with its place. A value that states no will of the
customer (a default, pending, a legal basis somebody claims) is passed over, never taken for a yes.
"""

from __future__ import annotations

import csv
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import msgspec

from engine.decisionlog.ledger import ConsentTerms
from engine.service.consents import ConsentSubmission
from feature_store.state import ANY_CHANNEL, ConsentState

ID_SPECIFIC: Final = "idSpecific"
_REFUSALS: Final = frozenset({ConsentState.DENIED, ConsentState.WITHDRAWN, ConsentState.OBJECTED})
_PLAIN_VALUES: Final = {state.value: state.value for state in (ConsentState.GRANTED, *sorted(_REFUSALS))}
_TERMS: Final = ("notice", "notice_language", "legal_basis", "jurisdiction", "collection_method")
_TEXTS: Final = ("source", "notice_version", "actor", "evidence")
_COLUMNS: Final = (
    *("customer_id", "purpose", "channel", "state", "recorded_at", "valid_until"),
    *_TEXTS,
    *_TERMS,
    *("recipients", "data_categories"),
)


class FileFormat(StrEnum):
    """How a file of consents is written."""

    XDM = "xdm"
    JSONL = "jsonl"
    CSV = "csv"


class FileInvalid(Exception):
    """The mapping, or the file as a whole, cannot be read; the text says where and what to do."""


class _XdmField(msgspec.Struct, forbid_unknown_fields=True):
    """One preference of a profile, and what it is here."""

    path: str
    purpose: str
    channel: str = ANY_CHANNEL


class FileMapping(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """How a file's words become ours. Paths are dotted; a number picks from a list."""

    source: str = ""
    actor: str = ""
    notice_version: str = ""
    customer: str = ""
    time: str = ""
    values: dict[str, str] = msgspec.field(default_factory=dict)
    columns: dict[str, str] = msgspec.field(default_factory=dict)
    fields: list[_XdmField] = msgspec.field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ConsentRow:
    """One consent in a file; `problems` where it cannot be one."""

    line: int
    submission: ConsentSubmission | None
    problems: tuple[str, ...] = ()


@dataclass(slots=True)
class RowsPassedOver:
    """Values that state no will, by value."""

    counts: dict[str, int] = field(default_factory=dict)

    def note(self, value: str) -> None:
        """Counts one."""
        self.counts[value] = self.counts.get(value, 0) + 1


def read_mapping(path: Path | None, form: FileFormat) -> FileMapping:
    """The mapping in a TOML file; the plain one where there is no file. Raises FileInvalid."""
    mapping = FileMapping(values=dict(_PLAIN_VALUES)) if path is None else _mapping_in(path)
    if form is FileFormat.XDM and not (mapping.customer and mapping.fields):
        raise FileInvalid(
            "an XDM file needs --mapping with `customer` (where the customer's id is) and `fields`; "
            "docs/consent.md shows one"
        )
    return mapping


def _mapping_in(path: Path) -> FileMapping:
    try:
        mapping = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), type=FileMapping)
    except RecursionError:
        raise FileInvalid(f"{path}: cannot be read as a mapping: it is nested too deeply") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise FileInvalid(f"{path}: cannot be read as a mapping: {error}") from error
    mapping.values = mapping.values or dict(_PLAIN_VALUES)
    wrong = sorted(set(mapping.values.values()) - {*_PLAIN_VALUES, ""})
    if wrong:
        raise FileInvalid(
            f"{path}: values: {', '.join(wrong)} is none of {', '.join(_PLAIN_VALUES)} or empty"
        )
    unknown = sorted(set(mapping.columns) - set(_COLUMNS))
    if unknown:
        raise FileInvalid(f"{path}: columns: {', '.join(unknown)} is none of {', '.join(_COLUMNS)}")
    return mapping


def read_rows(
    path: Path, form: FileFormat, mapping: FileMapping, passed_over: RowsPassedOver
) -> Iterator[ConsentRow]:
    """Every consent in a file, in order. Raises FileInvalid where the file cannot be read at all."""
    try:
        for line, read in _table(path) if form is FileFormat.CSV else _documents(path):
            if form is FileFormat.XDM:
                yield from _XdmProfile(read, mapping, line, path.name, passed_over).rows()
            else:
                yield from _row(read, mapping, line, path.name, passed_over)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FileInvalid(f"{path}: cannot be read: {error}") from error


def _documents(path: Path) -> Iterator[tuple[int, object]]:
    """JSON values with the line each begins on: one a line, or the members of one array."""
    with path.open(encoding="utf-8-sig") as file:
        start = file.read(1)
        while start.isspace():
            start = file.read(1)
        if start == "[":
            file.seek(0)
            yield from _members(file.read())
            return
        file.seek(0)
        for number, text in enumerate(file, start=1):
            if text.strip():
                yield number, _parsed(text)


def _members(text: str) -> Iterator[tuple[int, object]]:
    decoder, place = json.JSONDecoder(), text.index("[") + 1
    line, counted = 1, 0
    while True:
        while place < len(text) and (text[place].isspace() or text[place] == ","):
            place += 1
        line, counted = line + text.count("\n", counted, place), place
        if text[place : place + 1] in ("]", ""):
            if not text[place:]:
                yield line, ValueError("the array is not closed")
            return
        try:
            value, place = decoder.raw_decode(text, place)
        except json.JSONDecodeError as error:
            yield line + text.count("\n", counted, error.pos), ValueError(error.msg)
            return
        yield line, value


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        return ValueError(f"{error.msg} at column {error.colno}")


def _table(path: Path) -> Iterator[tuple[int, object]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file, strict=True)
        for row in rows:
            cut = None in row or None in row.values()
            yield rows.line_num, ValueError("the row has not as many cells as the header") if cut else row


def _row(
    row: object, mapping: FileMapping, line: int, file: str, passed_over: RowsPassedOver
) -> Iterator[ConsentRow]:
    """A row whose columns, or keys, are ours or mapped to ours."""
    if not isinstance(row, dict):
        yield ConsentRow(line, None, (_not_an_object(row),))
        return

    def cell(name: str) -> object:
        return row.get(mapping.columns.get(name, name))

    word = str(cell("state") or "")
    if mapping.values.get(word) == "":
        passed_over.note(word)
        return
    problems: list[str] = []
    evidence = str(cell("evidence") or f"{file}:{line}")
    submission = ConsentSubmission(
        customer_id=str(cell("customer_id") or ""),
        purpose=str(cell("purpose") or ""),
        channel=str(cell("channel") or ANY_CHANNEL),
        state=_state(word, mapping, problems),
        recorded_at_ms=_instant(cell("recorded_at"), "recorded_at", problems),
        valid_until_ms=_instant(cell("valid_until"), "valid_until", problems)
        if cell("valid_until")
        else None,
        source=str(cell("source") or mapping.source or f"import:{file}"),
        notice_version=str(cell("notice_version") or mapping.notice_version),
        actor=str(cell("actor") or mapping.actor),
        evidence=evidence,
        terms=ConsentTerms(
            **{name: str(cell(name) or "") for name in _TERMS},
            recipients=_listed(cell("recipients")),
            data_categories=_listed(cell("data_categories")),
        ),
    )
    yield ConsentRow(line, None if problems else submission, tuple(problems))


def _not_an_object(row: object) -> str:
    return str(row) if isinstance(row, ValueError) else "it is no JSON object"


def _listed(value: object) -> tuple[str, ...]:
    """A JSON list, or words parted by semicolons."""
    if isinstance(value, list):
        return tuple(str(item) for item in value)
    return tuple(part.strip() for part in str(value or "").split(";") if part.strip())


def _state(word: str, mapping: FileMapping, problems: list[str]) -> ConsentState | None:
    said = mapping.values.get(word)
    if said is None:
        known = ", ".join(mapping.values)
        problems.append(f"the value {word[:40]!r} is none of {known}; name it in the mapping")
        return None
    return ConsentState(said)


def _instant(value: object, name: str, problems: list[str]) -> int | None:
    """Milliseconds of an ISO 8601 instant or date, or of a whole number of milliseconds."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    try:
        if not isinstance(value, str) or not value.strip():
            raise ValueError("is missing; every consent says when it was given")
        read = datetime.fromisoformat(value.strip())
    except ValueError as error:
        problems.append(f"{name} {error}")
        return None
    at = read.replace(tzinfo=UTC) if read.tzinfo is None else read
    return int(at.timestamp() * 1000)


class _XdmProfile:
    """One profile with Adobe's consents and preferences."""

    def __init__(
        self, profile: object, mapping: FileMapping, line: int, file: str, passed_over: RowsPassedOver
    ) -> None:
        self._profile = profile
        self._mapping = mapping
        self._line = line
        self._file = file
        self._passed_over = passed_over

    def rows(self) -> Iterator[ConsentRow]:
        """The preferences that the mapping names and the profile holds."""
        if not isinstance(self._profile, dict):
            yield ConsentRow(self._line, None, (_not_an_object(self._profile),))
            return
        customer = _at(self._profile, self._mapping.customer)
        if customer is None:
            yield ConsentRow(self._line, None, (f"there is nothing at {self._mapping.customer}",))
            return
        for named in self._mapping.fields:
            found = _at(self._profile, named.path)
            if isinstance(found, dict):
                yield from self._row(str(customer), named, found, "")
        yield from self._of_identities(str(customer))

    def _of_identities(self, customer_id: str) -> Iterator[ConsentRow]:
        """What was said of one device or address. A refusal counts for the customer; a yes for one address
        is none for all, so it is passed over.
        """
        for named in self._mapping.fields:
            owner, _, rest = named.path.partition(".")
            namespaces = _at(self._profile, f"{owner}.{ID_SPECIFIC}")
            for namespace, ids in namespaces.items() if isinstance(namespaces, dict) else ():
                for held in ids.values() if isinstance(ids, dict) else ():
                    found = _at(held, rest)
                    if isinstance(found, dict):
                        yield from self._row(customer_id, named, found, str(namespace))

    def _row(
        self, customer_id: str, named: _XdmField, found: Mapping[str, Any], namespace: str
    ) -> Iterator[ConsentRow]:
        word = str(found.get("val", ""))
        said = self._mapping.values.get(word)
        if said == "" or (namespace and said == ConsentState.GRANTED):
            self._passed_over.note(f"{word} ({ID_SPECIFIC})" if namespace else word)
            return
        problems: list[str] = []
        state = _state(word, self._mapping, problems)
        at_ms = _instant(found.get("time") or _at(self._profile, self._mapping.time), "time", problems)
        if problems:
            yield ConsentRow(self._line, None, tuple(f"{named.path}: {problem}" for problem in problems))
            return
        path = f"{ID_SPECIFIC}.{namespace}.{named.path}" if namespace else named.path
        reason = f" ({found['reason']})" if found.get("reason") else ""
        yield ConsentRow(
            self._line,
            ConsentSubmission(
                customer_id=customer_id,
                purpose=named.purpose,
                channel=named.channel,
                state=state,
                recorded_at_ms=at_ms,
                source=self._mapping.source or f"import:{self._file}",
                notice_version=self._mapping.notice_version,
                actor=self._mapping.actor,
                evidence=f"{self._file}:{self._line} {path}={word}{reason}",
            ),
        )


def _at(value: object, path: str) -> object:
    """What lies at a dotted path; None where there is nothing."""
    for word in path.split("."):
        if isinstance(value, dict):
            value = value.get(word)
        elif isinstance(value, Sequence) and not isinstance(value, str) and word.isdecimal():
            value = value[int(word)] if int(word) < len(value) else None
        else:
            return None
    return value
