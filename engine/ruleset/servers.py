"""What each running server process says of itself: which version it serves, has prepared, or refuses.

One small file for each process in `rulesets/servers`, gone when it ends. Whoever activates a version waits
until all of them have it ready, so that the switch itself takes no time and a version that one of them
cannot serve is never activated. It is all on one machine, as the embedded store is.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerState:
    """One server process. `refused` holds versions it cannot serve, with the cause."""

    pid: int
    serving: str
    prepared: frozenset[str] = frozenset()
    refused: Mapping[str, str] = field(default_factory=dict)
    failed_reloads: int = 0
    last_error: str = ""
    shadow: str | None = None
    shadow_evaluated: int = 0
    shadow_differing: int = 0
    shadow_dropped: int = 0


class ServerStates:
    """The server processes of one data directory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def tell(self, state: ServerState) -> None:
        """Replaces what the process said before. Raises OSError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(state.pid)
        scratch = path.with_suffix(".part")  # of this process alone
        scratch.write_bytes(msgspec.json.encode(state))
        scratch.replace(path)

    def forget(self, pid: int) -> None:
        """Removes what a process said, when it ends."""
        with contextlib.suppress(OSError):
            self._path(pid).unlink()

    def running(self) -> tuple[ServerState, ...]:
        """The processes that still run, by number; what dead ones left behind is removed."""
        found = []
        for path in sorted(self._folder.glob("*.json")):
            try:
                state = msgspec.json.decode(path.read_bytes(), type=ServerState)
            except (OSError, msgspec.MsgspecError):
                continue
            if _runs(state.pid):
                found.append(state)
            else:
                self.forget(state.pid)
        return tuple(found)

    def _path(self, pid: int) -> Path:
        return self._folder / f"{pid}.json"


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's, but running
        return True
    return True
