"""Loads tables of customers into a store: in bulk, whole views at a time, on from where a load was killed.

What is loaded replaces the views a file holds and leaves the others, whichever versions of the schema meet
(versions.py). How far a load has come is marked in a file after each block was kept, so the mark is never
ahead of the store; rows loaded twice after a kill come out the same. Of several rows of one customer the last
stands.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
import numpy as np

from feature_store import layout
from feature_store.errors import LoadError
from feature_store.schema import FeatureSchema
from feature_store.store import OnlineStore
from feature_store.tables import BadCell, Block, CustomerTable
from feature_store.versions import Rows, Values, read_kept, written

MAX_REPORTED = 20
"""Bad cells named in one error: enough to see the pattern; the rest is counted."""

WINDOW_ROWS = 1 << 18
"""Customers that are put in order together, some 50 MB of them; a killed load repeats as many at most."""

_PART_ROWS = 8_192
_REJECT_COLUMNS = ("file", "line", "column", "value", "why")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a load is: customers kept, rows left out, and bytes of the file behind.

    `erased` customers are left out as they were erased, and are in neither of the others.
    """

    customers: int
    rejected: int
    done_bytes: int
    erased: int = 0


NOTHING_DONE: Final = Progress(0, 0, 0)


class LoadMark(msgspec.Struct):
    """Where a load of one file stands. `rejects_bytes` is the length of the file of rejects at that point."""

    load: str
    rows: int = 0
    customers: int = 0
    rejected: int = 0
    rejects_bytes: int = 0
    erased: int = 0


ErasedNow = Callable[[], Callable[[str], object] | None]
"""Who is erased now: true for their ids, None where that is nobody; the same object while nothing changes."""


def nobody_erased() -> None:
    """Where nobody ever was."""


class _SchemaNotKnown(Exception):
    """A stored vector is of a schema that was kept after the load began."""


def check_table(table: CustomerTable, seen: Callable[[int], None]) -> None:
    """Reads a table to its end. Raises LoadError naming its bad cells, 20 at most.

    `seen` gets the bytes of the file that were read so far.
    """
    named: list[BadCell] = []
    count = 0
    for block in table.blocks():
        count += len(block.bad)
        named += block.bad[: MAX_REPORTED - len(named)]
        seen(block.done_bytes)
    if count:
        more = [f"and {count - len(named)} more"] if count > len(named) else []
        raise LoadError("\n".join([*map(str, named), *more]))


def load_table(
    store: OnlineStore,
    table: CustomerTable,
    *,
    as_of_ms: int,
    mark_file: Path,
    rejects: Path | None = None,
    window_rows: int = WINDOW_ROWS,
    erased: ErasedNow = nobody_erased,
) -> Iterator[Progress]:
    """Loads a table bit by bit, from where an earlier load of the same was killed; its mark goes at the end.

    Who is `erased` does not come back, also where that happens meanwhile.
    Bad cells keep their rows out and are written to `rejects`. Raises LoadError where there are any and no
    such file, or where the file cannot be read; StoreError where the store fails. `store` must keep the
    schema already (`put_schema`).
    """
    mark = _read_mark(mark_file, _identity_of(table, as_of_ms))
    merging = _Merging(store, table.schema, table.views, as_of_ms, erased)
    done_bytes = 0
    with _opened_rejects(rejects, mark) as rejected:
        for window in _windows(table.blocks(skip_rows=mark.rows), window_rows):
            if window.bad and rejects is None:
                raise LoadError("\n".join(map(str, window.bad[:MAX_REPORTED])))
            per_row = (window.done_bytes - done_bytes) / max(len(window.customer_ids), 1)
            rows = left_out = 0
            for rows, left_out in merging.kept(window):
                if rows < len(window.customer_ids):
                    done = done_bytes + int(per_row * rows)
                    yield Progress(
                        mark.customers + rows - left_out, mark.rejected, done, mark.erased + left_out
                    )
            _write_rejects(rejected, window.bad)
            mark.rows, mark.customers = window.rows, mark.customers + rows - left_out
            mark.erased += left_out
            mark.rejected += len({cell.line for cell in window.bad})
            mark.rejects_bytes, done_bytes = rejected.tell(), window.done_bytes
            _write_mark(mark_file, mark)
            yield Progress(mark.customers, mark.rejected, done_bytes, mark.erased)
    mark_file.unlink(missing_ok=True)


