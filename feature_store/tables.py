"""Reads tables of customers, CSV or Parquet, a block at a time, by column and not by cell.

A cell that does not fit is found by its column failing as a whole; only then its cells are looked at one by
one. Cells of a CSV are those of `loading.py`; Parquet's own types are taken where they say the same.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from feature_store.errors import LoadError
from feature_store.keeping import MAX_ID_BYTES
from feature_store.loading import CUSTOMER_ID, parsed_cell
from feature_store.schema import MAX_EXACT_INT, Feature, FeatureSchema

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK_BYTES = 1 << 21
BLOCK_ROWS = 8_192
Column = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class BadCell:
    """One cell that cannot be loaded. `line` is that of the file, or the row of a Parquet file, from 1."""

    path: Path
    line: int
    column: str
    value: str
    why: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: column {self.column}: {self.value!r}: {self.why}"


@dataclass(frozen=True, slots=True)
class ColumnMap:
    """Which column of a file holds what, where names differ; and columns to pass over."""

    customer_id: str = CUSTOMER_ID
    features: Mapping[str, str] = field(default_factory=dict)
    ignored: frozenset[str] = frozenset()

    def column(self, feature: str) -> str:
        """The column of a feature."""
        return self.features.get(feature, feature)


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Some rows of a file: those without a bad cell, and the bad cells of the others.

    `values` has shape (customers, features); features without a column are NaN. `rows` is how many rows of
    the file lie behind, this block included, `done_bytes` how much of it was read.
    """

    customer_ids: list[str]
    values: npt.NDArray[np.float32]
    bad: list[BadCell]
    rows: int
    done_bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class CustomerTable:
    """A file of customers whose columns fit a schema. `views` are those it holds, by place."""

    path: Path
    schema: FeatureSchema
    columns: ColumnMap
    views: tuple[int, ...]
    size_bytes: int

    def blocks(self, *, skip_rows: int = 0) -> Iterator[Block]:
        """The rows after the first `skip_rows`. Raises LoadError where the file cannot be read on."""
        source = table_source(self.path)
        held = {self.schema.view[place].name for place in self.views}
        wanted = [f for f in self.schema.feature if f.view in held]
        yield from _blocks(self, source, wanted, skip_rows)


def open_table(path: Path, *, schema: FeatureSchema, columns: ColumnMap) -> CustomerTable:
    """Looks at the header. Raises LoadError with every column that does not fit."""
    require_arrow(path)
    header = table_source(path).header()
    views, problems = _views_of(header, schema, columns)
    if problems:
        raise LoadError("\n".join(f"{path}: {problem}" for problem in problems))
    return CustomerTable(path, schema, columns, views, path.stat().st_size)


def require_arrow(path: Path) -> None:
    """Raises LoadError where pyarrow, which is an extra, is not installed."""
    try:
        import pyarrow  # noqa: F401  # asked for only
    except ImportError as error:
        raise LoadError(
            f"{path}: needs pyarrow, which is not installed; run: pip install 'arbiter-nba[bulk]'"
        ) from error


def table_source(path: Path) -> TableSource:
    """The columns of any table: what loads features, and what trains on them, read cells alike."""
    return _ParquetSource(path) if _is_parquet(path) else _CsvSource(path)


def _is_parquet(path: Path) -> bool:
    return path.suffix in (".parquet", ".pq")


def _views_of(
    header: Sequence[str], schema: FeatureSchema, columns: ColumnMap
) -> tuple[tuple[int, ...], list[str]]:
    """The views a file holds, each whole, and what is wrong with its columns."""
    usable = set(header) - columns.ignored
    problems = [*_wrong_columns(header, usable, schema, columns)]
    views = []
    for place, view in enumerate(schema.view):
        members = [f.name for f in schema.feature if f.view == view.name]
        missing = [columns.column(name) for name in members if columns.column(name) not in usable]
        if view.kind == "request":
            stored = sorted({columns.column(name) for name in members} & usable)
            problems += [
                f"column {c}: comes with each request and is never stored; --ignore it" for c in stored
            ]
        elif not missing and members:
            views.append(place)
        elif len(missing) < len(members):
            problems.append(_part_of_a_view(view.name, missing))
    if not views and not problems:
        problems.append(f"holds no view of schema {schema.name}")
    return tuple(views), problems


