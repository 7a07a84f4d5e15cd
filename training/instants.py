"""Instants of training files: RFC 3339, milliseconds since the epoch, or Parquet's own timestamps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def read_instant_ms(cell: object) -> int:
    """Milliseconds since the epoch; without an offset it is UTC. Raises ValueError for anything else.

    What is finer than a millisecond is cut off.
    """
    if isinstance(cell, str) and cell.strip().isdecimal():
        return int(cell)
    if isinstance(cell, bool) or not isinstance(cell, (str, int, datetime)):
        raise ValueError("no instant; write 2027-01-31T08:00:00Z or milliseconds since 1970")
    if isinstance(cell, int):
        return cell
    try:
        instant = cell if isinstance(cell, datetime) else datetime.fromisoformat(cell.strip())
        return ((instant if instant.tzinfo else instant.replace(tzinfo=UTC)) - _EPOCH) // _MILLISECOND
    except (ValueError, OverflowError, TypeError) as error:
        raise ValueError("no instant; write 2027-01-31T08:00:00Z or milliseconds since 1970") from error


def written_instant(at_ms: int) -> str:
    """An instant for people where a calendar has it, else in milliseconds."""
    try:
        instant = _EPOCH + at_ms * _MILLISECOND
    except OverflowError:
        return f"{at_ms} ms"
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")
