"""Pages from templates: every text escaped, in the reader's language, colours and role."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from engine.web.look.assets import Assets
from engine.web.look.words import LANGUAGES, Words, spoken, words_of
from engine.web.sessions import PageRole, Session, form_token

_WEB: Final = Path(__file__).resolve().parents[1]
LANGUAGE, THEME, KEYS = "arbiter_language", "arbiter_theme", "arbiter_keys"
"""Names of the cookies that hold what a reader chose."""
THEMES: Final = ("auto", "light", "dark")
SWITCHED: Final = ("on", "off")


@dataclass(frozen=True, slots=True)
class Look:
    """What every page is made with; `parts` are the pages to lead to, by the name of their word."""

    assets: Assets = field(default_factory=Assets)
    parts: Mapping[str, tuple[str, PageRole | frozenset[PageRole]]] = field(default_factory=dict)


def render(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:  # noqa: ANN401  # templates take any value
    """The page that a template gives; beside `values` it knows the reader's choices and the session."""
    words = reader_words(request)
    look: Look = request.app.state.look
    session: Session | None = getattr(request.state, "session", None)
    html = (
        _environment()
        .get_template(template)
        .render(
            t=words,
            language=words.language,
            languages=LANGUAGES,
            theme=_chosen(request, THEME, THEMES),
            themes=THEMES,
            keys=_chosen(request, KEYS, SWITCHED),
            session=session,
            csrf="" if session is None else form_token(session),
            roles=tuple(PageRole),
            look=look,
            asset=look.assets.address,
            here=request.url.path,
            fragment=wants_fragment(request),
            **values,
        )
    )
    return HTMLResponse(html, status_code=status)


def wants_fragment(request: Request) -> bool:
    """Whether a page that is there already asks for a part of itself."""
    return "hx-request" in request.headers


def reader_words(request: Request) -> Words:
    """The texts in the language of who reads."""
    accepted = request.headers.get("accept-language", "")
    return words_of(spoken(accepted, request.cookies.get(LANGUAGE, "")))


def _chosen(request: Request, cookie: str, of: tuple[str, ...]) -> str:
    """What the reader chose of these; the first where nothing."""
    said = request.cookies.get(cookie, "")
    return said if said in of else of[0]


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_WEB),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["day"] = day
    environment.filters["moment"] = moment
    environment.filters["amount"] = amount
    environment.filters["instant"] = instant
    return environment


def day(at_ms: int, language: str) -> str:
    """A date as people write it there, in UTC."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return f"{at:%d.%m.%Y}" if language == "fr" else f"{at.day} {at:%b %Y}"


def moment(at_ms: int, language: str) -> str:
    """Date and time to the minute, in UTC."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return f"{day(at_ms, language)}, {at:%H:%M} UTC"


def instant(at_ms: int) -> str:
    """For machines that read the page: the time in ISO 8601."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds")


def amount(number: float, language: str) -> str:
    """A number with at most two digits after the point; French parts thousands by a narrow space."""
    text = f"{number:,.2f}".removesuffix(".00")
    return text.replace(",", "\u202f").replace(".", ",") if language == "fr" else text
