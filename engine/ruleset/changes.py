"""What changed between two rule sets, in words: what was added, removed and changed, field by field.

Works on typed documents of every kind alike: the entries of a document's lists are compared by their ids,
what a document says besides them as a whole. Where an entry stands, and in which file, is no change.
Decision tables are compared row by row (`tablechanges.py`), patterns of signals told as phrases
(`signalwords.py`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from engine.ruleset.documents import (
    ArbitrationDocument,
    CatalogueDocument,
    ConsentPolicyDocument,
    Document,
    PurposeEntry,
    VocabularyDocument,
)
from engine.ruleset.reading import Located, Reading, read_documents
from engine.ruleset.signal_documents import SignalPackDocument
from engine.ruleset.signalwords import signal_fields, span
from engine.ruleset.table_documents import DecisionTableDocument
from engine.ruleset.tablechanges import ANY, TableRow, TableText, order_of_rows, paired_rows, table_text

_NAMES: Final = ("id", "code", "name", "type")
"""Fields an entry may go by."""
_NOUNS: Final = {
    "Arbitration": "arbitration",
    "Catalogue": "catalogue",
    "Catalogue.actions": "action",
    "ConsentPolicy": "consent policy",
    "ConsentPolicy.purposes": "purpose",
    "ContactPack": "contact pack",
    "ContactPack.policies": "contact policy",
    "DecisionTable": "decision table",
    "EventPack.events": "event type",
    "PolicyPack": "policy pack",
    "PolicyPack.rules": "rule",
    "ReasonCatalogue": "labels",
    "ReasonCatalogue.reasons": "reason",
    "SegmentPack": "segment pack",
    "SignalPack": "signal pack",
    "SignalPack.events": "event type",
    "Vocabulary": "vocabulary",
    "Vocabulary.context": "context field",
    "Vocabulary.signals": "declared signal",
}
_ORDER: Final = (
    "purpose",
    "consent policy",
    "rule",
    "decision table",
    "table row",
    "segment",
    "contact policy",
    "signal",
    "arbitration",
    "action",
)
"""What people should see first; other nouns follow in alphabetical order."""
_ONLY: Final = (ArbitrationDocument, CatalogueDocument, ConsentPolicyDocument, VocabularyDocument)
_WORDS: Final = {
    "when": "condition",
    "applies_to": "scope",
    "otherwise": "reason otherwise",
    "valid": "validity",
}
_DAY_MS: Final = 86_400_000
_ROW: Final = "table row"

Leaves = Mapping[str, str]


class How(StrEnum):
    """What became of an entry."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field of an entry; empty text where it is not given."""

    field: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Change:
    """One entry that differs; `file` and `line` are where it stands, of a removed one where it stood.

    `summary` says what an added or removed one does; `fields` what of a changed one differs. Of a changed
    row `summary` has the cells that stay.
    """

    how: How
    noun: str
    name: str
    file: str
    line: int
    summary: str = ""
    fields: tuple[FieldChange, ...] = ()


@dataclass(frozen=True, slots=True)
class _Entry:
    noun: str
    name: str
    file: str
    line: int
    leaves: Leaves
    otherwise: str = ""  # what holds where a field is not given
    table: TableText | None = None


_Entries = Mapping[tuple[str, str], _Entry]


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[Change, ...]:
    """Every difference in meaning between two sets of rule files that are right; comments are none."""
    was, now = (_entries(read_documents(sources)) for sources in (before, after))
    found = [*_appeared(How.REMOVED, was, now), *_appeared(How.ADDED, now, was)]
    for key in was.keys() & now.keys():
        found += _changed(was[key], now[key])
    return tuple(sorted(found, key=_rank))


def _changed(was: _Entry, now: _Entry) -> Iterator[Change]:
    fields = [*_fields(was, now), *_order(was.table, now.table)]
    if fields:
        yield Change(How.CHANGED, now.noun, now.name, now.file, now.line, fields=tuple(fields))
    if was.table is not None and now.table is not None:
        for before, after in paired_rows(was.table, now.table):
            yield from _row_change(before, after)


