"""Who is in: cookies that nobody else can make, links that open once, and their ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from engine.errors import SetupInvalid
from engine.security.callers import Caller, Role
from engine.web.look.rendering import amount, day
from engine.web.look.words import LANGUAGES, spoken, words_of
from engine.web.sessions import (
    CALL_COOKIE,
    COOKIE,
    IDLE_S,
    LINK_S,
    LONGEST_S,
    PageRole,
    Session,
    Sessions,
    page_roles,
    session_key,
)

AGENT = frozenset({Role.DECIDE, Role.OUTCOME, Role.CONSENT})
KEY = bytes(range(32))


class Wall:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


def sessions_at(wall: Wall, **changed: Any) -> Sessions:
    """Sessions of a server that asks for tokens."""
    return Sessions(**{"key": KEY, "open_to_all": False, "framed": False, "clock_s": wall, **changed})


def asking(cookies: str = "", scheme: str = "http") -> Request:
    """A request with cookies."""
    headers = [(b"cookie", cookies.encode())] if cookies else []
    return Request({"type": "http", "scheme": scheme, "path": "/", "headers": headers, "server": ("h", 80)})


def kept(sessions: Sessions, session: Session, scheme: str = "http") -> str:
    """The cookie that a browser gets, with its attributes."""
    response = Response()
    sessions.keep(asking(scheme=scheme), response, session)
    return response.headers["set-cookie"]


def test_session_lasts_while_it_is_used_and_no_longer_than_a_day_of_work() -> None:
    """Idle for a quarter of an hour it ends; renewed, it ends after twelve hours."""
    wall = Wall()
    sessions = sessions_at(wall)
    begun = sessions.begin(Caller("agent-7", AGENT, wall.now_s + 60))
    cookie = kept(sessions, begun).partition(";")[0]

    wall.now_s += IDLE_S - 1
    still = sessions.of(asking(cookie))
    renewed = kept(sessions, begun).partition(";")[0]
    wall.now_s += IDLE_S - 1
    assert (still, sessions.of(asking(cookie)), sessions.of(asking(renewed))) == (begun, None, begun)

    wall.now_s = begun.ends_s - 1
    last = kept(sessions, begun).partition(";")[0]
    wall.now_s = begun.ends_s
    assert sessions.of(asking(last)) is None
    assert begun.ends_s <= 1_800_000_000.0 + LONGEST_S


def test_session_that_was_ended_is_over_for_whoever_has_its_cookie() -> None:
    """A stolen cookie is worth nothing after the owner signed out."""
    sessions = sessions_at(Wall())
    begun = sessions.begin(Caller("agent-7", AGENT, 2e9))
    cookie = kept(sessions, begun).partition(";")[0]

    sessions.end(asking(cookie), Response(), begun)

    assert sessions.of(asking(cookie)) is None


@pytest.mark.parametrize("cookie", ["", "x", "gAAAA-broken", "é"])
def test_what_we_did_not_seal_is_no_session(cookie: str) -> None:
    """Damaged, made up, or sealed by another key."""
    wall = Wall()
    other = Sessions(key=bytes(32), open_to_all=False, framed=False, clock_s=wall)
    foreign = kept(other, other.begin(Caller("agent-7", AGENT, 2e9))).partition(";")[0]

    assert sessions_at(wall).of(asking(f"{COOKIE}={cookie}")) is None
    assert sessions_at(wall).of(asking(foreign)) is None


def test_open_session_is_worth_nothing_once_tokens_are_asked_for() -> None:
    """Who tried Arbiter out is not in when it is protected, nor the other way round."""
    wall = Wall()
    tried = sessions_at(wall, open_to_all=True)
    cookie = kept(tried, tried.begin_open()).partition(";")[0]

    assert sessions_at(wall).of(asking(cookie)) is None


def test_cookie_is_for_our_own_pages_unless_a_desktop_frames_them() -> None:
    """Strict by default; in a frame of an allowed origin of its own jar, over TLS only."""
    wall = Wall()
    session = sessions_at(wall).begin(Caller("agent-7", AGENT, 2e9))

    plain, safe = kept(sessions_at(wall), session), kept(sessions_at(wall), session, "https")
    framed = kept(sessions_at(wall, framed=True), session)

    assert "HttpOnly" in plain
    assert ("SameSite=Strict" in plain, "Secure" in plain, "Secure" in safe) == (True, False, True)
    assert "SameSite=None; Secure; Partitioned" in framed


def test_session_for_a_call_is_shown_to_that_call_only() -> None:
    """Its cookie has the path of the call's pages and says which call it is for."""
    wall = Wall()
    sessions = sessions_at(wall)

    cookie = kept(sessions, sessions.begin_for_call("agent-7", "c-1"))

    assert cookie.startswith(f"{CALL_COOKIE}=")
    assert "Path=/pop/c-1" in cookie
    found = sessions.of(asking(cookie.partition(";")[0]))
    assert found is not None
    assert (found.call, found.roles) == ("c-1", {PageRole.AGENT})


