"""What each running server process says of itself: which version it serves, has prepared, or refuses.

One small file for each process in `rulesets/servers`, gone when it ends. Whoever activates a version waits
until all of them have it ready, so that the switch itself takes no time and a version that one of them
cannot serve is never activated. It is all on one machine, as the embedded store is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from engine.processes import ProcessStates


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


class ServerStates(ProcessStates[ServerState]):
    """The server processes of one data directory."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, ServerState)