def _row_change(was: TableRow | None, now: TableRow | None) -> Iterator[Change]:
    if was is None or now is None:
        row, how = (now, How.ADDED) if was is None else (was, How.REMOVED)
        if row is not None:
            yield Change(how, _ROW, row.name, row.file, row.line, summary=row.words)
        return
    held, holds = was.fields, now.fields
    names = dict.fromkeys([*was.cells, *now.cells, *held, *holds])
    either = dict.fromkeys([*was.cells, *now.cells], ANY)
    fields = tuple(
        FieldChange(name, held.get(name, either.get(name, "")), holds.get(name, either.get(name, "")))
        for name in names
        if held.get(name) != holds.get(name)
    )
    if fields:
        where = now.tests_with(was)
        yield Change(How.CHANGED, _ROW, now.name, now.file, now.line, summary=where, fields=fields)


def _order(was: TableText | None, now: TableText | None) -> Iterator[FieldChange]:
    moved = order_of_rows(was, now) if was is not None and now is not None else None
    if moved is not None:
        yield FieldChange("order of rows", *moved)


def _rank(change: Change) -> tuple[int, str, str]:
    place = _ORDER.index(change.noun) if change.noun in _ORDER else len(_ORDER)
    return place, change.noun, change.name


def _appeared(how: How, there: _Entries, elsewhere: _Entries) -> Iterator[Change]:
    for key in there.keys() - elsewhere.keys():
        entry = there[key]
        yield Change(how, entry.noun, entry.name, entry.file, entry.line, summary=_summary(entry))


def _fields(was: _Entry, now: _Entry) -> Iterator[FieldChange]:
    for name in dict.fromkeys([*was.leaves, *now.leaves]):
        before, after = (side.leaves.get(name, side.otherwise) for side in (was, now))
        if before != after:
            yield FieldChange(name, before, after)


def _entries(reading: Reading) -> dict[tuple[str, str], _Entry]:
    found: dict[tuple[str, str], _Entry] = {}
    for located in reading.documents:
        kind, dumped = _dumped(located.document)
        table = _table(reading, located)
        rest: dict[str, object] = {}
        for field, value in dumped.items():
            name_field = _name_field(value)
            if not name_field or table is not None:
                rest[field] = value
                continue
            assert isinstance(value, list)  # what `_name_field` looked at
            noun = _NOUNS.get(f"{kind}.{field}", field.removesuffix("s"))
            for i, item in enumerate(value):
                line, _ = located.yaml.place((field, i))
                leaves, otherwise = _item_leaves(located.document, field, i, item, name_field)
                entry = _Entry(noun, str(item[name_field]), located.yaml.file, line, leaves, otherwise)
                found[f"{kind}.{field}", entry.name] = entry
        leaves = dict(_leaves("", rest)) if table is None else _table_leaves(located.document, rest)
        if leaves:
            noun, name = _NOUNS.get(kind, kind), _name_of(located.document, rest)
            found[kind, name] = _Entry(noun, name, located.yaml.file, 1, leaves, table=table)
    return found


def _item_leaves(
    document: Document, field: str, i: int, item: Mapping[str, object], name_field: str
) -> tuple[Leaves, str]:
    """Fields of an entry, and what holds where one of them is not given."""
    if isinstance(document, SignalPackDocument) and field == "signals":
        return signal_fields(document.signals[i]), ""
    if isinstance(document, ConsentPolicyDocument) and field == "purposes":
        return _purpose_leaves(document.purposes[i])
    return dict(_leaves("", {k: v for k, v in item.items() if k != name_field})), ""


def _purpose_leaves(purpose: PurposeEntry) -> tuple[Leaves, str]:
    """The basis, and that of each channel where it differs."""
    own = {f"basis on {channel}": basis.value for channel, basis in purpose.channels.items()}
    return {"basis": purpose.basis.value, **own}, purpose.basis.value


def _table(reading: Reading, located: Located[Document]) -> TableText | None:
    if not isinstance(located.document, DecisionTableDocument):
        return None
    return table_text(reading, Located(located.document, located.yaml))


