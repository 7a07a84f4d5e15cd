"""Looks at customers whom time alone changes: events leave windows, signals age, absences come true.

Of all processes that share a store one does it at a time, by a lease that ends by itself when it dies.
"""

from __future__ import annotations

import threading
import uuid
from types import TracebackType
from typing import Final, Self

import structlog

from engine.errors import ArbiterError
from engine.service.decisions import Clock
from engine.service.events import Events
from feature_store.errors import StoreError
from feature_store.store import OnlineStore

INTERVAL_S: Final = 1.0
_LEASE: Final = "events:refresh"
_LEASE_MS: Final = 5_000
_ROUNDS: Final = 20
"""Looks in a row before the lease is asked for again."""

_log = structlog.get_logger("engine.service.refreshing")


class Refresher:
    """A thread that looks at customers that are due, from `start` to `close`, or as a `with` block."""

    def __init__(
        self, *, events: Events, store: OnlineStore, clock: Clock, interval_s: float = INTERVAL_S
    ) -> None:
        self._events = events
        self._store = store
        self._clock = clock
        self._interval_s = interval_s
        self._name = uuid.uuid4().bytes
        self._stop = threading.Event()
        self._failed = False
        self._thread = threading.Thread(target=self._run, name="refresher", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the thread after the customers in hand."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            try:
                self.look()
                self._failed = False
            except (ArbiterError, StoreError) as error:
                if not self._failed:
                    _log.error("events.refresh_failed", cause=str(error.__cause__ or error))
                self._failed = True
            except Exception:  # nobody else looks at these customers, so the thread must go on
                _log.exception("events.refresh_failed")

    def look(self) -> int:
        """Looks at all customers that are due, if no other process does; returns at how many."""
        holder = self._store.claim(_LEASE, self._name, now_ms=self._clock(), ttl_ms=_LEASE_MS)
        if holder not in (None, self._name):
            return 0
        looked = 0
        for _ in range(_ROUNDS):
            count = self._events.refresh()
            looked += count
            if not count or self._stop.is_set():
                break
        return looked
