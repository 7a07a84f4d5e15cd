"""Serves an ASGI app in a thread, on a port that the supervisor holds."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from engine.ports import shared_port

_BACKLOG: Final = 256
_IDLE_S: Final = 30
"""How long a connection without a request is kept; proxies that keep theirs for longer ask on a new one."""


@contextmanager
def http_served(
    app: ASGIApp,
    address: tuple[str, int],
    *,
    drain_seconds: float,
    ending: Callable[[], None] = lambda: None,
) -> Iterator[int]:
    """Serves while the block runs, then lets requests in flight finish; gives the port.

    `ending` ends replies that would otherwise go on, such as streams of events. Raises OSError
    where it cannot listen.
    """
    listening = shared_port(address)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections hold no port
    listening.listen(_BACKLOG)  # who comes before the thread is there waits a moment
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="on",
            log_config=None,  # ours is structlog's, on stderr
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=_BACKLOG,
            timeout_keep_alive=_IDLE_S,
            timeout_graceful_shutdown=max(1, round(drain_seconds)),
        )
    )
    serving = threading.Thread(target=lambda: asyncio.run(server.serve([listening])), name="http")
    serving.start()
    try:
        yield listening.getsockname()[1]
    finally:
        ending()
        server.should_exit = True
        serving.join()
