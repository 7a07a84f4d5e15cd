"""Server-sent events: pages that wait are told what is new, and open their stream again by themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from time import monotonic
from typing import Final

from starlette.responses import StreamingResponse

from engine.web.calls import Calls, Event

LONGEST_S: Final = 240.0
"""A stream ends then and the page opens it again, which renews its session and finds out where it ended."""
_BEAT_S: Final = 15.0
"""Between two signs of life, so that proxies keep the connection and dead ones are found out."""
_BEGIN: Final = ": Arbiter\nretry: 1000\n\n"


def stream(calls: Calls, *names: str, first: Callable[[], Iterable[Event]] = tuple) -> StreamingResponse:
    """What is told under these names, as it comes; before that what `first` gives once it is listened."""

    async def told() -> AsyncIterator[str]:
        ends_s = monotonic() + LONGEST_S
        with calls.listening(*names) as listener:
            yield _BEGIN
            for missed in first():
                yield written(missed)
            while monotonic() < ends_s:
                try:
                    event = await listener.next(_BEAT_S)
                except TimeoutError:
                    yield ": still here\n\n"
                    continue
                if event is None:
                    return
                yield written(event)

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(told(), media_type="text/event-stream", headers=headers)


def written(event: Event) -> str:
    """An event as it goes over the wire; names and data are ours and hold no line ends."""
    return f"event: {event.name}\ndata: {event.data}\n\n"
