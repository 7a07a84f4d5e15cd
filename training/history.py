"""Reads histories and tables of rows from files, and writes tables as they were known at their instants.

Events are JSON lines as they are sent (docs/events.md), each with `received_time`. Tables are Parquet or CSV,
plain or `.gz`. Instants are RFC 3339, milliseconds since 1970, or Parquet's timestamps.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Final, TextIO

import msgspec
import pandas as pd

from feature_store.loading import CUSTOMER_ID, parsed_cell
from feature_store.schema import Feature, FeatureSchema, FeatureValue
from training.errors import DataUnexpected
from training.instants import read_instant_ms, written_instant
from training.leaks import Offered
from training.pointintime import Event, Observation, Seen, Snapshot, loaded_places

AT: Final = "at"
LABEL: Final = "label"
LABEL_FROM: Final = "label_from"
LABEL_KNOWN: Final = "label_known"
VIEW_TIME: Final = "view_time"
KNOWN_TIME: Final = "known_time"
_ROW_COLUMNS: Final = (CUSTOMER_ID, AT, LABEL, LABEL_KNOWN)
_PANDAS_TYPES: Final = {"bool": "boolean", "int": "Int64", "double": "Float64", "category": "string"}
_TRUTH: Final = {"true": 1.0, "false": 0.0}


class _Line(msgspec.Struct, frozen=True):
    """One event as a line of JSON; what else stands there is not read."""

    event_id: str
    type: str
    customer_id: str
    received_time: int | str
    occur_time: int | str | None = None
    attributes: dict[str, bool | int | float | str] = {}


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """A file of rows: cells by column, None where empty."""

    path: Path
    rows: int
    columns: Mapping[str, Sequence[object]]

    def read(self, column: str, read: Callable[[object], object]) -> list[object]:
        """A column's cells, each as `read` makes it. Raises DataUnexpected with the row, from 1."""
        found = []
        for row, cell in enumerate(self.columns[column], start=1):
            try:
                found.append(read(cell))
            except ValueError as error:
                raise DataUnexpected(f"{self.path}: row {row}: column {column}: {cell!r}: {error}") from error
        return found

    def instants(self, column: str) -> list[int]:
        """A column of instants, in every row."""
        return self.read(column, read_instant_ms)  # type: ignore[return-value]  # of what is read

    def optional_instants(self, column: str) -> list[int | None]:
        """A column of instants that may be empty, or not there at all."""
        if column not in self.columns:
            return [None] * self.rows
        return self.read(column, _instant_or_none)  # type: ignore[return-value]  # of what is read

    def stored(self, feature: Feature) -> list[float]:
        """A feature's column as it is stored."""
        return self.read(feature.name, lambda cell: feature.encode(_value(cell, feature)))  # type: ignore[return-value]  # of what is read

    def require(self, wanted: Collection[str], allowed: Collection[str]) -> None:
        """Raises DataUnexpected for columns that are missing, or that nobody knows."""
        missing = [name for name in wanted if name not in self.columns]
        if missing:
            raise DataUnexpected(f"{self.path}: column {missing[0]}: missing; add it")
        unknown = [name for name in self.columns if name not in allowed]
        if unknown:
            raise DataUnexpected(
                f"{self.path}: column {unknown[0]}: is nothing that is known here, so whether it leaks "
                "cannot be told; drop it, or --ignore it"
            )


def read_events(path: Path) -> Iterator[Event]:
    """The events of a file, one JSON object a line. Raises DataUnexpected with the line."""
    decoder = msgspec.json.Decoder(_Line)
    with _opened(path) as file:
        for number, text in enumerate(file, start=1):
            if text.strip():
                try:
                    yield _event(decoder.decode(text))
                except (msgspec.MsgspecError, ValueError) as error:
                    raise DataUnexpected(f"{path}:{number}: not a received event: {error}") from error


