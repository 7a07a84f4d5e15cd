"""Exports decisions and outcomes to Parquet, a folder for each day, masked by policy, each record once.

Files are named by the run that wrote them, and a run counts once its cursor is written: what one left that
was cut short goes when the next begins. Records that were erased from the log since go from the files too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from engine.decisionlog import columns
from engine.decisionlog.cursor import Cursor, alone, new_records, read_cursor, write_cursor
from engine.decisionlog.erasure import ErasureEntry, erasure_journal
from engine.decisionlog.errors import LogError
from engine.decisionlog.identifiers import decode_id
from engine.decisionlog.ledger import OutcomeEntry
from engine.decisionlog.masking import Mask, Row
from engine.decisionlog.record import decode_record
from engine.decisionlog.segment import sync_file, write_failure

DECISIONS: Final = "decisions"
OUTCOMES: Final = "outcomes"
_CURSOR: Final = "cursor.json"
_ROWS: Final = 500
"""Rows that become a row group: as Python objects one takes some 50 kB."""
_OPEN_DAYS: Final = 8
_outcome: Final = msgspec.json.Decoder(OutcomeEntry)

Told = Callable[[int], None]


class ExportMismatch(LogError):
    """A folder that an export cannot go on in; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Range:
    """Records of [since_ms, until_ms); None for no bound."""

    since_ms: int | None = None
    until_ms: int | None = None

    def holds(self, at_ms: int) -> bool:
        """Whether an instant lies in it."""
        return (self.since_ms or 0) <= at_ms and (self.until_ms is None or at_ms < self.until_ms)

    @property
    def is_all(self) -> bool:
        """Whether it has no bounds."""
        return self.since_ms is None and self.until_ms is None


@dataclass(slots=True)
class Exported:
    """What a run did."""

    decisions: int = 0
    outcomes: int = 0
    files: int = 0
    removed: int = 0
    """Rows that were taken out, as their records were erased."""


@dataclass(frozen=True, slots=True)
class _Log:
    """A log, and how its records become rows."""

    name: str
    directory: Path
    schema: pa.Schema
    row: Callable[[int, bytes], Row]
    time_of: str


def export(
    out: Path,
    *,
    decisions: Path,
    outcomes: Path,
    mask: Mask,
    within: Range = Range(),  # frozen
    told: Told = lambda _rows: None,
) -> Exported:
    """Exports what is new; of a range everything, into a folder of its own. `told` learns of rows written.

    Raises ExportMismatch for a folder that holds something else, LogCorrupt and LogUnavailable.
    """
    with alone(out):
        cursor = read_cursor(out / _CURSOR, Cursor)
        _check(out, cursor, mask, within)
        done = Exported()
        logs = (
            _Log(DECISIONS, decisions, columns.DECISIONS, _decision_row(mask), "decided_at"),
            _Log(OUTCOMES, outcomes, columns.OUTCOMES, _outcome_row(mask), "received_at"),
        )
        try:
            _sweep(out, cursor.runs)
            for log in logs:
                done.removed += _follow_erasures(out, log, cursor.erased_ms)
            erased_ms = max((e.received_at_ms for log in logs for e in _erasures(log)), default=0)
            done.decisions, done.outcomes = (_append(out, log, cursor, within, done, told) for log in logs)
        except OSError as error:
            raise write_failure(out, error) from error
        runs = cursor.runs + 1 if within.is_all else -1
        write_cursor(
            out / _CURSOR,
            Cursor(places=cursor.places, runs=runs, policy=mask.digest, erased_ms=erased_ms),
        )
        return done


def _check(out: Path, cursor: Cursor, mask: Mask, within: Range) -> None:
    if not within.is_all and cursor.policy:
        raise ExportMismatch(f"{out}: holds an export; name a new folder for a range of time")
    if cursor.runs < 0:
        raise ExportMismatch(f"{out}: holds a range of time, which nothing is added to; name another folder")
    if cursor.policy not in ("", mask.digest):
        raise ExportMismatch(f"{out}: was exported under another masking policy; name another folder")


def _decision_row(mask: Mask) -> Callable[[int, bytes], Row]:
    def row(_position: int, body: bytes) -> Row:
        made = mask.row(decode_record(body))
        return made | {"decided_at": made.pop("now_ms")}

    return row


