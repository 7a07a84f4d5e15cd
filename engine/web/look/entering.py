"""In and out: a session for a token, and its end."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from engine.api.status import status_of
from engine.errors import ArbiterError
from engine.web.authorising import Authorise, headers_of
from engine.web.look.pages import message, prefer, same_origin
from engine.web.look.rendering import Look, render
from engine.web.sessions import Session, Sessions
from engine.web.statuses import refusal


def routes(authorise: Authorise | None) -> list[Route]:
    """The way in and out, the choices of readers, and the page that leads to the others."""

    async def begin(request: Request) -> Response:
        sessions: Sessions = request.app.state.sessions
        try:
            session = sessions.begin_open() if authorise is None else _proven(request, authorise)
        except ArbiterError as error:
            return refusal(status_of(error))
        response = Response(status_code=204)
        sessions.keep(request, response, session)
        return response

    return [
        Route("/", first),
        Route("/session", begin, methods=["POST"]),
        Route("/session/end", end, methods=["POST"]),
        Route("/look", prefer, methods=["POST"]),
    ]


def _proven(request: Request, authorise: Authorise) -> Session:
    sessions: Sessions = request.app.state.sessions
    return sessions.begin(authorise.prove(headers_of(request.scope)))


async def end(request: Request) -> Response:
    """Signs out."""
    if not same_origin(request):
        return message(request, "not_ours", 403)
    sessions: Sessions = request.app.state.sessions
    session = sessions.of(request)
    response = RedirectResponse("/", status_code=303)
    if session is not None:
        sessions.end(request, response, session)
    return response


async def first(request: Request) -> Response:
    """Where the pages are, for those who typed nothing but the address."""
    sessions: Sessions = request.app.state.sessions
    look: Look = request.app.state.look
    session = sessions.of(request)
    if session is None:
        return message(request, "signed_out", 401)
    request.state.session = session
    parts = [name for name, (_, role) in look.parts.items() if session.may(role)]
    response = render(request, "look/first.html.j2", shown=parts)
    sessions.keep(request, response, session)
    return response
