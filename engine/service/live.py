"""The snapshot that serves: swapped as a whole, and the last good one stays when a new one is bad."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from engine.core.snapshot import Snapshot
from engine.errors import SetupInvalid
from engine.service.watching import UNWATCHED, Watch

_log = structlog.get_logger("engine.service.live")


class LiveSnapshot:
    """Holds the current snapshot. A request takes it once and keeps it to the end."""

    def __init__(self, load: Callable[[], Snapshot], *, watch: Watch = UNWATCHED) -> None:
        """Loads the first snapshot. Raises SetupInvalid where there is none to serve."""
        self._load = load
        self._watch = watch
        self._current = load()
        watch.serving(self._current.versions.rules)
        self._swapping = threading.Lock()
        self.failed_reloads = 0
        self.last_error = ""  # of the last reload; empty where it went well

    @property
    def current(self) -> Snapshot:
        """The snapshot to serve now."""
        return self._current

    def reload(self) -> bool:
        """Loads anew and swaps; on failure the last good one goes on serving and False comes back."""
        with self._swapping:
            swapped = self._swap(self._load)
            self._watch.serving(self._current.versions.rules)
            self._watch.reloaded(well=swapped)
            return swapped

    def switch(self, change: Callable[[Snapshot], Snapshot]) -> bool:
        """Swaps for what is made of the current snapshot; on failure that goes on and False comes back."""
        with self._swapping:
            return self._swap(lambda: change(self._current))

    def _swap(self, load: Callable[[], Snapshot]) -> bool:
        before = self._current.versions
        try:
            self._current = load()
        except SetupInvalid as error:
            self.failed_reloads += 1
            self.last_error = str(error)
            _log.error("snapshot.reload.failed", cause=str(error), serving=before.rules)
            return False
        except Exception:  # whatever is wrong with new files, the old ones go on serving
            self.failed_reloads += 1
            self.last_error = "an unexpected error; the log has it"
            _log.exception("snapshot.reload.failed", serving=before.rules)
            return False
        self.last_error = ""
        _log.info("snapshot.reloaded", before=before.rules, rules=self._current.versions.rules)
        return True
