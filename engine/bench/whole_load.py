"""Load on a server: as many calls as it takes, or calls at instants that were drawn before.

`replies` is a closed loop: so many calls are always under way, and a reply is followed by the next request.
`latencies` is an open loop: calls are sent when they are due, whatever became of those before, and count from
that instant. One thread does both with bytes made before, and tells how late it was itself.
"""

from __future__ import annotations

import gc
import itertools
import select
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.bench.whole_wire import CallLost, Connection
from loadtest.schedule import Instants, arrivals

_NS: Final = 1_000_000_000
_GIVE_UP_S: Final = 30.0
"""How long the last replies of a round may take."""
Connect = Callable[[], Connection]
Milliseconds = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Load:
    """Whom calls are sent to: how one connects, over how many connections, and the requests, in turns."""

    connect: Connect
    connections: int
    requests: Sequence[bytes]


@dataclass(frozen=True, slots=True, eq=False)
class Latencies:
    """Of each call, milliseconds from when it was due to its reply, and to when it left; some replies."""

    took_ms: Milliseconds
    lag_ms: Milliseconds
    samples: Sequence[bytes]
    refused: int

    @property
    def count(self) -> int:
        """How many were answered."""
        return len(self.took_ms) - self.refused


@dataclass(frozen=True, slots=True)
class Throughput:
    """Replies that came in so many seconds, and some of them; refused calls are none."""

    count: int
    seconds: float
    samples: Sequence[bytes]
    refused: int

    @property
    def per_s(self) -> float:
        """Replies a second."""
        return self.count / self.seconds


@contextmanager
def _opened(load: Load) -> Iterator[list[Connection]]:
    """The connections; nothing is collected while they are used."""
    with ExitStack() as stack:
        connections = [stack.enter_context(closing(load.connect())) for _ in range(load.connections)]
        gc.collect()
        gc.disable()
        try:
            yield connections
        finally:
            gc.enable()


def replies(load: Load, *, under_way: int, seconds: float) -> Throughput:
    """What a server answers while `under_way` calls are always waited for. Raises CallLost."""
    requests = itertools.cycle(load.requests)
    with _opened(load) as connections:
        for connection, _ in zip(itertools.cycle(connections), range(under_way), strict=False):
            connection.send(next(requests))
        started_s = time.perf_counter()
        count = _answered(connections, requests, seconds)
        took_s = time.perf_counter() - started_s
        refused = _refused(connections)
        return Throughput(count - refused, took_s, _samples(connections), refused)


def _answered(connections: Sequence[Connection], requests: Iterator[bytes], seconds: float) -> int:
    """How many calls ended in so many seconds; each is followed by a request."""
    count, end_s = 0, time.perf_counter() + seconds
    while time.perf_counter() < end_s:
        for connection in _readable(connections, _GIVE_UP_S):
            for _ in connection.ended():
                count += 1
                connection.send(next(requests))
    return count


def _samples(connections: Sequence[Connection]) -> list[bytes]:
    return [sample for connection in connections for sample in connection.samples]


def _refused(connections: Sequence[Connection]) -> int:
    return sum(connection.refused for connection in connections)


def _readable(connections: Sequence[Connection], seconds: float) -> list[Connection]:
    ready, _, _ = select.select(connections, (), (), seconds)
    if not ready and seconds == _GIVE_UP_S:
        raise CallLost(f"a server that is measured said nothing for {seconds:.0f} s")
    return ready


def latencies(load: Load, *, rate: float, seconds: float, seed: int) -> Latencies:
    """Times of calls that arrive at random, `rate` a second. Raises CallLost."""
    rng = np.random.default_rng(seed)
    with _opened(load) as connections:
        return _Round(connections, itertools.cycle(load.requests)).run(
            arrivals("poisson", rate=rate, seconds=seconds, rng=rng)
        )


class _Round:
    """One open loop: what is due, what waits for a connection, and what is under way."""

    def __init__(self, connections: Sequence[Connection], requests: Iterator[bytes]) -> None:
        self._connections = connections
        self._requests = requests
        self._free = deque(c for _ in range(connections[0].most) for c in connections)
        self._under_way: dict[tuple[int, int], int] = {}

    def run(self, instants: Instants) -> Latencies:
        """Sends a call at each instant and waits for all replies."""
        due = instants.tolist()
        took_ns, lag_ns = np.zeros(len(due), dtype=np.int64), np.zeros(len(due), dtype=np.int64)
        sent = ended = 0
        start_ns = time.monotonic_ns()
        while ended < len(due):
            now_ns = time.monotonic_ns() - start_ns
            while sent < len(due) and due[sent] <= now_ns and self._free:
                lag_ns[sent] = time.monotonic_ns() - start_ns - due[sent]
                self._send(sent)
                sent += 1
            for place in self._ended(self._until(due, sent, start_ns)):
                took_ns[place] = time.monotonic_ns() - start_ns - due[place]
                ended += 1
        return Latencies(
            took_ns / 1e6, lag_ns / 1e6, _samples(self._connections), _refused(self._connections)
        )

    def _until(self, due: Sequence[int], sent: int, start_ns: int) -> float:
        """Seconds until the next call is due; long where only replies matter."""
        if sent == len(due) or not self._free:
            return _GIVE_UP_S
        return max(0.0, (due[sent] - (time.monotonic_ns() - start_ns)) / _NS)

    def _send(self, place: int) -> None:
        connection = self._free.popleft()
        number = connection.send(next(self._requests))
        self._under_way[connection.fileno(), number] = place

    def _ended(self, seconds: float) -> Iterator[int]:
        """Places of the calls whose replies have come after this time at most."""
        for connection in _readable(self._connections, seconds):
            for number in connection.ended():
                self._free.append(connection)
                yield self._under_way.pop((connection.fileno(), number))
