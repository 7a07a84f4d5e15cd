"""Refuses rows for learning that hold what nobody knew at their instants.

A table to check is computed again from the history and compared, cell by cell: a value that was joined as of
another instant, most often that of the export, shows by being another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isclose, isnan
from typing import Final

from training.errors import DataUnexpected, Leak, LeakRefused
from training.instants import written_instant
from training.pointintime import History, Observation, Seen

TOLERANCE: Final = 1e-6
"""Relative difference that is rounding: tables made elsewhere pass through other decimals than float32."""

Stored = Sequence[float]


@dataclass(frozen=True, slots=True, eq=False)
class Offered:
    """A table made elsewhere: rows, stored values by feature, and what it says of each view.

    `times_ms` and `known_ms`, by view, are the time of the snapshot joined in and when that was known; None
    in a row without one.
    """

    rows: tuple[Observation, ...]
    values: Mapping[str, Stored]
    times_ms: Mapping[str, Sequence[int | None]]
    known_ms: Mapping[str, Sequence[int | None]]


def rows_seen(history: History, observations: Sequence[Observation]) -> list[Seen]:
    """The features of each row, as they were known at its instant. Raises LeakRefused for its labels."""
    _refuse(list(_of_labels(observations)))
    return history.seen(observations)


def check_labels(rows: Sequence[Observation]) -> None:
    """Raises LeakRefused for labels known, or telling of what happened, before the features end."""
    _refuse(list(_of_labels(rows)))


def check_table(history: History, offered: Offered) -> None:
    """Raises LeakRefused naming every value that was not known at the instant of its row."""
    if not offered.values:
        raise DataUnexpected(f"no column is a feature of schema {history.schema.name}; nothing to check")
    leaks = [*_of_labels(offered.rows), *_of_joins(offered)]
    _refuse([*leaks, *_of_values(history, offered)])


def _refuse(leaks: Sequence[Leak]) -> None:
    if leaks:
        raise LeakRefused(tuple(leaks))


def _of_labels(rows: Sequence[Observation]) -> Iterator[Leak]:
    """Labels that were known, or tell of what happened, before the features end; rows that stand twice."""
    for row in rows:
        known, begins = written_instant(row.label_known_ms), row.label_from_ms
        if row.label_known_ms <= row.at_ms:
            yield _leak(
                "label_known",
                row,
                f"the label was known at {known} already, so the features may tell it; take an earlier "
                "instant, or a label that comes out after it",
            )
        if begins is not None and begins < row.at_ms:
            yield _leak(
                "label_from",
                row,
                f"the label tells of what happened from {written_instant(begins)} on, and the features of "
                "what happened until the instant; begin the label's window at the instant",
            )
        if begins is not None and begins >= row.label_known_ms:
            yield _leak(
                "label_from",
                row,
                f"the label's window begins at {written_instant(begins)}, when the label was known "
                f"({known}); the label is known where its window ends",
            )
    counts = Counter((row.customer_id, row.at_ms) for row in rows)
    for row in {(r.customer_id, r.at_ms): r for r in rows}.values():
        if (times := counts[row.customer_id, row.at_ms]) > 1:
            yield _leak("at", row, f"stands {times} times, and may be learnt and tested on; keep one row")


def _of_joins(offered: Offered) -> Iterator[Leak]:
    """Snapshots that the table itself says it joined from after the instant."""
    for view, instants in offered.known_ms.items():
        for row, at_ms in zip(offered.rows, instants, strict=True):
            if at_ms is not None and at_ms >= row.at_ms:
                yield _leak(
                    f"{view}.known",
                    row,
                    f"was joined from what was known at {written_instant(at_ms)} only; join the latest that "
                    "was known before the instant",
                )
    for view, instants in offered.times_ms.items():
        for row, at_ms in zip(offered.rows, instants, strict=True):
            if at_ms is not None and at_ms > row.at_ms:
                yield _leak(
                    f"{view}.time",
                    row,
                    f"was joined from a snapshot of {written_instant(at_ms)}; join the latest that was known "
                    "before the instant",
                )


def _of_values(history: History, offered: Offered) -> Iterator[Leak]:
    """Values that are not those of the instant."""
    expected = history.seen(offered.rows)
    afterwards = _Afterwards(history)
    for name, column in offered.values.items():
        place = history.schema.index[name]
        for row, given, seen in zip(offered.rows, column, expected, strict=True):
            known = float(seen.values[place])
            if not _same(given, known):
                later = afterwards.value(row, place)
                yield _leak(name, row, _difference(history, place, given, known, later))


def _difference(history: History, place: int, given: float, known: float, later: float) -> str:
    """In words, with where the value comes from if it is that of the export."""
    decode = history.schema.feature[place].decode
    said, was = ("missing" if isnan(value) else repr(decode(value)) for value in (given, known))
    source = "; it is the value at the end of the history" if _same(given, later) else ""
    return (
        f"the table says {said}, what was known before the instant gives {was}{source}; build the column "
        "with `history build`, or drop it"
    )


class _Afterwards:
    """Values with everything known that ever was: what a table has that was joined at its export."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._seen: dict[str, Seen] = {}

    def value(self, row: Observation, place: int) -> float:
        """The value of one feature of a row's customer."""
        seen = self._seen.get(row.customer_id)
        if seen is None:
            at_ms = max(self._history.end_ms(row.customer_id), row.at_ms)
            seen = self._seen[row.customer_id] = self._history.seen([replace(row, at_ms=at_ms)])[0]
        return float(seen.values[place])


def _same(given: float, known: float) -> bool:
    return (isnan(given) and isnan(known)) or isclose(given, known, rel_tol=TOLERANCE)


def _leak(column: str, row: Observation, words: str) -> Leak:
    return Leak(column, row.customer_id, written_instant(row.at_ms), words)