def read_snapshots(path: Path, *, schema: FeatureSchema, ignored: Collection[str] = ()) -> Iterator[Snapshot]:
    """The snapshots of a table: customer_id, view_time, known_time and all loaded features of some views.

    Raises DataUnexpected, also for a column that is computed from events: it would be as of another instant.
    """
    table = _read_table(path, ignored)
    loaded = [schema.feature[place] for place in loaded_places(schema)]
    _refuse_computed(table, schema)
    held = {feature.view for feature in loaded if feature.name in table.columns}
    wanted = [feature for feature in loaded if feature.view in held]
    names = [feature.name for feature in wanted]
    keys = [CUSTOMER_ID, VIEW_TIME, KNOWN_TIME]
    table.require([*keys, *names], [*keys, *names])
    if not names:
        raise DataUnexpected(f"{path}: holds no view of schema {schema.name}")
    views = tuple(place for place, view in enumerate(schema.view) if view.name in held)
    places = [schema.index[name] for name in names]
    stored = zip(*(table.stored(feature) for feature in wanted), strict=True)
    instants = zip(table.instants(VIEW_TIME), table.instants(KNOWN_TIME), strict=True)
    for customer_id, (view_ms, known_ms), values in zip(_customers(table), instants, stored, strict=True):
        yield Snapshot(customer_id, view_ms, known_ms, views, dict(zip(places, values, strict=True)))


def read_observations(
    path: Path, *, schema: FeatureSchema, ignored: Collection[str] = ()
) -> tuple[Observation, ...]:
    """Rows to build: customer_id, at, label, label_known; label_from and features of the request if wanted.

    Raises DataUnexpected, also for features that somebody joined already: `check_table` is for them.
    """
    table = _read_table(path, ignored)
    requested = {feature.name for _, feature in schema.requested}
    joined = [name for name in table.columns if name in schema.index and name not in requested]
    if joined:
        raise DataUnexpected(
            f"{path}: column {joined[0]}: is a feature that is joined already; drop or --ignore it and it is "
            "built as of each instant, or run `history check` on the table"
        )
    table.require(_ROW_COLUMNS, [*_ROW_COLUMNS, LABEL_FROM, *requested])
    return _rows(table, schema)


def read_offered(path: Path, *, schema: FeatureSchema, ignored: Collection[str] = ()) -> Offered:
    """A table made elsewhere, or by `write_rows`. Raises DataUnexpected."""
    table = _read_table(path, ignored)
    times = {view.name: f"{view.name}.time" for view in schema.view}
    known = {view.name: f"{view.name}.known" for view in schema.view}
    said = [*times.values(), *known.values()]
    table.require(_ROW_COLUMNS, [*_ROW_COLUMNS, LABEL_FROM, *schema.index, *said])
    requested = {feature.name for _, feature in schema.requested}
    given = [f for f in schema.feature if f.name in table.columns and f.name not in requested]
    return Offered(
        rows=_rows(table, schema),
        values={feature.name: table.stored(feature) for feature in given},
        times_ms={view: table.optional_instants(column) for view, column in times.items()},
        known_ms={view: table.optional_instants(column) for view, column in known.items()},
    )


def write_rows(
    path: Path, rows: Sequence[Observation], seen: Sequence[Seen], *, schema: FeatureSchema
) -> None:
    """Writes the table, Parquet or CSV: the rows, all features in schema order, and for each view its times.

    `<view>.time` and `<view>.known` are empty where nothing was known. Raises DataUnexpected.
    """
    table = pd.DataFrame(_written_columns(rows, seen, schema))
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        if _is_parquet(path):
            table.to_parquet(path, index=False)
        else:
            for feature in schema.feature:
                if feature.type == "bool":
                    table[feature.name] = table[feature.name].map({True: "true", False: "false"})
            table.to_csv(path, index=False, lineterminator="\n")
    except (OSError, ImportError) as error:
        raise DataUnexpected(f"{path}: cannot be written: {error}") from error


def _written_columns(
    rows: Sequence[Observation], seen: Sequence[Seen], schema: FeatureSchema
) -> dict[str, object]:
    columns: dict[str, object] = {
        CUSTOMER_ID: [row.customer_id for row in rows],
        AT: [written_instant(row.at_ms) for row in rows],
        LABEL: [row.label for row in rows],
        LABEL_KNOWN: [written_instant(row.label_known_ms) for row in rows],
    }
    if any(row.label_from_ms is not None for row in rows):
        columns[LABEL_FROM] = _instants([row.label_from_ms or 0 for row in rows])
    decoded = [schema.decode_all(one.values) for one in seen]
    for place, feature in enumerate(schema.feature):
        cells = [values[place] for values in decoded]
        columns[feature.name] = pd.array(cells, dtype=_PANDAS_TYPES[feature.type])  # type: ignore[call-overload]  # by name
    for place, view in enumerate(schema.view):
        if view.kind != "request":
            columns[f"{view.name}.time"] = _instants([one.view_times_ms[place] for one in seen])
            columns[f"{view.name}.known"] = _instants([one.known_ms[place] for one in seen])
    return columns