def _table_leaves(document: Document, rest: Mapping[str, object]) -> Leaves:
    """What a table says besides its rows; whether they stand in a CSV file is no change."""
    assert isinstance(document, DecisionTableDocument)  # which has a table
    beside = ("id", "rows", "inputs", "csv", "delimiter")
    columns = {f"column {c.input}": _column(c.domain, c.missing) for c in document.inputs}
    return {**columns, **dict(_leaves("", {k: v for k, v in rest.items() if k not in beside}))}


def _column(domain: str, missing: str) -> str:
    words = f"values {domain}" if domain else "any value"
    return f"{words}, matches no row where missing" if missing == "no_match" else words


def _name_of(document: Document, rest: Mapping[str, object]) -> str:
    """What a document as a whole goes by; nothing where there is one of its kind."""
    if isinstance(document, _ONLY):
        return ""
    return str(rest.get("id", document.metadata.name))


def _dumped(document: Document) -> tuple[str, dict[str, object]]:
    dumped = document.model_dump(mode="json", by_alias=True)
    for field in ("apiVersion", "metadata"):
        dumped.pop(field)
    return str(dumped.pop("kind")), dumped


def _name_field(value: object) -> str:
    """The field by which the entries of a list go; empty where it is no list of named entries."""
    if not (isinstance(value, list) and value and all(isinstance(item, dict) for item in value)):
        return ""
    for name in _NAMES:
        names = [item.get(name) for item in value]
        if all(isinstance(each, str) for each in names) and len(set(names)) == len(names):
            return name
    return ""


def _leaves(path: str, value: object) -> Iterator[tuple[str, str]]:
    """Fields below a value as text, by words for people joined with dots."""
    name_field = _name_field(value)
    if isinstance(value, dict):
        for field, held in value.items():
            yield from _leaves(f"{path}.{field}" if path else str(_WORDS.get(field, field)), held)
    elif name_field:
        assert isinstance(value, list)  # what `_name_field` looked at
        for item in value:
            rest = {k: v for k, v in item.items() if k != name_field}
            yield from _leaves(f"{path}.{item[name_field]}", rest)
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for i, item in enumerate(value, start=1):
            yield from _leaves(f"{path}.{i}", item)
    elif value not in (None, "", []):
        yield path, _text(path, value)


def _text(path: str, value: object) -> str:
    """A value as its author would write it."""
    last = path.rpartition(".")[2]
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and path in ("validity.from", "validity.to"):
        return _instant(value)
    if isinstance(value, int) and last in ("window", "reserve_for"):
        return span(value)
    if isinstance(value, float) and last == "share":
        return f"{value * 100:+g} %"
    return f"{value:g}" if isinstance(value, float) else " ".join(str(value).split())


def _instant(at_ms: int) -> str:
    instant = dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC)
    return f"{instant:%Y-%m-%d}" if at_ms % _DAY_MS == 0 else f"{instant:%Y-%m-%dT%H:%M:%SZ}"


def _summary(entry: _Entry) -> str:
    """What an entry does, in a line."""
    leaves = dict(entry.leaves)
    if entry.noun == "signal":
        unless = f", unless {leaves['unless']}" if "unless" in leaves else ""
        return f"stands for {leaves['valid for']} after {leaves['pattern']}{unless}"
    if entry.noun == "segment":
        return f"`{leaves['condition']}`"
    if entry.noun != "rule":
        shown = [f"{name} {text}" for name, text in leaves.items() if _is_short(name, text)]
        rows = [] if entry.table is None else [f"{len(entry.table.rows)} rows"]
        return ", ".join([*rows, *shown[:8]])
    does = leaves["effect"] + "".join(f" {leaves[name]}" for name in ("share", "factor") if name in leaves)
    scope = [
        f"{name.removeprefix('scope.')} {text}" for name, text in leaves.items() if name.startswith("scope.")
    ]
    words = [f"{does} for {' and '.join(scope) or 'all actions'} when `{leaves['condition']}`"]
    words += [f"{word} {leaves[word]}" for word in ("reason", "reason otherwise") if word in leaves]
    words += [
        f"{word} {leaves[f'validity.{word}']}" for word in ("from", "to") if f"validity.{word}" in leaves
    ]
    if leaves["state"] != "active":
        words.append(leaves["state"])
    return "; ".join(words)


def _is_short(name: str, text: str) -> bool:
    return "treatments" not in name and len(text) <= 60
