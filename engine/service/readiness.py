"""Looks every few seconds whether the server can do its work, and tells who sends it calls.

A process that lives is not yet one that can answer. Without its log no decision is given, so calls are better
sent elsewhere; without the store decisions are still made, without consents, which is a worse answer but an
honest one: so decisions stay ready, and only what must write to the store does not.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Final, Self

import structlog

from engine.service.watching import Watch
from feature_store.errors import StoreError
from feature_store.store import OnlineStore

_log = structlog.get_logger("engine.service.readiness")

LOOK_S: Final = 2.0
"""Time between looks: soon enough for a balancer, whose own checks take as long; one costs about 0.1 ms."""
_NOBODY: Final = "arbiter:nobody"
"""Read from the store to see whether it answers; nobody has this id."""
_BLOCK: Final = bytes(4096)
"""Written to see whether a log can grow: a disk that is full takes an empty file."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a service cannot do without: the folder of a log, "" for none, and the store."""

    log: Path | None
    store: bool


class Readiness:
    """Tells `tell` of each service whether it is ready, whenever that changes, inside the `with` block."""

    def __init__(
        self,
        *,
        store: OnlineStore,
        needs: Mapping[str, Needs],
        tell: Callable[[str, bool], None],
        watch: Watch,
        every_s: float = LOOK_S,
    ) -> None:
        """`needs` by the name of the service. Services are taken as ready at first."""
        self._store = store
        self._needs = needs
        self._tell = tell
        self._watch = watch
        self._every_s = every_s
        self._ready = dict.fromkeys(needs, True)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="readiness", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def look(self) -> None:
        """Looks once, and tells what changed."""
        store = self._store_answers()
        writable = {log: is_writable(log) for log in {n.log for n in self._needs.values()} if log is not None}
        for service, needs in self._needs.items():
            log = needs.log is None or writable[needs.log]
            ready = log and (store or not needs.store)
            if ready != self._ready[service]:
                self._ready[service] = ready
                (_log.info if ready else _log.error)(
                    "service.ready" if ready else "service.not_ready",
                    service=service,
                    log_writable=log,
                    store_answers=store,
                )
                self._tell(service, ready)
            self._watch.ready(service, ready=ready)

    def _store_answers(self) -> bool:
        began = perf_counter()
        try:
            self._store.read(_NOBODY)
        except StoreError:
            self._watch.store_asked(None)
            return False
        self._watch.store_asked(perf_counter() - began)
        return True

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.look()
            except Exception:  # a server never stops looking because one look went wrong
                _log.exception("readiness.failed")
            self._stop.wait(self._every_s)


def is_writable(folder: Path) -> bool:
    """Whether a file in a folder can grow by a block. Readers of logs pass over files of other names."""
    probe = folder / f".probe-{os.getpid()}"
    try:
        with probe.open("wb", buffering=0) as file:
            return file.write(_BLOCK) == len(_BLOCK)
    except OSError:
        return False
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
