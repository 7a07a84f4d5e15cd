"""What each page needs before it is made: a session, a role, and for what changes something our own form."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from engine.api.interceptors import note
from engine.api.status import status_of
from engine.errors import ArbiterError, PermissionDenied
from engine.security.callers import answer_as
from engine.web.look.rendering import (
    KEYS,
    LANGUAGE,
    SWITCHED,
    THEME,
    THEMES,
    render,
    wants_fragment,
)
from engine.web.look.words import LANGUAGES
from engine.web.sessions import PageRole, Session, Sessions, form_token, with_roles
from engine.web.statuses import HTTP

MAX_FORM_BYTES: Final = 64 * 1024
"""Our forms have a few choices and a note; none comes near."""
_RETRIED: Final = frozenset({429, 503, 504})
"""Statuses of what passes: the page tries again by itself."""

Handler = Callable[[Request, Session], Response]
"""Makes a page, in a thread of its own. The fields of a form are in `form_of(request)`."""


class Page:
    """The endpoint of one page."""

    def __init__(self, handle: Handler, *, role: PageRole | frozenset[PageRole]) -> None:
        self._handle = handle
        self._role = role

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, or says calmly why not."""
        request = Request(scope, receive)
        try:
            response = await self._answered(request)
        except ClientDisconnect:  # nobody is there to be told
            return
        await response(scope, receive, send)

    async def _answered(self, request: Request) -> Response:
        sessions: Sessions = request.app.state.sessions
        session = sessions.of(request)
        if session is None:
            return signed_out(request)
        request.state.session = session
        if not session.may(self._role):
            return message(request, "denied", 403)
        if request.method == "POST":
            refused = await _read_form(request, session)
            if refused is not None:
                return refused
        response = await run_in_threadpool(answer_as, session.caller, self._made, request, session)
        sessions.keep(request, response, getattr(request.state, "session", session))
        return response

    def _made(self, request: Request, session: Session) -> Response:
        try:
            return self._handle(request, session)
        except Exception as error:
            note(request.scope["route"].path if "route" in request.scope else "page", error)
            return trouble(request, error)


def page(
    path: str,
    handle: Handler,
    *,
    role: PageRole | frozenset[PageRole],
    methods: Sequence[str] = ("GET",),
) -> Route:
    """A page, or with POST what a form of one does, for those in a role."""
    return Route(path, Page(handle, role=role), methods=methods)


def form_of(request: Request) -> Mapping[str, str]:
    """The fields of the form that was sent; of one that is there twice the last."""
    form: Mapping[str, str] = request.state.form
    return form


def signed_out(request: Request) -> Response:
    """What those see who have no session, or none any more."""
    response = message(request, "signed_out", 401)
    if wants_fragment(request):
        response.headers["HX-Refresh"] = "true"  # the whole page says it, with nothing of a customer left
    return response


def trouble(request: Request, error: Exception) -> Response:
    """What went wrong, calmly; where it passes, the page tries again by itself."""
    if isinstance(error, PermissionDenied):
        return message(request, "denied", 403, role=error.role)
    http = HTTP[status_of(error).code]
    kind = error.reason.lower() if isinstance(error, ArbiterError) else "failed"
    return message(request, kind, http)


def message(request: Request, kind: str, status: int, **values: str) -> Response:
    """A page that says one thing, by the words of `message.KIND`; asked for by a page, a note on that."""
    fragment = wants_fragment(request)
    template = "look/note.html.j2" if fragment else "look/message.html.j2"
    response = render(request, template, status=status, kind=kind, values=values, retried=status in _RETRIED)
    if fragment:
        response.headers["HX-Retarget"] = "#note"
        response.headers["HX-Reswap"] = "innerHTML"
    return response


async def _read_form(request: Request, session: Session) -> Response | None:
    """Reads the form; the refusal of one that is not ours."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_FORM_BYTES:
            return message(request, "too_large", 413)
    fields = dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=200))
    said = request.headers.get("x-csrf-token") or fields.get("csrf", "")
    if not same_origin(request) or not hmac.compare_digest(said.encode(), form_token(session).encode()):
        return message(request, "not_ours", 403)
    request.state.form = fields
    return None


def same_origin(request: Request) -> bool:
    """Whether one of our own pages sent the request, as the browser tells."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


_CHOICES: Final = {
    "language": (LANGUAGE, LANGUAGES),
    "theme": (THEME, THEMES),
    "keys": (KEYS, SWITCHED),
}


async def prefer(request: Request) -> Response:
    """Remembers what a reader chose of language, colours and keys; in open access also the role."""
    if not same_origin(request):
        return message(request, "not_ours", 403)
    sessions: Sessions = request.app.state.sessions
    fields = dict(parse_qsl((await request.body())[:MAX_FORM_BYTES].decode("utf-8", "replace")))
    response = RedirectResponse(_local(fields.get("back", "/")), status_code=303)
    for name, (cookie, allowed) in _CHOICES.items():
        if fields.get(name) in allowed:
            sessions.prefer(request, response, cookie, fields[name])
    session = sessions.of(request)
    if session is not None and session.open and not session.call and fields.get("role") in tuple(PageRole):
        sessions.keep(request, response, with_roles(session, [PageRole(fields["role"])]))
    return response


def _local(path: str) -> str:
    """The path, where it is one of ours; what browsers could take for another host is not."""
    ours = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if ours else "/"
