"""What a process that sends webhooks leaves on the disk: how far it has come, and that it runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from engine.decisionlog.cursor import Cursor, read_cursor
from engine.decisionlog.errors import LogError
from engine.monitor.webhooks import Sending
from engine.outgoing.answers import Result
from engine.processes import ProcessStates

CURSOR: Final = "cursor.json"


class Waiting(msgspec.Struct, frozen=True, array_like=True):
    """A message that is still to be sent; `failed_first_ms` is 0 before the first attempt."""

    position: int
    attempts: int
    failed_first_ms: int


class Progress(Cursor, kw_only=True):
    """How far a sender has come, and what came of it so far: attempts by their result, and messages.

    `done_ms` is when the receiver last took one.
    """

    waiting: list[Waiting] = msgspec.field(default_factory=list)
    attempts: dict[str, int] = msgspec.field(default_factory=dict)
    dead: int = 0
    erased: int = 0
    done_ms: int = 0

    @property
    def failing_since_ms(self) -> int:
        """When the message that waits longest failed first; 0 where none has failed."""
        return min((each.failed_first_ms for each in self.waiting if each.failed_first_ms), default=0)


@dataclass(frozen=True, slots=True)
class SendingProcess:
    """A process that sends."""

    pid: int


def sending_processes(folder: Path) -> ProcessStates[SendingProcess]:
    """Those that send from a folder."""
    return ProcessStates(folder / "processes", SendingProcess)


def look(folder: Path) -> Sending | None:
    """What Prometheus is told; None where nothing was ever sent, and where it cannot be read."""
    try:
        if not (folder / CURSOR).is_file():
            return None
        progress = read_cursor(folder / CURSOR, Progress)
    except (LogError, OSError):  # the sender says so itself; other metrics must go on
        return None
    return Sending(
        senders=len(sending_processes(folder).running()),
        attempts={result.value: progress.attempts.get(result, 0) for result in Result},
        dead=progress.dead,
        waiting=len(progress.waiting),
        waiting_since_ms=progress.failing_since_ms,
        done_ms=progress.done_ms,
    )
