"""Lets calls in until the server drains, then turns them away in words that clients retry on.

grpc's own stop cancels the calls that wait in its core, and clients do not repeat what was CANCELLED. So a
drain first closes this gate: whoever still comes gets UNAVAILABLE, and the stop finds nobody waiting.
"""

from __future__ import annotations

import threading
import time

from engine.errors import ServerDraining

QUIET_S = 0.02
"""Time without a new call after which nobody is waiting in the core any more."""
SETTLE_S = 0.05
"""Longest time to wait for that, as among many clients there is always one that calls."""
PUSHBACK_MS = 75
"""When who is turned away may come again: the connection is closed by then, and another one is made."""


class CallGate:
    """Open until `close`. Safe for threads."""

    def __init__(self) -> None:
        self._closed = False
        self._arrival = threading.Condition()

    def enter(self) -> None:
        """Lets a call pass. Raises ServerDraining once closed."""
        if not self._closed:
            return
        with self._arrival:
            self._arrival.notify_all()
        raise ServerDraining("the server is stopping; send the call again, to another one")

    def close(self, timeout_s: float) -> None:
        """Turns new calls away, and returns when no more come or the time is up."""
        end_s = time.monotonic() + min(timeout_s, SETTLE_S)
        with self._arrival:
            self._closed = True
            while (left_s := end_s - time.monotonic()) > 0:
                if not self._arrival.wait(min(QUIET_S, left_s)):
                    return
