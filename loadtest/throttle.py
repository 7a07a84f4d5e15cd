"""A client that holds calls back by itself while a server refuses them (adaptive throttling).

To refuse a call costs a server about as much as an empty call does. A client that sees most of its calls
refused gains nothing by sending all of them: it sends a little more than are answered, and learns as soon
as more are. After Beyer et al., Site Reliability Engineering, chapter 21. Each priority has a throttle of its
own, as a server refuses them apart.
"""

from __future__ import annotations

import math
import random
import threading
from typing import Final

SENT_PER_ANSWER: Final = 2.0
"""Calls sent for each that is answered. Those above are how a client learns that there is room again; with
much fewer, one whose server refuses a third of its calls for other reasons would fall silent."""
MEMORY_S: Final = 1.0
"""How long what was seen counts: longer than an answer takes, and a wave is forgotten soon after it."""


class Throttle:
    """Safe for threads."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._asked = 0.0
        self._answered = 0.0
        self._seen_s: float | None = None
        self._counting = threading.Lock()

    def admits(self, now_s: float) -> bool:
        """Whether the next call is to be sent."""
        with self._counting:
            self._forget(now_s)
            held_back = (self._asked - SENT_PER_ANSWER * self._answered) / (self._asked + 1)
            self._asked += 1
            return self._rng.random() >= held_back

    def answered(self, now_s: float) -> None:
        """A call was not refused."""
        with self._counting:
            self._forget(now_s)
            self._answered += 1

    def _forget(self, now_s: float) -> None:
        if self._seen_s is not None:
            kept = math.exp(-max(0.0, now_s - self._seen_s) / MEMORY_S)
            self._asked *= kept
            self._answered *= kept
        self._seen_s = now_s
