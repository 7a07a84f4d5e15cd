"""The HTTP side of an application: one ASGI app of probes, the JSON gateway and the pages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from typing import Final

import anyio.to_thread
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from engine.bootstrap import Application
from engine.settings import Settings
from engine.web import gateway
from engine.web.authorising import Authorise
from engine.web.calls import Calls
from engine.web.console import pages as console
from engine.web.console import routes as console_routes
from engine.web.headers import SecureHeaders
from engine.web.look import entering
from engine.web.look.rendering import Look
from engine.web.pop import desk, screen
from engine.web.pop.talks import Talks
from engine.web.sessions import PageRole, Sessions, session_key

_THIS_MACHINE: Final = ("localhost", "127.0.0.1", "[::1]")


PARTS: Final[Mapping[str, tuple[str, PageRole | frozenset[PageRole]]]] = {
    "pop": ("/pop", PageRole.AGENT),
    "console": (console.ROOT, console.VISITORS),
}
"""Where each part of the pages begins, and who it is for."""


def create_app(
    application: Application,
    authorise: Authorise | None = None,
    *,
    clock_s: Callable[[], float] = time.time,
) -> Starlette:
    """The app that serves an application over HTTP; `authorise`, if any, is asked before calls and pages.

    Raises SetupInvalid.
    """
    settings = application.settings
    look = Look(parts=PARTS)
    sessions = Sessions(
        key=session_key(settings.data_dir),
        open_to_all=authorise is None,
        framed=bool(settings.web_frame_ancestors),
        clock_s=clock_s,
    )
    calls = Calls(clock_s=clock_s)
    talks = Talks(application, calls, clock_s=clock_s)
    app = assembled(
        application,
        [
            *probes(application),
            *gateway.routes(application, authorise),
            look.assets.route(),
            *entering.routes(authorise),
            *desk.routes(calls, authorise),
            *screen.routes(application, calls, talks),
            *console_routes.routes(application),
        ],
        beside=lambda: _settling(talks),
    )
    app.state.look, app.state.sessions, app.state.calls = look, sessions, calls
    return app


@asynccontextmanager
async def _settling(talks: Talks) -> AsyncIterator[None]:
    """Looks each second, in a thread, for answers to record and for customers who changed."""

    async def look() -> None:
        while True:
            await asyncio.sleep(1.0)
            await run_in_threadpool(talks.look_around)

    looking = asyncio.create_task(look())
    try:
        yield
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
        talks.answers.settle_all()


def assembled(
    application: Application,
    routes: Sequence[BaseRoute],
    *,
    beside: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
) -> Starlette:
    """Routes behind what all of them need: hosts checked, CORS, headers, few threads.

    `beside` is at work while they are served.
    """
    settings = application.settings

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = settings.threads
        async with beside():
            yield

    return Starlette(routes=routes, middleware=_middleware(settings), lifespan=lifespan)


def _middleware(settings: Settings) -> list[Middleware]:
    """Outermost first."""
    around = [
        Middleware(SecureHeaders, frame_ancestors=settings.web_frame_ancestors),
        Middleware(TrustedHostMiddleware, allowed_hosts=_hosts(settings), www_redirect=False),
    ]
    if settings.web_origins:
        around.append(
            Middleware(
                CORSMiddleware,
                allow_origins=settings.web_origins,
                allow_methods=("POST",),
                allow_headers=("Authorization", "Grpc-Timeout"),
            )
        )
    return around


def _hosts(settings: Settings) -> Sequence[str]:
    """Names by which we may be asked for; on this machine only its own.

    Else a stranger's page whose name is made to point here could ask with what its visitor may.
    """
    host = settings.web_address[0] if settings.web_address else _THIS_MACHINE[0]
    return _THIS_MACHINE if host in ("localhost", "127.0.0.1", "::1") else ("*",)


def probes(application: Application) -> list[Route]:
    """Whether the process lives, and whether it can decide."""

    def alive(_request: Request) -> Response:
        return PlainTextResponse("alive\n")

    def ready(_request: Request) -> Response:
        return PlainTextResponse(f"serving {application.live.current.versions.rules}\n")

    return [Route("/healthz", alive), Route("/readyz", ready)]
