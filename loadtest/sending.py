"""One process that sends calls at their instants and notes how each ended.

A call counts from the instant it was to be sent, not from when the sender got to it: what a slow server or
a busy sender keeps waiting has waited. The sender never waits for a reply.
"""

from __future__ import annotations

import gc
import multiprocessing
import random
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Final, Self

import grpc
import numpy as np
import numpy.typing as npt

from engine._pb.arbiter.v1 import decision_service_pb2
from engine.client import Access
from loadtest.errors import TargetUnreachable
from loadtest.schedule import Instants
from loadtest.throttle import Throttle

METHOD: Final = "/arbiter.v1.DecisionService/Decide"
UNSENT: Final = -1
"""In place of a status code: too many calls were under way already, so this one was never made."""
HELD_BACK: Final = -2
"""In place of a status code: the throttle of the client did not send it."""
PRIORITY_KEY: Final = "arbiter-priority"
MOST_UNDER_WAY: Final = 4096
"""Calls of one process that may wait for replies; more would measure the sender's memory."""
_READY_S: Final = 30.0
_SWITCH_S: Final = 0.000_2
"""How long one thread may keep the others from noting that a reply came."""
_AFTER_S: Final = 1.0
"""Beyond the deadline, in which the library tells of every call."""
OPEN: Final = Access()
"""Of a server that asks for nothing."""

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Calls:
    """What a process is to send: `requests[i]` at `start_ns + instants[i]` of the monotonic clock.

    `priorities` say how urgent each is, none where empty. A `throttled` client holds calls back while the
    server refuses them.
    """

    start_ns: int
    instants: Instants
    requests: Sequence[bytes]
    deadline_s: float
    priorities: Sequence[str] = ()
    throttled: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Sent:
    """How n calls ended, in the order of their instants.

    instants: ns since the start. lag: ns from there until it was sent. took: ns from there until the reply,
    or until it was given up. codes: gRPC status codes, UNSENT or HELD_BACK. degraded: whether the reply said
    so. cpu_s: processor time that this took the process.
    """

    instants: Instants
    lag: Instants
    took: Instants
    codes: npt.NDArray[np.int16]
    degraded: npt.NDArray[np.bool_]
    cpu_s: float


class Sender:
    """Sends through channels of its own, call after call in turns. Not safe for threads."""

    def __init__(self, target: str, *, channels: int, access: Access = OPEN) -> None:
        """Connects. Raises TargetUnreachable."""
        self._channels = [_channel(target, access.credentials()) for _ in range(channels)]
        self._shown = access.metadata()
        for channel in self._channels:
            try:
                grpc.channel_ready_future(channel).result(_READY_S)
            except grpc.FutureTimeoutError as error:
                self.close()
                raise TargetUnreachable(target, f"no connection within {_READY_S:.0f} s") from error
        self._decide = [
            channel.unary_unary(
                METHOD,
                request_serializer=_as_it_is,
                response_deserializer=decision_service_pb2.DecideResponse.FromString,
            )
            for channel in self._channels
        ]

    def send(self, calls: Calls) -> Sent:
        """Makes the calls and waits until each has ended."""
        noted = _Noted(calls, self._shown)
        started_cpu_s = time.process_time()
        decide = self._decide
        for place, (instant, request) in enumerate(zip(calls.instants.tolist(), calls.requests, strict=True)):
            due = calls.start_ns + instant
            while (left := due - time.monotonic_ns()) > 0:
                time.sleep(left / 1e9)
            if noted.admits(place):
                future = decide[place % len(decide)].future(
                    request, timeout=calls.deadline_s, metadata=noted.metadata(place)
                )
                future.add_done_callback(partial(noted.ended, place))
        noted.wait(calls.deadline_s + _AFTER_S)
        return noted.sent(time.process_time() - started_cpu_s)

    def close(self) -> None:
        """Closes the channels."""
        for channel in self._channels:
            channel.close()


