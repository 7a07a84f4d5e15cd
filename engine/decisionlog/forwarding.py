"""Forwards decisions to a stream as they are logged: each at least once, whatever dies.

How far it has come is on disk, and moves on once the stream has what lies before; so after a kill the last
batch may come again, and nothing is left out.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, Protocol

import msgspec
import structlog

from engine.decisionlog.cursor import Bookmark, Cursor, NewRecord, alone
from engine.decisionlog.masking import Mask
from engine.decisionlog.record import decode_record

_CURSOR: Final = "cursor.json"
_PAUSES_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""Between attempts while the stream cannot be reached."""
_LOOK_S: Final = 0.2
"""Between looks for new decisions, and for room in the stream."""


class Outbound(Protocol):
    """A stream that decisions are added to."""

    def append(self, entries: Sequence[Mapping[bytes, bytes]], *, max_length: int | None = None) -> None:
        """Adds entries in their order; of more than `max_length` the oldest go."""
        ...

    def length(self) -> int:
        """Entries in the stream."""
        ...


@dataclass(frozen=True, slots=True)
class Pressure:
    """How much is sent. At `wait_above` entries in the stream it waits until readers have taken some out;
    beyond `max_length` the stream drops the oldest, read or not. None for no bound.
    """

    batch: int = 500
    max_length: int | None = None
    wait_above: int | None = None


@dataclass(slots=True)
class Forwarded:
    """What was done: decisions sent, and those left out because their customers were erased."""

    sent: int = 0
    erased: int = 0


class Forwarder:
    """Sends the decisions of a log from where the last one stopped. `away` are the stream's errors."""

    def __init__(
        self,
        log_directory: Path,
        stream: Outbound,
        *,
        folder: Path,
        mask: Mask,
        is_erased: Callable[[str], bool],
        away: type[Exception],
        pressure: Pressure,
        stop: threading.Event,
    ) -> None:
        self.done = Forwarded()
        self._log_directory = log_directory
        self._stream = stream
        self._folder = folder
        self._mask = mask
        self._is_erased = is_erased
        self._away = away
        self._pressure = pressure
        self._stop = stop
        self._log = structlog.get_logger("engine.decisionlog.forwarding")

    def run(self, *, once: bool) -> None:
        """Until `stop` is set; with `once` until it has sent what is logged now.

        Raises LogCorrupt rather than pass over a damaged record, and LogUnavailable where its place cannot
        be kept or another process forwards to the same stream.
        """
        with alone(self._folder):
            place = Bookmark(self._log_directory, self._folder / _CURSOR, Cursor)
            while not self._stop.is_set():
                sent = self._turn(place)
                if once and not sent:
                    return
                if not sent:
                    self._stop.wait(_LOOK_S)

    def _turn(self, place: Bookmark[Cursor]) -> bool:
        """Sends what is new, batch by batch; whether there was any."""
        records = place.new()
        found = False
        while not self._stop.is_set():
            batch = list(islice(records, self._pressure.batch))
            if not batch:
                return found
            found = True
            if not self._sent([entry for record in batch for entry in self._entries(record)]):
                return found
            place.passed(batch)
            place.keep()
        return found

    def _entries(self, record: NewRecord) -> list[dict[bytes, bytes]]:
        """The entry of a decision; none where its customer was erased."""
        made = None if record.body is None else decode_record(record.body)
        if made is None or self._is_erased(made.request.customer_id):
            self.done.erased += 1
            return []
        body = msgspec.json.encode(self._mask.row(made))
        return [{b"decision_id": made.decision_id.encode(), b"decision": body}]

    def _sent(self, entries: Sequence[Mapping[bytes, bytes]]) -> bool:
        """Sends entries, again and again while the stream is away; False where it was stopped before."""
        attempt = 0
        while not self._stop.is_set():
            try:
                if self._has_room():
                    self._stream.append(entries, max_length=self._pressure.max_length)
                    self.done.sent += len(entries)
                    if attempt:
                        self._log.info("forward.back", attempts=attempt)
                    return True
                self._stop.wait(_LOOK_S)
            except self._away as error:
                if attempt == 0:
                    self._log.error("forward.waiting", cause=str(error))
                self._stop.wait(_PAUSES_S[min(attempt, len(_PAUSES_S) - 1)])
                attempt += 1
        return False

    def _has_room(self) -> bool:
        bound = self._pressure.wait_above
        return bound is None or self._stream.length() < bound
