"""What each running process of a data directory says of itself: one small file for each, gone when it ends.

It is all on one machine, as the embedded store is: processes find each other by number.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import msgspec


class OfProcess(Protocol):
    """What a process says."""

    @property
    def pid(self) -> int:
        """Its number."""
        ...


State = TypeVar("State", bound=OfProcess)


class ProcessStates(Generic[State]):
    """What the processes of one data directory say of one matter."""

    def __init__(self, folder: Path, state_type: type[State]) -> None:
        self._folder = folder
        self._decoder = msgspec.json.Decoder(state_type)

    def tell(self, state: State) -> None:
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

    def running(self) -> tuple[State, ...]:
        """The processes that still run, by number; what dead ones left behind is removed."""
        found = []
        for path in sorted(self._folder.glob("*.json")):
            try:
                state = self._decoder.decode(path.read_bytes())
            except (OSError, msgspec.MsgspecError):
                continue
            if runs(state.pid):
                found.append(state)
            else:
                self.forget(state.pid)
        return tuple(found)

    def _path(self, pid: int) -> Path:
        return self._folder / f"{pid}.json"


def runs(pid: int) -> bool:
    """Whether a process of that number runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's, but running
        return True
    return True
