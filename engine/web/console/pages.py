"""What the pages of the console share: who may see them, how they say what went wrong, how they ask why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from engine.bootstrap import Application
from engine.decisionlog.errors import LogError
from engine.errors import SetupInvalid
from engine.promotion.errors import PromotionError
from engine.service.audit import Act
from engine.web.console.access import SEES, Area, areas_of, may_do, may_see
from engine.web.console.recent import Recent
from engine.web.console.traffic import Traffic
from engine.web.look.pages import form_of, message, page
from engine.web.look.rendering import reader_words, render
from engine.web.look.words import Words
from engine.web.sessions import PageRole, Session
from feature_store.errors import StoreError
from model_registry.errors import RegistryError

ROOT: Final = "/console"
VISITORS: Final = frozenset({*(role for roles in SEES.values() for role in roles), PageRole.ADMIN})
"""Roles to whom any part of the console is open."""
MAX_REASON: Final = 500
REFUSALS: Final = (SetupInvalid, RegistryError, PromotionError, LogError, StoreError)
"""Errors whose text tells a person in charge what is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class House:
    """What the pages show: the application, and what is looked at again and again."""

    application: Application
    traffic: Traffic
    recent: Recent


Handle = Callable[[House, Request, Session], Response]


def shown(
    area: Area,
    path: str,
    house: House,
    handle: Handle,
    *,
    act: Act | None = None,
    methods: Sequence[str] = ("GET",),
) -> Route:
    """A page of a part of the console, for those who see that part and may do what it is for, if anything."""

    def made(request: Request, session: Session) -> Response:
        if not may_see(session, area) or (act is not None and not may_do(session, act)):
            return message(request, "denied", 403)
        request.state.area = area
        try:
            return handle(house, request, session)
        except REFUSALS as error:
            return refused(request, session, error)

    return page(ROOT + path, made, role=VISITORS, methods=methods)


def done(area: Area, act: Act, path: str, house: House, handle: Handle) -> Route:
    """What a form of a part of the console does, for those who may."""
    return shown(area, path, house, handle, act=act, methods=["POST"])


def entrance(_request: Request, session: Session) -> Response:
    """The first part that is open to somebody."""
    return back_to(f"/{areas_of(session)[0]}")


def put(request: Request, session: Session, template: str, *, status: int = 200, **values: Any) -> Response:  # noqa: ANN401  # templates take any value
    """A page of the console."""
    return render(
        request,
        f"console/{template}.html.j2",
        status=status,
        area=request.state.area,
        areas=areas_of(session),
        may=lambda act: may_do(session, Act(act)),
        **values,
    )


def refused(request: Request, session: Session, error: Exception) -> Response:
    """What could not be done and why, in the words that the command has for it."""
    return put(request, session, "refused", status=409, cause=str(error))


def said(request: Request) -> Words:
    """The texts of the page."""
    return reader_words(request)


def reason_in(request: Request) -> str:
    """Why, as the form says; "" where it does not, or at too great length."""
    reason = form_of(request).get("reason", "").strip()
    return "" if len(reason) > MAX_REASON else reason


def asked(request: Request, name: str) -> str:
    """A value of the address, or of a form where it must not stand in an address."""
    given: Mapping[str, str] = form_of(request) if request.method == "POST" else request.query_params
    return given.get(name, "").strip()


def back_to(path: str, **values: str) -> Response:
    """Leads on after a change, so that loading the page again changes nothing again."""
    query = "&".join(f"{name}={value}" for name, value in values.items())
    return RedirectResponse(f"{ROOT}{path}{'?' if query else ''}{query}", status_code=303)