def _windows(blocks: Iterable[Block], window_rows: int) -> Iterator[Block]:
    """Blocks put together, each in order of the customers: a store on disk then writes every page once."""
    waiting: list[Block] = []
    for block in blocks:
        waiting.append(block)
        if sum(len(held.customer_ids) for held in waiting) >= window_rows:
            yield _in_order(waiting)
            waiting = []
    if waiting:
        yield _in_order(waiting)


def _in_order(blocks: Sequence[Block]) -> Block:
    """One block of several, by customer; of several rows of one the last."""
    ids = [customer_id for block in blocks for customer_id in block.customer_ids]
    rows = {customer_id: row for row, customer_id in enumerate(ids)}
    ordered = sorted(rows)
    values = np.concatenate([block.values for block in blocks])[[rows[name] for name in ordered]]
    bad = [cell for block in blocks for cell in block.bad]
    return Block(ordered, values, bad, blocks[-1].rows, blocks[-1].done_bytes)


class _Merging:
    """Puts blocks into the store over what it holds."""

    def __init__(
        self,
        store: OnlineStore,
        schema: FeatureSchema,
        views: Sequence[int],
        as_of_ms: int,
        erased: ErasedNow,
    ) -> None:
        self._store = store
        self._schema = schema
        self._views = views
        self._as_of_ms = as_of_ms
        self._erased = erased
        self._schemas = self._kept_schemas()
        stored = [place for place, view in enumerate(schema.view) if view.kind != "request"]
        self._replaced = {schema.digest} if set(views) >= set(stored) else set()

    def kept(self, window: Block) -> Iterator[tuple[int, int]]:
        """Keeps a window part by part; how many rows are behind, and how many of them were left out."""
        left_out = 0
        for start in range(0, len(window.customer_ids), _PART_ROWS):
            part = slice(start, start + _PART_ROWS)
            left_out += self._keep_but_erased(window.customer_ids[part], window.values[part])
            yield min(part.stop, len(window.customer_ids)), left_out

    def _keep_but_erased(self, customer_ids: Sequence[str], values: Values) -> int:
        """Keeps who is not erased, and takes back who was erased meanwhile; how many are not kept."""
        before, welcome = self._erased(), customer_ids
        if before is not None:
            rows = [row for row, customer_id in enumerate(customer_ids) if not before(customer_id)]
            if len(rows) < len(customer_ids):
                welcome, values = [customer_ids[row] for row in rows], values[rows]
        if welcome:
            self._keep(welcome, values)
        after = self._erased()
        late = [] if after is None or after is before else [name for name in welcome if after(name)]
        for customer_id in late:
            self._store.erase(customer_id)
        return len(customer_ids) - len(welcome) + len(late)

    def _keep(self, customer_ids: Sequence[str], values: Values) -> None:
        """Keeps some customers; a schema that was put meanwhile is learnt."""
        while True:
            try:
                self._merge(customer_ids, values)
            except _SchemaNotKnown as unknown:
                digest = str(unknown)
                self._schemas = self._kept_schemas()
                if digest not in self._schemas:
                    self._replaced.add(digest)  # nobody can read such a vector
            else:
                return

    def _merge(self, customer_ids: Sequence[str], values: Values) -> None:
        times = np.full((len(values), len(self._schema.view)), self._as_of_ms, dtype=np.int64)
        offered = Rows(values, times)

        def merge(places: Sequence[int], stored: Sequence[bytes | None]) -> list[bytes]:
            merged: list[bytes] = [b""] * len(places)
            for digest, members in self._by_schema(stored).items():
                rows = [places[i] for i in members]
                ids = [customer_ids[row] for row in rows]
                part = Rows(offered.values[rows], offered.times_ms[rows])
                former = [stored[i] or b"" for i in members]
                for i, packed in zip(members, self._packed(digest, ids, former, part), strict=True):
                    merged[i] = packed
            return merged

        self._store.merge_features(customer_ids, merge)

    def _by_schema(self, stored: Sequence[bytes | None]) -> Mapping[str, list[int]]:
        """Places of the stored values by the schema they are of, "" for those that are replaced unseen."""
        places: dict[str, list[int]] = {}
        for i, value in enumerate(stored):
            digest = "" if value is None else layout.features_schema(value)
            places.setdefault("" if digest in self._replaced else digest, []).append(i)
        return places

    def _packed(self, digest: str, ids: Sequence[str], stored: Sequence[bytes], offered: Rows) -> list[bytes]:
        """The values to keep for customers whose stored ones are of one schema."""
        if digest and digest not in self._schemas:
            raise _SchemaNotKnown(digest)
        old = self._schemas.get(digest)
        before = offered
        if old is not None:
            shape = {"views": len(old.view), "features": len(old.feature)}
            times, values = layout.decode_feature_rows(ids, stored, **shape)
            before = Rows(values, times)
        rows, schema = written(before, old, offered, self._schema, self._views)
        return layout.encode_feature_rows(ids, schema.digest, rows.times_ms, rows.values)

    def _kept_schemas(self) -> Mapping[str, FeatureSchema]:
        kept = {digest: read_kept(digest, text) for digest, text in self._store.schemas().items()}
        known = {digest: schema for digest, schema in kept.items() if schema is not None}
        return known | {self._schema.digest: self._schema}