class _Noted:
    """Notes of calls under way: arrays written by the library's threads, each place once."""

    def __init__(self, calls: Calls, shown: Metadata) -> None:
        count = len(calls.instants)
        self._calls = calls
        self._lag = np.zeros(count, dtype=np.int64)
        self._took = np.full(count, round(calls.deadline_s * 1e9), dtype=np.int64)
        self._codes = np.full(count, UNSENT, dtype=np.int16)
        self._degraded = np.zeros(count, dtype=np.bool_)
        self._shown = shown
        self._metadata = {name: ((PRIORITY_KEY, name), *shown) for name in set(calls.priorities)}
        self._throttles = self._made() if calls.throttled else {}
        self._under_way = 0
        self._changed = threading.Condition()

    def admits(self, place: int) -> bool:
        """Whether the call may be sent; notes how late it is."""
        self._lag[place] = self._since(place)
        if self._throttles and not self._throttle(place).admits(time.monotonic()):
            self._codes[place] = HELD_BACK
            return False
        with self._changed:
            if self._under_way >= MOST_UNDER_WAY:
                return False
            self._under_way += 1
            return True

    def _made(self) -> dict[str, Throttle]:
        """A throttle for each priority."""
        names = sorted(set(self._calls.priorities)) or [""]
        return {name: Throttle(random.Random(name)) for name in names}  # noqa: S311  # no secret

    def _throttle(self, place: int) -> Throttle:
        return self._throttles[self._calls.priorities[place] if self._calls.priorities else ""]

    def metadata(self, place: int) -> Metadata:
        """What is sent beside the call."""
        return self._metadata[self._calls.priorities[place]] if self._metadata else self._shown

    def ended(self, place: int, future: grpc.Future[decision_service_pb2.DecideResponse]) -> None:
        """Notes a reply or a failure."""
        self._took[place] = self._since(place)
        error = future.exception()
        if error is None:
            self._codes[place] = grpc.StatusCode.OK.value[0]
            self._degraded[place] = bool(future.result().degraded_by)
        else:
            code = error.code() if isinstance(error, grpc.RpcError) else grpc.StatusCode.UNKNOWN
            self._codes[place] = code.value[0]
        if self._throttles and self._codes[place] != grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]:
            self._throttle(place).answered(time.monotonic())
        with self._changed:
            self._under_way -= 1
            if not self._under_way:
                self._changed.notify_all()

    def wait(self, seconds: float) -> None:
        """Until no call is under way; those that never end keep the deadline as their time."""
        with self._changed:
            self._changed.wait_for(lambda: not self._under_way, seconds)

    def sent(self, cpu_s: float) -> Sent:
        """All that was noted."""
        return Sent(self._calls.instants, self._lag, self._took, self._codes, self._degraded, cpu_s)

    def _since(self, place: int) -> int:
        return time.monotonic_ns() - self._calls.start_ns - int(self._calls.instants[place])


class Senders:
    """Sender processes, started by spawn: each has a lock of the interpreter of its own."""

    def __init__(
        self,
        target: str,
        *,
        processes: int,
        channels: int,
        cores: Sequence[int] = (),
        access: Access = OPEN,
    ) -> None:
        """`channels` are of each process. Processes stay on `cores`, all where none is given."""
        spawning = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes = []
        for _ in range(processes):
            ours, theirs = spawning.Pipe()
            process = spawning.Process(
                target=_work, args=(theirs, target, channels, tuple(cores), access), daemon=True
            )
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def __enter__(self) -> Self:
        """Raises TargetUnreachable."""
        for cause in self._answers():
            if isinstance(cause, Exception):
                self.__exit__(None, None, None)
                raise cause
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pipe in self._pipes:
            pipe.close()  # which ends the process
        for process in self._processes:
            process.join(_AFTER_S)
            if process.is_alive():
                process.kill()
                process.join()

    def __len__(self) -> int:
        return len(self._processes)

    def send(self, calls: Callable[[int], Calls]) -> list[Sent]:
        """Has each process send `calls(number)`, all together."""
        for number, pipe in enumerate(self._pipes):
            pipe.send(calls(number))
        found: list[Sent] = []
        for answer in self._answers():
            if isinstance(answer, Exception):
                raise answer
            assert isinstance(answer, Sent)
            found.append(answer)
        return found

    def _answers(self) -> list[object]:
        return [pipe.recv() for pipe in self._pipes]


def _work(pipe: Connection, target: str, channels: int, cores: Sequence[int], access: Access) -> None:
    """The life of a sender process: it ends when the other end of the pipe is closed."""
    import os

    if cores:
        os.sched_setaffinity(0, set(cores))
    sys.setswitchinterval(_SWITCH_S)
    try:
        sender = Sender(target, channels=channels, access=access)
    except TargetUnreachable as error:
        pipe.send(error)
        return
    gc.collect()
    gc.freeze()
    gc.disable()  # a pause here would look like one of the server
    pipe.send(None)
    try:
        while True:
            pipe.send(sender.send(pipe.recv()))
            gc.collect()
    except EOFError:
        sender.close()


def _channel(target: str, credentials: grpc.ChannelCredentials | None) -> grpc.Channel:
    options = [("grpc.use_local_subchannel_pool", 1)]  # else equal channels share one connection
    if credentials is None:
        return grpc.insecure_channel(target, options=options)
    return grpc.secure_channel(target, credentials, options=options)


def _as_it_is(request: bytes) -> bytes:
    return request
