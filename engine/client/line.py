"""What both clients share: options of channels, which one is next, deadlines, and when to ask again."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

import grpc

from engine.client.access import Access
from engine.client.calls import Call
from engine.client.errors import CallFailed, Overloaded
from engine.client.methods import ALL, Method
from engine.client.service_config import SERVICE_CONFIG

TIMEOUT_S: Final = 1.0
"""Far above what a healthy server needs; a page that cannot wait says so by call."""
CHANNELS: Final = 4
"""Connections: workers that share a port each take whole ones, and one alone would keep one worker busy."""
MAX_CHANNELS: Final = 64

_OPTIONS: Final = (
    ("grpc.use_local_subchannel_pool", 1),  # else equal channels share one connection
    ("grpc.enable_retries", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2_000),  # for a connection to be made, whatever the name says
    ("grpc.max_reconnect_backoff_ms", 5_000),  # a server that comes back is found in seconds
    ("grpc.keepalive_time_ms", 20_000),  # while calls wait: a machine that is gone answers no TCP
    ("grpc.keepalive_timeout_ms", 5_000),
)

Channel = TypeVar("Channel")


class Line(Generic[Channel]):
    """Several channels to one target, taken in turns, and what goes with every call. Safe for threads."""

    _open: Callable[..., Channel]

    def __init__(
        self,
        target: str,
        *,
        access: Access | None = None,
        timeout_s: float = TIMEOUT_S,
        channels: int = CHANNELS,
        wait_when_overloaded: bool = False,
        service_config: str = SERVICE_CONFIG,
    ) -> None:
        """`target` is HOST:PORT or another gRPC name, e.g. dns:///arbiter:50051; connects when first called.

        `timeout_s` is for calls that name none. `wait_when_overloaded` asks again when an overloaded server
        says, within the deadline; else Overloaded is raised at once. Raises ValueError where the token of
        `access` would leave this machine in the clear.
        """
        if not 1 <= channels <= MAX_CHANNELS:
            raise ValueError(f"channels is 1 to {MAX_CHANNELS}, found {channels}")
        given = access or Access()
        given.refuse_to_leak(target)
        options = (*_OPTIONS, ("grpc.service_config", service_config))
        credentials = given.credentials()
        self._channels = tuple(self._open(target, credentials, options) for _ in range(channels))
        self._metadata = given.metadata()
        self._calls = tuple(_calls(channel) for channel in self._channels)
        self._turn = itertools.count()
        self._timeout_s = timeout_s
        self._waits = wait_when_overloaded

    def _next(self, call: Call[Any, Any], timeout_s: float) -> Any:  # noqa: ANN401  # an answer, or one to await
        """Makes a call on the channel whose turn it is."""
        method = self._calls[next(self._turn) % len(self._calls)][call.method]
        return method(
            call.request, timeout=timeout_s, metadata=self._metadata, wait_for_ready=call.wait_for_ready
        )

    def _until_s(self, call: Call[Any, Any]) -> float:
        """When the answer must be there, by the monotonic clock."""
        return time.monotonic() + (self._timeout_s if call.timeout_s is None else call.timeout_s)

    def _pause_s(self, failed: CallFailed, until_s: float) -> float | None:
        """How long to wait before asking an overloaded server again, where told to and there is time."""
        wait_s = failed.retry_after_s if self._waits and isinstance(failed, Overloaded) else None
        return wait_s if wait_s is not None and wait_s < left_s(until_s) else None


def left_s(until_s: float) -> float:
    """Time until then; not negative, which gRPC would take for no deadline."""
    return max(0.0, until_s - time.monotonic())


def _calls(channel: Any) -> Mapping[Method[Any, Any], Any]:  # noqa: ANN401  # of threads or of asyncio
    return {
        method: channel.unary_unary(
            method.path, request_serializer=method.write, response_deserializer=method.read
        )
        for method in ALL
    }


def opened(insecure: Callable[..., Channel], secure: Callable[..., Channel]) -> Callable[..., Channel]:
    """What opens a channel, in the clear or not."""

    def open_channel(
        target: str, credentials: grpc.ChannelCredentials | None, options: Sequence[tuple[str, Any]]
    ) -> Channel:
        if credentials is None:
            return insecure(target, options=options)
        return secure(target, credentials, options=options)

    return open_channel