def test_link_opens_once_and_within_a_minute() -> None:
    """Used, late or made up it opens nothing; nobody reads the customer out of it."""
    wall = Wall()
    sessions = sessions_at(wall)
    link, late = sessions.link({"call": "c-1"}), sessions.link({"call": "c-2"})

    first, again = sessions.opened(link), sessions.opened(link)
    wall.now_s += LINK_S + 1

    assert first is not None
    assert first["call"] == "c-1"
    assert (again, sessions.opened(late), sessions.opened("made-up"), sessions.opened("é")) == (None,) * 4


def test_pages_let_nobody_do_what_their_token_may_not() -> None:
    """Each role of the pages needs what its deeds need over gRPC."""
    assert page_roles(AGENT) == {PageRole.AGENT}
    assert page_roles(AGENT - {Role.CONSENT}) == set()
    assert page_roles(frozenset({Role.CONSENT, Role.READ_LOG})) == {PageRole.PRIVACY}
    assert page_roles(frozenset(Role)) == set(PageRole)


def test_key_is_made_once_and_for_the_server_only(tmp_path: Path) -> None:
    """Two starts share it, and nobody else may read it; a damaged one is told."""
    first = session_key(tmp_path)

    assert (session_key(tmp_path), len(first)) == (first, 32)
    assert (tmp_path / "web.key").stat().st_mode & 0o077 == 0
    (tmp_path / "web.key").write_bytes(b"short")
    with pytest.raises(SetupInvalid, match="32 bytes"):
        session_key(tmp_path)


def test_both_languages_say_everything() -> None:
    """The same names in each, and the same placeholders."""
    spoken_words = [words_of(language) for language in LANGUAGES]

    assert set(spoken_words[0]) == set(spoken_words[1])


def test_french_keeps_its_signs_on_the_line() -> None:
    """No breaking space before a double sign, and apostrophes as printed."""
    for name in words_of("fr"):
        text = words_of("fr")(name)
        assert not any(f" {sign}" in text for sign in ":;?!%»"), text
        assert "'" not in text, text


@pytest.mark.parametrize(
    ("accepted", "chosen", "language"),
    [
        ("fr-CH, fr;q=0.9, en;q=0.8", "", "fr"),
        ("de-CH, en;q=0.5, fr;q=0.7", "", "fr"),
        ("de", "", "en"),
        ("fr", "en", "en"),
        ("fr;q=x, , ;q=1", "xx", "en"),
        ("fr;q=0", "", "en"),
    ],
)
def test_language_is_the_readers(accepted: str, chosen: str, language: str) -> None:
    """Their choice, else what their browser asks for, else English."""
    assert spoken(accepted, chosen) == language


def test_numbers_and_days_as_people_write_them() -> None:
    """French parts thousands by a space and decimals by a comma."""
    assert [amount(1234.5, each) for each in LANGUAGES] == ["1,234.50", "1\u202f234,50"]
    assert amount(85.0, "fr") == "85"
    assert [day(0, each) for each in LANGUAGES] == ["1 Jan 1970", "01.01.1970"]