def _identity_of(table: CustomerTable, as_of_ms: int) -> str:
    """What must be the same for a load to go on: the file as it lies there, and how it is read."""
    stat = table.path.stat()
    columns = [
        table.columns.customer_id,
        sorted(table.columns.features.items()),
        sorted(table.columns.ignored),
    ]
    read = [str(table.path.resolve()), stat.st_size, stat.st_mtime_ns, table.schema.digest, as_of_ms, columns]
    return hashlib.sha256(msgspec.json.encode(read)).hexdigest()


def mark_name(table: CustomerTable, place: str) -> str:
    """The name of the mark of a load of this file into a store at `place`."""
    return hashlib.sha256(f"{place}\n{table.path.resolve()}".encode()).hexdigest()[:32] + ".json"


def _read_mark(mark_file: Path, load: str) -> LoadMark:
    """The mark of an earlier load of the same; a fresh one where there is none, or the file has changed."""
    try:
        mark = msgspec.json.decode(mark_file.read_bytes(), type=LoadMark)
    except (FileNotFoundError, msgspec.MsgspecError):
        return LoadMark(load)
    return mark if mark.load == load else LoadMark(load)


def _write_mark(mark_file: Path, mark: LoadMark) -> None:
    """Replaces the mark as a whole, so that a kill leaves the former or the new one."""
    mark_file.parent.mkdir(parents=True, exist_ok=True)
    fresh = mark_file.with_suffix(".new")
    fresh.write_bytes(msgspec.json.encode(mark))
    fresh.replace(mark_file)


def _opened_rejects(rejects: Path | None, mark: LoadMark) -> BinaryIO:
    """The file of rejects, cut to where the mark left it; in memory where none is wanted."""
    if rejects is None:
        return io.BytesIO()
    try:
        file = rejects.open("r+b" if mark.rows and rejects.exists() else "wb")
    except OSError as error:
        raise LoadError(f"{rejects}: cannot be written: {error.strerror}") from error
    file.truncate(mark.rejects_bytes)
    file.seek(0, os.SEEK_END)
    if not file.tell():
        file.write(_csv_line(_REJECT_COLUMNS))
    return file


def _write_rejects(file: BinaryIO, bad: Iterable[BadCell]) -> None:
    for cell in bad:
        file.write(_csv_line((str(cell.path), str(cell.line), cell.column, cell.value, cell.why)))
    file.flush()


def _csv_line(cells: Sequence[str]) -> bytes:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue().encode()
