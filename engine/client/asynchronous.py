"""The client for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Self

import grpc

from engine.client import calls
from engine.client.calls import Call
from engine.client.errors import failure_of
from engine.client.line import Line, left_s, opened
from engine.client.methods import Answer

P = ParamSpec("P")

_open_channel = opened(grpc.aio.insecure_channel, grpc.aio.secure_channel)


def _sent(
    prepare: Callable[P, Call[Any, Answer]],
) -> Callable[Concatenate[AsyncArbiterClient, P], Awaitable[Answer]]:
    """The method that makes a call."""

    @wraps(prepare)
    async def method(self: AsyncArbiterClient, /, *args: P.args, **kwargs: P.kwargs) -> Answer:
        return await self.send(prepare(*args, **kwargs))

    return method


class AsyncArbiterClient(Line[grpc.aio.Channel]):
    """`ArbiterClient` for asyncio: the same calls, awaited. One for each event loop, made within it."""

    _open = staticmethod(_open_channel)

    decide = _sent(calls.decide)
    decide_batch = _sent(calls.decide_batch)
    explain = _sent(calls.explain)
    record_outcome = _sent(calls.record_outcome)
    record_consent = _sent(calls.record_consent)
    get_consents = _sent(calls.get_consents)
    ingest = _sent(calls.ingest)
    wait_until_serving = _sent(calls.wait_until_serving)
    is_ready = _sent(calls.is_ready)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connections; calls in flight fail."""
        for channel in self._channels:
            await channel.close(None)

    async def send(self, call: Call[Any, Answer]) -> Answer:
        """Makes a call. Raises CallFailed."""
        until_s = self._until_s(call)
        while True:
            try:
                answer: Answer = await self._next(call, left_s(until_s))
                return answer
            except grpc.RpcError as error:
                failed = failure_of(error)  # type: ignore[arg-type]  # a failed call is a Call as well
                pause_s = self._pause_s(failed, until_s)
                if pause_s is None:
                    raise failed from error
            await asyncio.sleep(pause_s)