def _outcome_row(mask: Mask) -> Callable[[int, bytes], Row]:
    def row(position: int, body: bytes) -> Row:
        made = mask.outcome(position, _outcome.decode(body))
        return made | {"at": made.pop("at_ms"), "received_at": made.pop("received_at_ms")}

    return row


def _parts(out: Path, log: str) -> Iterator[Path]:
    return (out / log).glob("day=*/part-*.parquet")


def _sweep(out: Path, runs: int) -> None:
    """Removes what a run left that was cut short."""
    for log in (DECISIONS, OUTCOMES):
        for path in list(_parts(out, log)):
            if int(path.stem.split("-")[1]) >= runs:
                path.unlink()
        for scratch in (out / log).glob("day=*/*.part"):
            scratch.unlink()


def _append(out: Path, log: _Log, cursor: Cursor, within: Range, done: Exported, told: Told) -> int:
    count, rows = 0, []
    with _Files(out / log.name, log, run=cursor.runs) as files:
        for record in new_records(log.directory, cursor.places.setdefault(log.name, {})):
            if record.body is None:
                continue
            row = log.row(record.segment_id << 40 | record.offset, record.body)
            if within.holds(row[log.time_of]):
                rows.append(row)
                count += 1
            if len(rows) >= _ROWS:
                files.write(rows)
                told(len(rows))
                rows = []
        files.write(rows)
        told(len(rows))
    done.files += files.count
    return count


@dataclass(slots=True)
class _Files:
    """The files of a run, one for each day, closed when there are many."""

    folder: Path
    log: _Log
    run: int
    count: int = 0
    _open: dict[str, tuple[Path, pq.ParquetWriter]] = field(default_factory=dict)

    def __enter__(self) -> _Files:
        return self

    def __exit__(self, *_error: object) -> None:
        self._close()

    def write(self, rows: list[Row]) -> None:
        """A row group for each day."""
        by_day: dict[str, list[Row]] = {}
        for row in rows:
            day = datetime.fromtimestamp(row[self.log.time_of] / 1000, UTC).date().isoformat()
            by_day.setdefault(day, []).append(row)
        for day, those in by_day.items():
            self._of(day).write_table(pa.Table.from_pylist(those, schema=self.log.schema))

    def _of(self, day: str) -> pq.ParquetWriter:
        if day not in self._open:
            if len(self._open) >= _OPEN_DAYS:
                self._close()
            folder = self.folder / f"day={day}"
            folder.mkdir(mode=0o750, parents=True, exist_ok=True)
            path = folder / f"part-{self.run:06}-{self.count:06}.parquet"
            self._open[day] = path, pq.ParquetWriter(path, self.log.schema, compression="zstd")
            self.count += 1
        return self._open[day][1]

    def _close(self) -> None:
        with ExitStack() as stack:
            for path, writer in self._open.values():
                stack.callback(sync_file, path)
                stack.callback(writer.close)
        self._open = {}


def _erasures(log: _Log) -> Iterator[ErasureEntry]:
    if log.directory.is_dir():
        yield from erasure_journal(log.directory).replay()


def _follow_erasures(out: Path, log: _Log, since_ms: int) -> int:
    """Takes rows out whose records were erased since the last run; how many."""
    gone = {
        e.segment_id << 40 | at for e in _erasures(log) if e.received_at_ms >= since_ms for at in e.offsets
    }
    if not gone:
        return 0
    return sum(_without(path, log, gone) for path in list(_parts(out, log.name)))


def _without(path: Path, log: _Log, gone: set[int]) -> int:
    name = "position" if log.name == OUTCOMES else "decision_id"
    keys = pq.ParquetFile(path).read(columns=[name]).column(name).to_pylist()
    kept = [_position(key) not in gone for key in keys]
    if all(kept):
        return 0
    scratch = path.with_suffix(".part")
    pq.write_table(pq.ParquetFile(path).read().filter(pa.array(kept)), scratch, compression="zstd")
    sync_file(scratch)
    scratch.replace(path)
    return len(kept) - sum(kept)


def _position(key: str | int) -> int:
    if isinstance(key, int):
        return key
    place = decode_id(key)
    return place.segment_id << 40 | place.offset
