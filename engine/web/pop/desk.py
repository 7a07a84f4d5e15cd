"""The agent's desk: where calls come in, from telephony or by a link, and lead to their page."""

from __future__ import annotations

from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from engine.api.status import status_of
from engine.errors import ArbiterError, PermissionDenied, RequestInvalid, Violation
from engine.web.authorising import Authorise, headers_of
from engine.web.calls import Calls, Event, desk_of, identity_in
from engine.web.look.pages import message, page, signed_out, trouble
from engine.web.look.rendering import render
from engine.web.sessions import PageRole, Session, Sessions, page_roles
from engine.web.statuses import refusal
from engine.web.streams import stream

MAX_BODY_BYTES: Final = 4096
_JSON: Final = "application/json"


class Ring(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A call that rings, as telephony says it; `name` is whom its display shows, if anybody."""

    call: str
    identity: str
    agent: str
    name: str = ""


def routes(calls: Calls, authorise: Authorise | None) -> list[Route]:
    """The desk and what telephony asks."""
    desk = _Desk(calls)
    telephony = _Telephony(calls, authorise)
    return [
        Route("/cti/calls", telephony.rings, methods=["POST"]),
        Route("/cti/calls/{call}/ended", telephony.ends, methods=["POST"]),
        Route("/pop", desk.enter),
        Route("/pop/events", desk.events),
        page("/pop/waiting", desk.waiting, role=PageRole.AGENT),
    ]


class _Telephony:
    """What a telephone system asks: a call rings, a call has ended."""

    def __init__(self, calls: Calls, authorise: Authorise | None) -> None:
        self._calls = calls
        self._authorise = authorise

    async def rings(self, request: Request) -> Response:
        """A call begins: 201 with a link that opens its page once."""
        try:
            self._check(request)
            said = await _read(request)
            call = self._calls.ring(said.call, said.agent, identity_in(said.identity), said.name)
        except ArbiterError as error:
            return refusal(status_of(error))
        sessions: Sessions = request.app.state.sessions
        path = f"/pop?link={sessions.link({'call': call.id, 'agent': call.agent})}"
        origin = f"{request.url.scheme}://{request.headers['host']}"
        return JSONResponse({"link": origin + path, "path": path}, status_code=201)

    async def ends(self, request: Request) -> Response:
        """A call ends: its page hides the customer."""
        try:
            self._check(request)
            self._calls.end(request.path_params["call"])
        except ArbiterError as error:
            return refusal(status_of(error))
        return Response(status_code=204)

    def _check(self, request: Request) -> None:
        """Raises unless the caller may all that an agent may, as that is what the link lends."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _JSON:
            raise RequestInvalid([Violation("Content-Type", f"is {_JSON}")])
        if self._authorise is None:
            return
        caller = self._authorise.prove(headers_of(request.scope))
        if PageRole.AGENT not in page_roles(caller.roles):
            raise PermissionDenied("telephony needs the roles of an agent: decide, outcome and consent")


async def _read(request: Request) -> Ring:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise RequestInvalid([Violation("body", f"has more than {MAX_BODY_BYTES} bytes")])
    try:
        return msgspec.json.decode(body, type=Ring)
    except (msgspec.DecodeError, UnicodeDecodeError):
        words = 'is JSON with the texts "call", "identity" and "agent", and perhaps "name"'
        raise RequestInvalid([Violation("body", words)]) from None


class _Desk:
    """The page that waits, and the ways from there to a call's."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def enter(self, request: Request) -> Response:
        """By a link that opens once, by a plain link with an identity, or by nothing: to the waiting page."""
        if "link" in request.query_params:
            return self._by_link(request, request.query_params["link"])
        sessions: Sessions = request.app.state.sessions
        session = sessions.of(request)
        if session is None:
            return signed_out(request)
        request.state.session = session
        if not session.may(PageRole.AGENT):
            return message(request, "denied", 403, role=PageRole.AGENT)
        if "identity" not in request.query_params:
            return RedirectResponse("/pop/waiting", status_code=303)
        try:
            call = self._calls.ring(
                request.query_params.get("call", ""),
                session.who,
                identity_in(request.query_params["identity"]),
            )
        except ArbiterError as error:
            return trouble(request, error)
        return self._to(call.id, request, session)

    def _by_link(self, request: Request, link: str) -> Response:
        sessions: Sessions = request.app.state.sessions
        said = sessions.opened(link)
        if said is None:
            return message(request, "signed_out", 401)
        held = sessions.of(request)
        known = held is not None and not held.call and (held.open or held.who == said["agent"])
        session = held if known and held is not None else sessions.begin_for_call(said["agent"], said["call"])
        return self._to(said["call"], request, session)

    def _to(self, call: str, request: Request, session: Session) -> Response:
        sessions: Sessions = request.app.state.sessions
        response = RedirectResponse(f"/pop/{call}", status_code=303)
        sessions.keep(request, response, session)
        return response

    def waiting(self, request: Request, session: Session) -> Response:
        """Says that no call is there yet, or which are."""
        return render(
            request,
            "pop/waiting.html.j2",
            calls=self._calls.of_agent(agent_of(session)),
            since=self._calls.now_s(),
        )

    def _missed(self, request: Request, agent: str | None) -> list[Event]:
        """The last call that rang after the page was made and before its stream was there."""
        try:
            since_s = float(request.query_params.get("since", "inf"))
        except ValueError:
            return []
        rang = [call for call in self._calls.of_agent(agent) if call.rang_s > since_s]
        return [Event("go", f"/pop/{call.id}") for call in rang[:1]]

    async def events(self, request: Request) -> Response:
        """Rings, as they come."""
        sessions: Sessions = request.app.state.sessions
        session = sessions.of(request)
        if session is None or session.call or not session.may(PageRole.AGENT):
            return Response(status_code=204)  # tells browsers to ask no more
        agent = agent_of(session)
        response = stream(self._calls, desk_of(agent), first=lambda: self._missed(request, agent))
        sessions.keep(request, response, session)
        return response


def agent_of(session: Session) -> str | None:
    """Whose calls somebody sees: their own; where nobody proves who they are, everybody's."""
    return None if session.open else session.who
