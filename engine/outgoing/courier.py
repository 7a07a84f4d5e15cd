"""Brings one message to the receiver, once: to the address the operator wrote, and to no other."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Final, Self

import httpx2

from engine.outgoing.answers import Answer, Result
from engine.outgoing.messages import Message
from engine.outgoing.signing import Secrets, signed_headers
from engine.release import engine_version

_AGAIN: Final = frozenset({408, 409, 425, 429})
"""Of the statuses that blame the sender, those that say: not now."""
_BUSY: Final = frozenset({429, 503})
"""Statuses that are about all messages and not about this one."""
_GONE: Final = 410
_LEAST_SERVER_ERROR: Final = 500
_LARGEST_ANSWER: Final = 1 << 16
"""An answer is not looked at; it is read so far that its connection can be used again."""


class Courier:
    """A connection to one receiver. Follows no redirect and reads no answer but its status."""

    def __init__(
        self, url: str, secrets: Secrets, *, deadline_s: float, clock: Callable[[], int], by_proxy: bool
    ) -> None:
        """`by_proxy`: through the proxy that the environment names, if it does."""
        self._url = url
        self._secrets = secrets
        self._deadline_s = deadline_s
        self._clock = clock
        self._client = httpx2.AsyncClient(
            follow_redirects=False,
            timeout=deadline_s,
            trust_env=by_proxy,
            headers={"user-agent": f"arbiter/{engine_version()}", "content-type": "application/json"},
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def deliver(self, message: Message) -> Answer:
        """One attempt, ended by its deadline wherever it is."""
        headers = signed_headers(self._secrets(), message.webhook_id, message.body, now_ms=self._clock())
        answer: Answer | None = None
        try:
            async with (
                asyncio.timeout(self._deadline_s),
                self._client.stream("POST", self._url, content=message.body, headers=headers) as response,
            ):
                answer = _answer(response)
                with contextlib.suppress(httpx2.HTTPError):  # its status is known
                    await _read(response)
        except TimeoutError:
            return answer or Answer(Result.AWAY, f"did not answer within {self._deadline_s:g} s")
        except httpx2.HTTPError as error:
            return answer or Answer(Result.AWAY, f"{type(error).__name__}: {error}".rstrip(": "))
        return answer


async def _read(response: httpx2.Response) -> None:
    read = 0
    async for part in response.aiter_raw():
        read += len(part)
        if read > _LARGEST_ANSWER:
            return


def _answer(response: httpx2.Response) -> Answer:
    status = response.status_code
    cause = f"answered {status} {response.reason_phrase}".rstrip()
    if response.is_success:
        return Answer(Result.DELIVERED, cause, status)
    if status == _GONE:
        return Answer(Result.GONE, cause, status)
    if status in _BUSY:
        return Answer(Result.AWAY, cause, status, _wait_s(response))
    if status in _AGAIN or status >= _LEAST_SERVER_ERROR:
        return Answer(Result.FAILED, cause, status, _wait_s(response))
    return Answer(Result.REFUSED, cause, status)


def _wait_s(response: httpx2.Response) -> float:
    """What `Retry-After` says, in seconds or as a date; 0 where it says nothing one can read."""
    said = response.headers.get("retry-after", "").strip()
    if said.isascii() and said.isdecimal():
        return float(said[:9])
    try:
        until = parsedate_to_datetime(said)
    except ValueError:
        return 0.0
    if until.tzinfo is None:  # "-0000" says UTC without a zone
        until = until.replace(tzinfo=UTC)
    return max(0.0, until.timestamp() - time.time())