def _instants(instants_ms: Sequence[int]) -> object:
    return pd.array([written_instant(at) if at else None for at in instants_ms], dtype="string")


def _rows(table: _Table, schema: FeatureSchema) -> tuple[Observation, ...]:
    requested = [feature for _, feature in schema.requested if feature.name in table.columns]
    contexts = [table.read(feature.name, partial(_fitting, feature)) for feature in requested]
    names = [feature.name for feature in requested]
    labels, begins = table.read(LABEL, _label), table.optional_instants(LABEL_FROM)
    parts = zip(
        _customers(table), table.instants(AT), labels, table.instants(LABEL_KNOWN), begins, strict=True
    )
    return tuple(
        Observation(
            customer_id=customer_id,
            at_ms=at_ms,
            label=label,  # type: ignore[arg-type]  # a float: read by _label
            label_known_ms=known_ms,
            label_from_ms=from_ms,
            context={name: column[row] for name, column in zip(names, contexts, strict=True)},  # type: ignore[misc]  # values
        )
        for row, (customer_id, at_ms, label, known_ms, from_ms) in enumerate(parts)
    )


def _customers(table: _Table) -> list[str]:
    return table.read(CUSTOMER_ID, _customer)  # type: ignore[return-value]  # of what is read


def _customer(cell: object) -> str:
    if cell is None or not str(cell):
        raise ValueError("empty; it names the customer")
    return str(cell)


def _label(cell: object) -> float:
    """A label as a number; true is 1."""
    try:
        label = float(_TRUTH.get(str(cell).strip().lower(), cell))  # type: ignore[arg-type]  # refused below
    except (TypeError, ValueError) as error:
        raise ValueError("not a number, true or false; leave rows without a label out") from error
    if not isfinite(label):
        raise ValueError("not finite; leave rows without a label out")
    return label


def _fitting(feature: Feature, cell: object) -> FeatureValue | None:
    """A value of the request, as it would be stored."""
    value = _value(cell, feature)
    feature.encode(value)
    return value


def _value(cell: object, feature: Feature) -> FeatureValue | None:
    """What a cell says of a feature; numbers of Parquet may come as other kinds of number."""
    if cell is None or isinstance(cell, str):
        return None if cell is None else parsed_cell(cell, feature)
    if feature.type == "int" and isinstance(cell, float) and cell.is_integer():
        return int(cell)
    if feature.type == "bool" and not isinstance(cell, bool) and cell in (0, 1):
        return bool(cell)
    if not isinstance(cell, (bool, int, float)):
        raise ValueError(f"not of type {feature.type}")
    return cell


def _instant_or_none(cell: object) -> int | None:
    return None if cell is None else read_instant_ms(cell)


def _refuse_computed(table: _Table, schema: FeatureSchema) -> None:
    for feature in schema.feature:
        if feature.aggregate is not None and feature.name in table.columns:
            raise DataUnexpected(
                f"{table.path}: column {feature.name}: is computed from events as of each instant, and a "
                "snapshot has it as of another one; drop it, or --ignore it"
            )


def _event(line: _Line) -> Event:
    received_ms = read_instant_ms(line.received_time)
    occurred_ms = received_ms if line.occur_time is None else read_instant_ms(line.occur_time)
    return Event(line.event_id, line.type, line.customer_id, occurred_ms, received_ms, line.attributes)


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open("rt") as file:
            yield file
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataUnexpected(f"{path}: cannot be read: {error}") from error


def _read_table(path: Path, ignored: Collection[str]) -> _Table:
    try:
        if _is_parquet(path):
            frame = pd.read_parquet(path)
        else:
            frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, EOFError, ImportError, ValueError) as error:
        raise DataUnexpected(f"{path}: cannot be read as a table: {error}") from error
    if not _is_parquet(path) and not isinstance(frame.index, pd.RangeIndex):
        raise DataUnexpected(f"{path}: rows have more cells than the header; mend the file")
    columns = {str(name): _cells(frame[name]) for name in frame.columns if name not in ignored}
    return _Table(path, len(frame), columns)


def _cells(column: pd.Series) -> list[object]:
    """Cells as plain values, None where empty."""
    cells: list[object] = column.tolist()
    return [None if pd.isna(cell) or cell == "" else cell for cell in cells]  # type: ignore[call-overload]  # a scalar


def _is_parquet(path: Path) -> bool:
    return path.suffix in (".parquet", ".pq")
