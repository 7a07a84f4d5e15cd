"""Which calls are let in while more come than can be answered in time; pure, so `now` comes in.

By Little's law whoever is let in waits for as long as those before take: their number times the time from one
answer to the next. That time is measured while calls wait, so the limit follows whatever makes answers slow:
a slow store, dear requests, the work of refusing. Each priority may fill a share of the limit, so one is
refused before the next higher is. Who waits also lets the more urgent pass who come meanwhile, so the share
is no more than what they leave of the answers.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Priority(IntEnum):
    """How urgent a call is; the lower is served first."""

    CALL_CENTRE = 0
    WEB = 1
    BATCH = 2


WEB_SHARE: Final = 0.8
BATCH_SHARE: Final = 0.4
"""How much of the limit may be taken at most for a call to be let in; the call centre may take all."""
BATCH_PATIENCE: Final = 2.0
"""How many times as long a batch may wait for those that pass it: nobody looks at it meanwhile."""
MOST: Final = 1_000
"""Calls in one process at a time, however quick they are; each holds a request in memory."""
_NEWEST: Final = 0.05
"""Weight of the newest time between answers: about twenty answers make up the measure."""
_NEWEST_SHARE: Final = 0.02
"""Weight of the newest answer in whose answers they are: of fifty, as each says only yes or no."""
_SURPRISE: Final = 8.0
"""A pause counts as this many usual ones at most: a stall is over when it is seen."""
_FIRST_PACE_S: Final = 0.001
"""Between two answers, until it is known: what a decision takes."""
_QUICKEST_S: Final = 1e-6


class AdmissionLimit:
    """How many calls a process takes at a time. Not safe for threads: its owner holds a lock.

    `wait_s` is how long the last one let in may wait. `servers` are the threads that answer: so many calls
    are let in always, as none of them waits; half as many of batches, half as many more of the call centre.
    """

    __slots__ = ("_answered_s", "_bounds", "_in_flight", "_pace_s", "_passing", "_servers", "_wait_s")

    def __init__(self, *, wait_s: float, servers: int) -> None:
        self._wait_s = wait_s
        self._servers = servers
        self._in_flight = 0
        self._pace_s = _FIRST_PACE_S
        self._passing = [0.0 for _ in Priority]  # share of answers that went to the more urgent first
        self._answered_s: float | None = None  # by a process with more to do, so the next comes at its pace
        self._bounds = self._shared()

    @property
    def in_flight(self) -> int:
        """Calls let in and not yet answered."""
        return self._in_flight

    @property
    def limit(self) -> int:
        """How many may be in flight."""
        return self._bounds[Priority.CALL_CENTRE]

    @property
    def pace_s(self) -> float:
        """Time between two answers while there is always more to do."""
        return self._pace_s

    def admits(self, priority: Priority) -> bool:
        """Whether a call may come in now."""
        return self._in_flight < self._bounds[priority]

    def enter(self) -> None:
        """A call came in."""
        self._in_flight += 1

    def leave(self, priority: Priority, now_s: float) -> None:
        """A call of that priority was answered, or given up."""
        busy = self._in_flight >= self._servers
        self._in_flight -= 1
        if busy and self._answered_s is not None:
            self._learn_pace(now_s - self._answered_s)
        self._learn_passing(priority, busy=busy)
        self._bounds = self._shared()
        self._answered_s = now_s if self._in_flight >= self._servers else None

    def _learn_pace(self, gap_s: float) -> None:
        self._pace_s += _NEWEST * (min(gap_s, _SURPRISE * self._pace_s) - self._pace_s)

    def _learn_passing(self, answered: Priority, *, busy: bool) -> None:
        """An answer while a thread was free passed nobody."""
        for priority in Priority:
            self._passing[priority] += _NEWEST_SHARE * (
                (busy and answered < priority) - self._passing[priority]
            )

    def _shared(self) -> tuple[int, int, int]:
        """The number of calls in flight up to which each priority is let in."""
        limit, servers = min(self._wait_s / max(self._pace_s, _QUICKEST_S), MOST), self._servers
        web = min(WEB_SHARE, 1.0 - self._passing[Priority.WEB])
        batch = min(BATCH_SHARE, BATCH_PATIENCE * (1.0 - self._passing[Priority.BATCH]))
        return (
            max(int(limit), servers + (servers + 1) // 2),
            max(int(limit * web), servers),
            max(int(limit * min(batch, web)), (servers + 1) // 2),
        )