def _wrong_columns(
    header: Sequence[str], usable: set[str], schema: FeatureSchema, columns: ColumnMap
) -> Iterator[str]:
    for name in sorted({name for name in header if header.count(name) > 1}):
        yield f"column {name}: stands in the header twice"
    if columns.customer_id not in header:
        yield f"column {columns.customer_id}: missing; it names the customer (--id names another)"
    for name in sorted(columns.features.keys() - schema.index.keys()):
        yield f"--map {name}: not a feature of schema {schema.name}"
    known = {columns.column(name) for name in schema.index} | {columns.customer_id}
    for name in [name for name in dict.fromkeys(header) if name in usable - known]:
        why = f"not a feature of schema {schema.name}; name its feature with --map, or --ignore it"
        yield f"column {name}: {why}"


def _part_of_a_view(view: str, missing: Sequence[str]) -> str:
    return (
        f"view {view}: missing {', '.join(missing)}; the features of a view have one age and are loaded "
        "together: add the columns, with empty cells if unknown, or --ignore the others"
    )


class _ParquetSource:
    """Row groups of a Parquet file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def header(self) -> list[str]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return [str(name) for name in pq.read_schema(self.path).names]
        except (pa.ArrowException, OSError) as error:
            raise LoadError(f"{self.path}: not a Parquet file: {error}") from error

    def batches(self, columns: Sequence[str]) -> Iterator[tuple[pa.RecordBatch, int]]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        size, done = self.path.stat().st_size, 0
        try:
            with pq.ParquetFile(self.path) as file:
                total = file.metadata.num_rows
                for batch in file.iter_batches(BLOCK_ROWS, columns=list(columns), use_threads=False):
                    done += batch.num_rows
                    yield batch, size * done // max(total, 1)
        except (pa.ArrowException, OSError) as error:
            raise LoadError(f"{self.path}: cannot be read on after row {done}: {error}") from error

    def lines(self) -> _Lines:
        return _Lines()


class _CsvSource:
    """Blocks of a CSV file, plain or `.gz`; every cell is text."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._misshapen = False

    def header(self) -> list[str]:
        try:
            with _opened_text(self.path) as file:
                return next(csv.reader(file), [])
        except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
            raise LoadError(f"{self.path}: cannot be read as CSV: {error}") from error

    def batches(self, columns: Sequence[str]) -> Iterator[tuple[pa.RecordBatch, int]]:
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        try:
            with pa.OSFile(str(self.path)) as raw:
                stream = pa.CompressedInputStream(raw, "gzip") if self.path.suffix == ".gz" else raw
                reader = arrow_csv.open_csv(
                    stream,
                    read_options=arrow_csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
                    parse_options=arrow_csv.ParseOptions(
                        newlines_in_values=True, invalid_row_handler=self._note_misshapen
                    ),
                    convert_options=arrow_csv.ConvertOptions(
                        column_types=dict.fromkeys(columns, pa.string()),
                        include_columns=list(columns),
                        null_values=[""],
                        strings_can_be_null=True,
                    ),
                )
                for batch in reader:
                    yield batch, raw.tell()
        except (pa.ArrowException, OSError) as error:
            raise LoadError(f"{self.path}: cannot be read as CSV: {error}") from error

    def _note_misshapen(self, _row: object) -> str:
        self._misshapen = True
        return "skip"

    def lines(self) -> _Lines:
        return _CsvLines(self)

    @property
    def has_misshapen_rows(self) -> bool:
        """Whether rows were passed over so far for having too few or too many cells."""
        return self._misshapen


TableSource = _ParquetSource | _CsvSource


class _Lines:
    """Where the rows of a file are, for messages: in Parquet the row itself."""

    def of(self, row: int) -> int:
        """The line of a row; both count from 1. Rows are asked for in order."""
        return row

    def misshapen(self, until_row: int | None) -> list[BadCell]:
        """Rows with too few or too many cells before a row, or before the end, that were not given before."""
        del until_row
        return []


