"""Reads a file of customers: every bad cell is reported at once, and nothing is half-loaded."""

from __future__ import annotations

import csv
import gzip
import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import numpy as np

from feature_store.errors import LoadError
from feature_store.schema import Feature, FeatureSchema, FeatureValue
from feature_store.state import FeatureVector

CUSTOMER_ID = "customer_id"
MAX_REPORTED = 20
"""Problems listed in one error: enough to see the pattern; the rest is counted."""

_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}


@dataclass(slots=True)
class _Problems:
    """What is wrong with one file, the first problems in words and all of them counted."""

    path: Path
    lines: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, line: int, column: str, value: str, why: str) -> None:
        self.count += 1
        if len(self.lines) < MAX_REPORTED:
            self.lines.append(f"{self.path}:{line}: column {column}: {value!r}: {why}")

    def raise_if_any(self) -> None:
        if self.count:
            more = self.count - len(self.lines)
            tail = [f"and {more} more"] if more else []
            raise LoadError("\n".join([*self.lines, *tail]))


def load_customers(
    path: Path, *, schema: FeatureSchema, as_of_ms: int
) -> tuple[tuple[str, FeatureVector], ...]:
    """The customers of a CSV file, plain or `.gz`, ready for `OnlineStore.put_customers`.

    The header is `customer_id` and every stored feature of the schema, in any order; those computed from
    events may be left out, and are absent until they are. An empty cell is absent; booleans are true, false,
    1 or 0. `as_of_ms` is the event time of every view of the file. Raises LoadError with file, line, column,
    value and cause, up to 20 at once.
    """
    problems = _Problems(path)
    with _opened(path) as file:
        reader = csv.reader(file, strict=True)
        header = next(reader, [])
        _check_header(header, schema, problems)
        problems.raise_if_any()
        loaded = _read_rows(reader, header, schema, as_of_ms, problems)
    problems.raise_if_any()
    return tuple(loaded.items())


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    """The file as text; whatever makes it unreadable, while open too, becomes a LoadError."""
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as file:
                yield file
        else:
            with path.open(encoding="utf-8-sig", newline="") as file:
                yield file
    except UnicodeDecodeError as error:
        raise LoadError(f"{path}: not UTF-8: {error}") from error
    except csv.Error as error:
        raise LoadError(f"{path}: not CSV: {error}") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise LoadError(f"{path}: not a whole gzip file: {error}") from error
    except OSError as error:
        raise LoadError(f"{path}: cannot be read: {error.strerror or error}") from error


def _check_header(header: Sequence[str], schema: FeatureSchema, problems: _Problems) -> None:
    requested = {feature.name for _, feature in schema.requested}
    computed = {feature.name for feature in schema.feature if feature.aggregate is not None}
    wanted = (CUSTOMER_ID, *(name for name in schema.index if name not in requested))
    for column in dict.fromkeys(header):
        if column in requested:
            problems.add(1, column, column, "comes with each request and is never stored; remove it")
        elif column not in wanted:
            problems.add(1, column, column, f"not a feature of schema {schema.name}; remove or rename it")
        elif header.count(column) > 1:
            problems.add(1, column, column, "stands in the header twice")
    for column in wanted:
        if column not in header and column not in computed:
            problems.add(
                1, column, "", "missing from the header; add the column, with empty cells if unknown"
            )


def _read_rows(
    reader: Iterator[list[str]],
    header: Sequence[str],
    schema: FeatureSchema,
    as_of_ms: int,
    problems: _Problems,
) -> dict[str, FeatureVector]:
    key = header.index(CUSTOMER_ID)
    places = [(header.index(f.name) if f.name in header else None, f) for f in schema.feature]
    times = _view_times(schema, header, as_of_ms)
    loaded: dict[str, FeatureVector] = {}
    for row in reader:
        line: int = reader.line_num  # type: ignore[attr-defined]  # the type of csv.reader has no public name
        if not row:
            continue
        if len(row) != len(header):
            problems.add(line, "-", ",".join(row)[:60], f"{len(row)} cells, the header has {len(header)}")
            continue
        if not row[key] or row[key] in loaded:
            problems.add(line, CUSTOMER_ID, row[key], "stands in an earlier line" if row[key] else "empty")
        stored = [
            math.nan if place is None else _stored(row[place], feature, line, problems)
            for place, feature in places
        ]
        loaded[row[key]] = FeatureVector(schema.digest, times, np.array(stored, dtype=np.float32))
    return loaded


def _view_times(schema: FeatureSchema, header: Sequence[str], as_of_ms: int) -> tuple[int, ...]:
    """How old each view is: 0 where the file holds nothing of it, stale until events compute it."""
    views = [[f.name for f in schema.feature if f.view == view.name] for view in schema.view]
    return tuple(0 if names and not set(names) & set(header) else as_of_ms for names in views)


def _stored(cell: str, feature: Feature, line: int, problems: _Problems) -> float:
    """The stored form of one cell; NaN where it is empty, or wrong and reported."""
    try:
        return feature.encode(parsed_cell(cell, feature))
    except ValueError as error:
        problems.add(line, feature.name, cell, str(error).removeprefix(f"{feature.name}: "))
        return math.nan


def parsed_cell(cell: str, feature: Feature) -> FeatureValue | None:
    """What a cell of a CSV says, None where it is empty. Raises ValueError saying why it does not fit."""
    text = cell.strip()
    if not text:
        return None
    if feature.type == "category":
        return text
    if feature.type == "bool":
        if text.lower() not in _BOOLEANS:
            raise ValueError("neither true, false, 1 nor 0")
        return _BOOLEANS[text.lower()]
    try:
        if "_" in text:  # Python reads 1_000, a CSV does not mean it
            raise ValueError(text)
        return int(text) if feature.type == "int" else float(text)
    except ValueError as error:
        wanted = "a whole number" if feature.type == "int" else "a number"
        raise ValueError(f"not {wanted}") from error
