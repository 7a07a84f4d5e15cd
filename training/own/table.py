"""A company's own table: read as a whole, with everything that makes it no table told at once."""

from __future__ import annotations

import codecs
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from feature_store.errors import LoadError
from feature_store.tables import require_arrow, table_source
from training.errors import DataRefused

if TYPE_CHECKING:
    import pyarrow as pa

MAX_COLUMNS: Final = 1_000
"""More is an export of everything; each would be looked at for leaks, and told to people."""
_UTF16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_SEPARATORS: Final = (";", "\t", "|")
_CHUNK: Final = 1 << 20


@dataclass(frozen=True, eq=False)
class SourceTable:
    """All rows of a file by column; cells of a CSV are text, and null where empty."""

    path: Path
    columns: pa.Table
    digest: str

    @property
    def names(self) -> list[str]:
        """The columns, in order."""
        return [str(name) for name in self.columns.column_names]

    @property
    def rows(self) -> int:
        """How many."""
        return int(self.columns.num_rows)

    def column(self, name: str) -> pa.Array:
        """One column in one piece."""
        import pyarrow as pa

        held = self.columns.column(name).combine_chunks()
        return pa.concat_arrays(held.chunks) if isinstance(held, pa.ChunkedArray) else held

    def counts(self, name: str) -> Counter[str | None]:
        """How often each text of a column stands there, as `texts` gives it; None for cells without."""
        found: Counter[str | None] = Counter()
        for entry in self.column(name).value_counts().to_pylist():
            cell = entry["values"]
            found[(None if cell is None else str(cell).strip()) or None] += entry["counts"]
        return found

    @lru_cache(maxsize=16)  # noqa: B019  # a run reads one table, and ends with it
    def texts(self, name: str) -> tuple[str | None, ...]:
        """The cells of a column as stripped text; None where they hold nothing."""
        cells = (None if cell is None else str(cell).strip() for cell in self.column(name).to_pylist())
        return tuple(cell or None for cell in cells)

    def lines(self, rows: Sequence[int]) -> list[int]:
        """Where rows, counted from 0 and ascending, stand in the file; both count from 1 for people."""
        lines = table_source(self.path).lines()
        return [lines.of(row + 1) for row in rows]


def read_table(path: Path) -> SourceTable:
    """The whole table. Raises DataRefused with everything that is wrong with its shape."""
    import pyarrow as pa

    try:
        require_arrow(path)
        _refuse(path, _not_a_file(path))
        source = table_source(path)
        header = source.header()
        _refuse(path, _wrong_header(path, header))
        batches = [batch for batch, _ in source.batches(header)]
        misshapen = source.lines().misshapen(None) if _is_csv(path) and source.has_misshapen_rows else []  # type: ignore[union-attr]  # of a CSV
    except LoadError as error:
        words = str(error).removeprefix(f"{path}: ")
        advice = "; save it as UTF-8" if "utf" in words.lower() else ""
        raise DataRefused(path.name, (words + advice,)) from error
    _refuse(path, [f"line {cell.line}: {cell.why}" for cell in misshapen])
    if not sum(batch.num_rows for batch in batches):
        _refuse(path, ["has a header and no rows"])
    return SourceTable(path, pa.Table.from_batches(batches), _digest(path))


def _refuse(path: Path, problems: Sequence[str]) -> None:
    if problems:
        raise DataRefused(path.name, tuple(problems))


def _is_csv(path: Path) -> bool:
    return path.suffix not in (".parquet", ".pq")


def _not_a_file(path: Path) -> list[str]:
    if not path.is_file():
        return ["no such file; `data.path` is relative to the plan"]
    with path.open("rb") as file:
        begins = file.read(4)
    if not begins:
        return ["is empty"]
    if begins.startswith(_UTF16):
        return ["begins with the byte order mark of UTF-16; save it as UTF-8"]
    return []


def _wrong_header(path: Path, header: Sequence[str]) -> list[str]:
    if not any(name.strip() for name in header):
        return ["has no header"]
    if len(header) > MAX_COLUMNS:
        return [f"{len(header):,} columns; at most {MAX_COLUMNS:,} are read: keep those that may matter"]
    if len(header) == 1 and _is_csv(path):
        for separator in _SEPARATORS:
            if separator in header[0]:
                return [f"is separated by {separator!r}; save it with commas"]
    blank = [place for place, name in enumerate(header, 1) if not name.strip()]
    problems = [f"column {place} has no name" for place in blank]
    times = Counter(header)
    problems += [
        f"column {name} stands in the header {n} times" for name, n in times.items() if n > 1 and name
    ]
    alike: dict[str, list[str]] = {}
    for name in times:
        alike.setdefault(name.strip().casefold(), []).append(name)
    problems += [
        f"columns {' and '.join(map(repr, names))} differ in case or blanks only"
        for folded, names in alike.items()
        if folded and len(names) > 1
    ]
    return problems


def _digest(path: Path) -> str:
    content = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            content.update(chunk)
    return "sha256:" + content.hexdigest()
