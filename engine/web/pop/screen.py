"""The page of one call: shows who it is and what to propose, and takes what the customer says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from engine.bootstrap import Application
from engine.errors import ActionNotReturned, ArbiterError, CallUnknown
from engine.web.calls import Call, Calls, Event
from engine.web.look.pages import form_of, message, page, trouble
from engine.web.look.rendering import reader_words, render, wants_fragment
from engine.web.pop.desk import agent_of
from engine.web.pop.talks import CUSTOMER_ID, DECLINED, MAX_NOTE, Talk, Talks
from engine.web.pop.view import Teller
from engine.web.sessions import PageRole, Session, Sessions
from engine.web.streams import stream
from feature_store.state import Identity

_PATH: Final = "/pop/{call}"

Deed = Callable[[Call, Request], None]


def routes(application: Application, calls: Calls, talks: Talks) -> list[Route]:
    """The page of a call, and what its forms do."""
    screen = _Screen(application, calls, talks)
    deeds: dict[str, Deed] = {
        "customer": screen.settle,
        "intent": lambda call, request: talks.understand(call, form_of(request).get("intent", "")),
        "note": lambda call, request: talks.note(call, form_of(request).get("note", "")),
        "outcome": screen.hear,
        "undo": lambda call, request: talks.undo(call, form_of(request).get("action", "")),
        "objection": lambda call, _request: talks.object(call),
        "again": lambda call, _request: talks.again(call),
    }
    return [
        page(_PATH, screen.show, role=PageRole.AGENT),
        Route(f"{_PATH}/events", screen.events),
        page(f"{_PATH}/fresh", screen.fresh, role=PageRole.AGENT),
        page(f"{_PATH}/why/{{action}}", screen.why, role=PageRole.AGENT),
        *(
            page(
                f"{_PATH}/{name}",
                screen.doing(deed, shows=name != "note"),
                role=PageRole.AGENT,
                methods=["POST"],
            )
            for name, deed in deeds.items()
        ),
    ]


class _Screen:
    """Handlers of the page."""

    def __init__(self, application: Application, calls: Calls, talks: Talks) -> None:
        self._application = application
        self._calls = calls
        self._talks = talks

    def show(self, request: Request, session: Session) -> Response:
        """The whole page, or the part that changes where a page asks for it."""
        call, refused = self._call(request, session)
        if call is None:
            return refused
        with call.guard:
            if call.ended_s is not None:
                return self._ended(request, session)
            return self._shown(call, request)

    def doing(self, deed: Deed, *, shows: bool = True) -> Callable[[Request, Session], Response]:
        """A handler that does something and shows what is so then, unless that is all on the page already."""

        def handle(request: Request, session: Session) -> Response:
            call, refused = self._call(request, session)
            if call is None:
                return refused
            with call.guard:
                if call.ended_s is not None:
                    return self._ended(request, session)
                try:
                    deed(call, request)
                except ActionNotReturned:  # another page went on meanwhile: show what is so now
                    return self._shown(call, request, overtaken=True)
                if wants_fragment(request):
                    return self._shown(call, request) if shows else Response(status_code=204)
                return RedirectResponse(f"/pop/{call.id}", status_code=303)

        return handle

    def settle(self, call: Call, request: Request) -> None:
        """Who it is: one of several, or somebody looked for anew."""
        form = form_of(request)
        if "customer" in form:
            self._talks.pick(call, form["customer"])
        else:
            identity = Identity(form.get("type", ""), form.get("value", "").strip()[:MAX_NOTE])
            self._talks.look_for(call, identity)

    def hear(self, call: Call, request: Request) -> None:
        """What the customer said to a proposal."""
        form = form_of(request)
        self._talks.say(
            call,
            form.get("decision", ""),
            form.get("action", ""),
            form.get("answer") or ("decline" if form.get("reason") else ""),
            form.get("reason", ""),
        )

    def fresh(self, request: Request, session: Session) -> Response:
        """Whether the page shows what is so: a quiet note where it does not. It changes nothing by itself."""
        call, refused = self._call(request, session)
        if call is None or call.ended_s is not None:
            gone = refused if call is None else Response(status_code=200)
            gone.headers["HX-Refresh"] = "true"  # the page itself says why it is no more
            return gone
        with call.guard:
            talk: Talk | None = call.talk
            seen = request.query_params.get("seen", "")
            stale = talk is not None and (talk.stale or str(talk.version) != seen)
            return render(request, "pop/fresh.html.j2", call=call, stale=stale, seen=seen)

    def why(self, request: Request, session: Session) -> Response:
        """Why, or why not, for any action of the decision that stands, in words."""
        call, refused = self._call(request, session)
        if call is None:
            return refused
        with call.guard:
            talk: Talk | None = call.talk
            if call.ended_s is not None or talk is None or talk.answer is None:
                raise CallUnknown("this call has ended")
            decision_id = talk.answer.record.decision_id
        words = reader_words(request)
        action_id = request.path_params["action"]
        found = self._application.explanations.explain(
            decision_id, action_id=action_id, language=words.language
        )
        why = Teller(found.snapshot, words).why(found, action_id)
        return render(request, "pop/why.html.j2", why=why)

    async def events(self, request: Request) -> Response:
        """What changes while the page is open: its end, and that something is new."""
        sessions: Sessions = request.app.state.sessions
        session = sessions.of(request)
        call_id = request.path_params["call"]
        try:
            call = self._calls.get(call_id)
        except CallUnknown:
            return Response(status_code=404)
        if session is None or not session.may(PageRole.AGENT) or not _may_see(call, session):
            return Response(status_code=401)
        response = stream(self._calls, f"call:{call_id}", first=lambda: _end_of(call))
        sessions.keep(request, response, session)
        return response

    def _call(self, request: Request, session: Session) -> tuple[Call | None, Response]:
        """The call, or what to say where it is not known or not theirs."""
        try:
            call = self._calls.get(request.path_params["call"])
        except CallUnknown as error:
            return None, trouble(request, error)
        if not _may_see(call, session):
            return None, message(request, "call_taken", 403)
        return call, Response(status_code=204)

    def _ended(self, request: Request, session: Session) -> Response:
        if wants_fragment(request):
            response = Response(status_code=204)
            response.headers["HX-Redirect"] = (
                request.url.path if request.method == "GET" else _page_of(request)
            )
            return response
        return render(request, "pop/ended.html.j2", desk=not session.call, since=self._calls.now_s())

    def _shown(self, call: Call, request: Request, *, overtaken: bool = False) -> Response:
        try:
            talk = self._talks.of(call)
        except ArbiterError as error:
            return trouble(request, error)
        words = reader_words(request)
        snapshot = self._application.live.current if talk.answer is None else talk.answer.snapshot
        teller = Teller(snapshot, words)
        told = teller.told(talk, self._talks.answers)
        answer = talk.answer
        values: dict[str, Any] = {
            "call": call,
            "talk": talk,
            "told": told,
            "overtaken": overtaken,
            "just": form_of(request).get("action", "") if request.method == "POST" else "",
            "declined": DECLINED,
            "max_note": MAX_NOTE,
            "intents": teller.intents(),
            "types": [*snapshot.rulebook.vocabulary.identity_types, CUSTOMER_ID],
            "candidates": [],
            "customer": None,
            "consents": [],
        }
        if answer is not None:
            values["customer"] = teller.customer(
                answer.record.state, withheld=not answer.record.decision.profiled
            )
            values["consents"] = self._consents(talk, teller)
        elif len(talk.matches) > 1 and not talk.customer_id:
            candidates = self._talks.candidates(talk)
            values["candidates"] = [(each.customer_id, teller.facts(each)) for each in candidates]
        template = "pop/screen.html.j2" if wants_fragment(request) else "pop/call.html.j2"
        return render(request, template, **values)

    def _consents(self, talk: Talk, teller: Teller) -> list[object] | None:
        """What is in force now; None where that cannot be read."""
        try:
            held = self._application.consents.get(talk.customer_id)
        except ArbiterError:
            return None
        return [*teller.consents(held.effective)]


def _may_see(call: Call, session: Session) -> bool:
    """A link is for its call, and a call is its agent's; where access is open, everybody's."""
    if session.call:
        return session.call == call.id
    return agent_of(session) in (None, call.agent)


def _end_of(call: Call) -> list[Event]:
    """What a page must hear whose call had ended before its stream was there."""
    return [] if call.ended_s is None else [Event("go", f"/pop/{call.id}")]


def _page_of(request: Request) -> str:
    return f"/pop/{request.path_params['call']}"
