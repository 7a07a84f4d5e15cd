"""The latest records of a log, for who looks again and again: each look reads what was written since.

Work is bounded whatever the log holds: of what is new, at most so many bytes from the end of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from operator import itemgetter
from pathlib import Path
from typing import Final, Generic, TypeVar

from engine.decisionlog.contents import opened
from engine.decisionlog.frame import HEADER_BYTES, find_frame
from engine.decisionlog.reading import Damage, Segment, find_segment, stored_frames
from engine.decisionlog.segment import segment_ids

LOOKED_AT_BYTES: Final = 32 << 20
"""Of a log at one look: some 3,000 decisions of the demo company, read in a quarter of a second."""
_SYNC_BYTES: Final = 1 << 20
"""Within which the next whole record is looked for: no decision of the demo company is longer than 40 kB."""

Item = TypeVar("Item")
Read = Callable[[bytes], tuple[int, Item]]
"""When a record was made, and what is kept of it. Raises LogError where it cannot be read."""


class Latest(Generic[Item]):
    """What is kept of the last so many records of a directory. Safe for threads."""

    def __init__(
        self, directory: Path, read: Read[Item], *, keep: int, max_bytes: int = LOOKED_AT_BYTES
    ) -> None:
        self._directory = directory
        self._read = read
        self._keep = keep
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._places: dict[int, int] = {}
        self._items: list[tuple[int, Item]] = []

    def look(self) -> tuple[Item, ...]:
        """What is kept of the latest records as they are now, the latest first. Raises LogError."""
        with self._lock:
            found = [self._read(body) for body in self._new()]
            if found:
                self._items = sorted([*self._items, *found], key=itemgetter(0))[-self._keep :]
            return tuple(item for _, item in reversed(self._items))

    def forget(self) -> None:
        """Begins anew with the next look, as after records were erased."""
        with self._lock:
            self._places.clear()
            self._items.clear()

    def _new(self) -> Iterator[bytes]:
        """Records since the last look, of the newest segments first, as far as the bytes reach."""
        left = self._max_bytes
        for segment in newest_segments(self._directory):
            place = self._places.get(segment.segment_id, HEADER_BYTES)
            with opened(segment.path) as contents:
                size = contents.size
            if size <= place:
                continue
            start = max(place, size - left)
            left -= size - start
            yield from bodies(segment, start) if start < size else ()
            self._places[segment.segment_id] = size


def newest_segments(directory: Path) -> list[Segment]:
    """The segments of a directory, that which began last first; none where there is no directory."""
    if not directory.is_dir():
        return []
    found = [find_segment(directory, segment_id) for segment_id in segment_ids(directory)]
    return sorted(found, key=lambda segment: (segment.created_ms or 0, segment.segment_id), reverse=True)


def bodies(segment: Segment, start: int) -> Iterator[bytes]:
    """Records from the first one at or behind an offset, which need not be the beginning of any.

    Damaged ones are passed over: whoever has to know of them asks `verify`.
    """
    with opened(segment.path) as contents:
        ahead = contents.at(start, min(contents.size - start, _SYNC_BYTES))
    begins = find_frame(ahead, segment_id=segment.segment_id, base=start)
    if begins is None:
        return
    for frame in stored_frames(segment, start=start + begins, report=_pass_over):
        if frame.body is not None:
            yield frame.body


def _pass_over(_damage: Damage) -> None:
    """Nothing: what is shown of the latest records proves nothing."""