class _CsvLines(_Lines):
    """Finds lines by reading the file again beside Arrow, as far as is asked: quoted cells span lines."""

    def __init__(self, source: _CsvSource) -> None:
        self._source = source
        self._rows: Iterator[tuple[int, list[str]]] | None = None
        self._row = self._line = 0
        self._width = 0
        self._found: list[BadCell] = []

    def of(self, row: int) -> int:
        while self._row < row and self._advance():
            pass
        return self._line

    def misshapen(self, until_row: int | None) -> list[BadCell]:
        if self._source.has_misshapen_rows:
            while (until_row is None or self._row < until_row) and self._advance():
                pass
        found, self._found = self._found, []
        return found

    def _advance(self) -> bool:
        """Goes to the next row that Arrow gives; False at the end."""
        if self._rows is None:
            self._rows = _numbered_rows(self._source.path)
            self._width = len(next(self._rows)[1])
        for line, cells in self._rows:
            if len(cells) == self._width:
                self._row, self._line = self._row + 1, line
                return True
            why = f"{len(cells)} cells, the header has {self._width}"
            self._found.append(BadCell(self._source.path, line, "-", ",".join(cells)[:60], why))
        return False


def _numbered_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not empty with the line they begin on."""
    with _opened_text(path) as file:
        reader, begins = csv.reader(file), 1
        for cells in reader:
            if cells:
                yield begins, cells
            begins = reader.line_num + 1


def _opened_text(path: Path) -> Any:  # noqa: ANN401  # a text file, plain or compressed
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _blocks(
    table: CustomerTable, source: _ParquetSource | _CsvSource, wanted: Sequence[Feature], skip_rows: int
) -> Iterator[Block]:
    names = [table.columns.customer_id, *(table.columns.column(f.name) for f in wanted)]
    lines, before = source.lines(), 0
    for batch, done_bytes in source.batches(names):
        skipped = min(max(skip_rows - before, 0), batch.num_rows)
        after = before + batch.num_rows
        if skipped:
            batch = batch.slice(skipped)  # the part that is still to be done
            lines.misshapen(before + skipped)
        if batch.num_rows:
            cells = _Cells(table, lines, before + skipped)
            yield _block(cells, batch, wanted, rows=after, done_bytes=done_bytes)
        before = after
    rest = lines.misshapen(None)
    if rest:
        nothing = np.empty((0, len(table.schema.feature)), dtype=np.float32)
        yield Block([], nothing, rest, before, table.size_bytes)


@dataclass(slots=True)
class _Cells:
    """The bad cells of one block as they are found. `rows_before` is how many rows lie before the block."""

    table: CustomerTable
    lines: _Lines
    rows_before: int
    found: list[tuple[int, str, str, str]] = field(default_factory=list)

    def add(self, row: int, column: str, value: object, why: str) -> None:
        """Notes a cell by its row in the block, from 0."""
        self.found.append((row, column, "" if value is None else str(value), why))

    def bad(self, rows: int) -> list[BadCell]:
        """All of them, in order of the file."""
        path = self.table.path
        cells = [
            BadCell(path, self.lines.of(self.rows_before + row + 1), column, value, why)
            for row, column, value, why in sorted(self.found, key=lambda cell: cell[0])
        ]
        return sorted([*cells, *self.lines.misshapen(self.rows_before + rows)], key=lambda cell: cell.line)


def _block(
    cells: _Cells, batch: pa.RecordBatch, wanted: Sequence[Feature], *, rows: int, done_bytes: int
) -> Block:
    schema, columns = cells.table.schema, cells.table.columns
    customer_ids = _customer_ids(cells, batch.column(0), columns.customer_id)
    values = np.full((batch.num_rows, len(schema.feature)), np.nan, dtype=np.float32)
    for feature, column in zip(wanted, batch.columns[1:], strict=True):
        name = columns.column(feature.name)
        values[:, schema.index[feature.name]] = _stored(
            column, feature, lambda *bad, n=name: cells.add(bad[0], n, *bad[1:])
        )
    bad = cells.bad(batch.num_rows)
    keep = _last_of_each(customer_ids, {row for row, *_ in cells.found})
    if len(keep) < len(customer_ids):
        customer_ids, values = [customer_ids[i] for i in keep], values[keep]
    return Block(customer_ids, values, bad, rows, done_bytes)


def _customer_ids(cells: _Cells, column: pa.Array, name: str) -> list[str]:
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = column if pa.types.is_string(column.type) else pc.cast(column, pa.string())
    lengths = pc.fill_null(pc.binary_length(texts), 0).to_numpy(zero_copy_only=False)
    for row in np.flatnonzero((lengths == 0) | (lengths > MAX_ID_BYTES)).tolist():
        why = "empty" if lengths[row] == 0 else f"{lengths[row]} bytes; at most {MAX_ID_BYTES} are kept"
        cells.add(row, name, texts[row].as_py(), why)
    ids: list[str] = texts.to_pylist()
    return ids


def _last_of_each(customer_ids: Sequence[str], bad_rows: set[int]) -> list[int]:
    """Rows to load: without bad cells, and of several for one customer the last."""
    last = {customer_id: i for i, customer_id in enumerate(customer_ids) if i not in bad_rows}
    return list(last.values()) if len(last) < len(customer_ids) else list(range(len(customer_ids)))


Report = Callable[[int, object, str], None]


def stored_column(column: pa.Array, feature: Feature, report: Report) -> Column:
    """As a load stores a column, for those who train on one; `report` takes row, value and why."""
    return _stored(column, feature, report)


def _stored(column: pa.Array, feature: Feature, report: Report) -> Column:
    """The stored form of a column; cells that do not fit are reported and NaN."""
    import pyarrow as pa

    try:
        stored = _CASTS[feature.type](column, feature)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError):
        return _cell_by_cell(column, feature, report)
    return stored


def _cell_by_cell(column: pa.Array, feature: Feature, report: Report) -> Column:
    stored = np.full(len(column), np.nan, dtype=np.float32)
    for row, value in enumerate(column.to_pylist()):
        try:
            if isinstance(value, str):
                stored[row] = feature.encode(parsed_cell(value, feature))
            elif value is not None:
                stored[row] = feature.encode(_as_declared(value, feature))
        except ValueError as error:
            report(row, value, str(error).removeprefix(f"{feature.name}: "))
    return stored


def _as_declared(value: Any, feature: Feature) -> Any:  # noqa: ANN401  # whatever Parquet holds
    """A value of Parquet where its type differs from the declared one and says the same."""
    if feature.type == "int" and isinstance(value, float) and value.is_integer():
        return int(value)
    if feature.type == "bool" and value in (0, 1):
        return bool(value)
    return value


def _doubles(column: pa.Array, feature: Feature) -> Column:
    del feature
    import pyarrow as pa

    if pa.types.is_boolean(column.type):
        raise ValueError("booleans are looked at one by one")
    exact = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):
        stored: Column = exact.astype(np.float32)
    if int(np.isfinite(stored).sum()) != len(column) - column.null_count:
        raise ValueError("a number is not finite, or beyond float32")
    return stored


def _wholes(column: pa.Array, feature: Feature) -> Column:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_string(column.type) and pc.any(pc.match_substring_regex(column, "[xX]")).as_py():
        raise ValueError("Arrow reads hexadecimal numbers, Arbiter does not")
    if pa.types.is_boolean(column.type):
        raise ValueError("booleans are looked at one by one")
    whole = column.cast(pa.int64())
    ends = pc.min_max(whole).as_py()
    if ends["min"] is not None and max(-ends["min"], ends["max"]) > MAX_EXACT_INT:
        raise ValueError("a number is beyond the exact range")
    return _doubles(whole, feature)


def _booleans(column: pa.Array, feature: Feature) -> Column:
    del feature
    import pyarrow as pa

    if not (pa.types.is_string(column.type) or pa.types.is_boolean(column.type)):
        raise ValueError("numbers are looked at one by one")
    return column.cast(pa.bool_()).cast(pa.float32()).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def _codes(column: pa.Array, feature: Feature) -> Column:
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = column.cast(pa.string())
    codes = pc.index_in(texts, value_set=pa.array(feature.categories, pa.string()))
    if codes.null_count != texts.null_count:
        raise ValueError("a category is not declared")
    return codes.cast(pa.float32()).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


_CASTS: Mapping[str, Callable[[Any, Feature], Column]] = {
    "double": _doubles,
    "int": _wholes,
    "bool": _booleans,
    "category": _codes,
}
