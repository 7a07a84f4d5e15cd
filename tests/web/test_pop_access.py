"""Who gets at calls where callers prove who they are: agents at theirs, telephony by a token, nobody else."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from urllib.error import HTTPError

import pytest
from arbiter_at_work import AT_RISK, LOYAL, settings_for
from callers import Telephony
from pages_at_work import Complaints, Desk, Site
from playwright.sync_api import BrowserContext, expect
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from tokens_at_work import AUDIENCE, ISSUER, Issuer, key_set

from engine.bootstrap import Application
from engine.protection import protection_of
from engine.service.watching import UNWATCHED
from engine.web.app import create_app
from engine.web.authorising import Authorise, by_token
from engine.web.serving import http_served
from engine.web.sessions import IDLE_S, LINK_S

ROLES = """
[[grants]]
scope = "desk"
roles = ["decide", "outcome", "consent"]

[[grants]]
subject = "shop"
roles = ["decide"]
"""
JSON = {"Content-Type": "application/json"}


class Wall:
    """The clock of a site, to be set."""

    now_s = 1_900_000_000.0

    def __call__(self) -> float:
        return self.now_s


def bearing(subject: str, scope: str = "desk") -> dict[str, str]:
    """Headers of somebody with a token."""
    return {"Authorization": f"Bearer {Issuer().token(subject, scope=scope)}"}


@pytest.fixture
def authorise(tmp_path: Path) -> Authorise:
    """Asks for tokens."""
    (tmp_path / "roles.toml").write_text(ROLES)
    (tmp_path / "keys.json").write_text(key_set(Issuer()))
    settings = settings_for(
        tmp_path,
        roles_file=tmp_path / "roles.toml",
        token_keys=tmp_path / "keys.json",
        token_issuer=ISSUER,
        token_audience=AUDIENCE,
    )
    found = protection_of(settings, UNWATCHED).authoriser
    assert found is not None
    return by_token(found)


@pytest.fixture
def wall() -> Wall:
    """A clock at some time."""
    return Wall()


@pytest.fixture
def guarded(application: Application, authorise: Authorise, wall: Wall) -> Iterator[Site]:
    """The pages for agents with tokens."""
    app = create_app(application, authorise, clock_s=wall)
    with http_served(app, ("127.0.0.1", 0), drain_seconds=1, ending=app.state.calls.close) as port:
        yield Site(f"http://127.0.0.1:{port}", app)


@pytest.fixture
def asking(application: Application, authorise: Authorise) -> Iterator[TestClient]:
    """Asks the same without a browser."""
    app = create_app(application, authorise)
    with TestClient(app, base_url="http://localhost", follow_redirects=False) as client:
        yield client


@pytest.fixture
def ring(application: Application, guarded: Site, like: Callable[[str], str]) -> Telephony:
    """Telephony of the guarded site."""
    return Telephony(application, guarded, like)


def sign_in(context: BrowserContext, site: Site, who: str) -> None:
    """A session by a token, as a desktop begins one."""
    reply = context.request.post(site.at("/session"), headers=bearing(who))
    assert reply.status == 204


def test_two_agents_at_once_see_their_own_calls(
    guarded: Site, desk: Desk, ring: Telephony, complaints: Complaints
) -> None:
    """Each desk gets its ring; the other's call is not shown to it."""
    complaints.expect("403")
    first, second = desk(), desk()
    for page, who in ((first, "agent-1"), (second, "agent-2")):
        sign_in(page.context, guarded, who)
        page.goto(guarded.at("/pop"))

    ours = ring.ring(AT_RISK, agent="agent-1", **bearing("telephony"))
    theirs = ring.ring(LOYAL, agent="agent-2", **bearing("telephony"))

    expect(first.get_by_role("heading", name=ours.customers[0])).to_be_visible()
    expect(second.get_by_role("heading", name=theirs.customers[0])).to_be_visible()
    first.goto(guarded.at(f"/pop/{theirs.call}"))
    expect(first.get_by_role("heading", name="This call is somebody else’s")).to_be_visible()
    expect(first.get_by_text(theirs.customers[0])).to_have_count(0)


def test_link_opens_one_call_once(
    guarded: Site, desk: Desk, ring: Telephony, complaints: Complaints, wall: Wall
) -> None:
    """Without signing in: no other call, not twice, not after a minute; its address names nobody."""
    complaints.expect("401", "403")
    ours = ring.ring(AT_RISK, agent="agent-1", **bearing("telephony"))
    other = ring.ring(LOYAL, agent="agent-1", **bearing("telephony"))
    page, thief = desk(), desk()

    page.goto(ours.link)

    expect(page.get_by_role("heading", name=ours.customers[0])).to_be_visible()
    assert page.url == guarded.at(f"/pop/{ours.call}")
    assert ours.phone[1:] not in ours.link
    page.locator(".primary").get_by_role("button", name="Accepted").click()
    expect(page.locator(".primary .said")).to_contain_text("Accepted")
    for address in (ours.link, guarded.at(f"/pop/{ours.call}")):
        thief.goto(address)
        expect(thief.get_by_role("heading", name="You are not signed in")).to_be_visible()
    wall.now_s += LINK_S + 1
    thief.goto(other.link)
    expect(thief.get_by_role("heading", name="You are not signed in")).to_be_visible()
    page.goto(guarded.at(f"/pop/{other.call}"))
    expect(page.get_by_role("heading", name="You are not signed in")).to_be_visible()


def test_session_that_ended_shows_nothing_of_the_customer_any_more(
    guarded: Site, desk: Desk, ring: Telephony, complaints: Complaints, wall: Wall
) -> None:
    """A click after a quarter of an hour leads to the page that says so, and records nothing."""
    complaints.expect("401")
    page = desk()
    sign_in(page.context, guarded, "agent-1")
    ours = ring.ring(AT_RISK, agent="agent-1", **bearing("telephony"))
    page.goto(guarded.at(f"/pop/{ours.call}"))
    expect(page.locator(".primary")).to_be_visible()
    wall.now_s += IDLE_S + 1

    page.locator(".primary").get_by_role("button", name="Accepted").click()

    expect(page.get_by_role("heading", name="You are not signed in")).to_be_visible()
    expect(page.get_by_text(ours.customers[0])).to_have_count(0)
    assert ring.heard(ours.customers[0]) == []


def test_consent_that_an_agent_records_names_the_agent(
    guarded: Site, desk: Desk, ring: Telephony, application: Application
) -> None:
    """The ledger keeps who proved to be the caller."""
    page = desk()
    sign_in(page.context, guarded, "agent-1")
    ours = ring.ring(AT_RISK, agent="agent-1", **bearing("telephony"))
    page.goto(guarded.at(f"/pop/{ours.call}"))

    page.get_by_role("button", name="Customer objects to marketing").click()
    expect(page.get_by_text("Objection recorded")).to_be_visible()

    held = application.consents.get(ours.customers[0]).records
    (will,) = [each.record for each in held if each.record.source == "pop:call"]
    entry = application.ledger.read(will.position)
    assert entry is not None
    assert (entry.recorded_by, will.actor) == ("agent-1", "agent:agent-1")


def test_desktop_that_is_allowed_shows_the_page_in_a_frame(
    application: Application, authorise: Authorise, desk: Desk, like: Callable[[str], str]
) -> None:
    """On another site, by the link alone: the page works there, its cookie kept for that desktop only."""
    shown = {"frame": ""}
    desktop = Starlette(routes=[Route("/", lambda _request: HTMLResponse(shown["frame"]))])
    with ExitStack() as running:
        hosted = running.enter_context(http_served(desktop, ("127.0.0.1", 0), drain_seconds=1))
        host = f"http://localhost:{hosted}"
        settings = application.settings.model_copy(update={"web_frame_ancestors": (host,)})
        app = create_app(replace(application, settings=settings), authorise)
        port = running.enter_context(
            http_served(app, ("127.0.0.1", 0), drain_seconds=1, ending=app.state.calls.close)
        )
        telephony = Telephony(application, Site(f"http://127.0.0.1:{port}", app), like)
        ringing = telephony.ring(AT_RISK, agent="agent-1", **bearing("telephony"))
        shown["frame"] = (
            f'<title>Desktop</title><link rel=icon href="data:,">'
            f'<iframe src="{ringing.link}" width=400 height=800></iframe>'
        )
        page = desk()

        page.goto(f"{host}/")
        framed = page.frame_locator("iframe")
        framed.locator(".primary").get_by_role("button", name="Accepted").click()

        expect(framed.locator(".primary .said")).to_contain_text("Accepted")


def test_telephony_needs_what_it_lends(asking: TestClient) -> None:
    """No token is 401; the roles of an agent are needed, as that is what a link opens."""
    said = {"call": "c-1", "identity": "phone:+41791000131", "agent": "agent-1"}

    replies = [
        asking.post("/cti/calls", json=said),
        asking.post("/cti/calls", json=said, headers=bearing("shop", scope="")),
        asking.post("/cti/calls", json=said, headers=bearing("telephony")),
        asking.post("/cti/calls/c-1/ended", headers={**JSON, **bearing("shop", scope="")}),
        asking.post("/cti/calls/c-1/ended", headers={**JSON, **bearing("telephony")}),
        asking.post("/cti/calls/c-0/ended", headers={**JSON, **bearing("telephony")}),
    ]

    assert [reply.status_code for reply in replies] == [401, 403, 201, 403, 204, 404]


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"call": "c/../1", "identity": "phone:+41791000131", "agent": "a"}, "call"),
        ({"call": "c-2", "identity": "+41791000131", "agent": "a"}, "identity"),
        ({"call": "c-2", "identity": "phone:1", "agent": ""}, "agent"),
        ({"call": "c-2", "identity": "phone:1", "agent": "a", "name": "x" * 81}, "name"),
        ({"call": "c-2", "identity": "phone:1", "agent": "a", "extra": 1}, "body"),
        ({"call": "c-2", "identity": "phone:1", "agent": "a", "name": "x" * 5000}, "body"),
    ],
)
def test_call_that_makes_no_sense_is_refused_with_its_field(
    asking: TestClient, said: dict[str, object], field: str
) -> None:
    """As everywhere in the contract: 400 and what is wrong."""
    reply = asking.post("/cti/calls", content=json.dumps(said), headers={**JSON, **bearing("telephony")})

    assert reply.status_code == 400
    assert [v["field"] for v in reply.json()["details"][1]["fieldViolations"]] == [field]


def test_call_of_another_is_not_taken_over(asking: TestClient) -> None:
    """The same call said again is the same; with another number, agent, or after its end, it is refused."""
    said = {"call": "c-3", "identity": "phone:+41791000131", "agent": "agent-1"}
    headers = bearing("telephony")

    again = [asking.post("/cti/calls", json=said, headers=headers).status_code for _ in range(2)]
    taken = asking.post("/cti/calls", json={**said, "agent": "agent-2"}, headers=headers)
    asking.post("/cti/calls/c-3/ended", headers={**JSON, **headers})
    ended = asking.post("/cti/calls", json=said, headers=headers)

    assert (again, taken.status_code, ended.status_code) == ([201, 201], 409, 409)


def test_form_that_is_not_ours_changes_nothing(asking: TestClient) -> None:
    """Without the session's token, from another site, or too large, it is refused calmly."""
    assert asking.post("/session", headers=bearing("agent-1")).status_code == 204
    said = {"call": "c-4", "identity": "phone:+41791000131", "agent": "agent-1"}
    asking.post("/cti/calls", json=said, headers=bearing("telephony"))
    found = re.search(r'name="csrf" value="(\w+)"', asking.get("/pop/c-4").text)
    assert found is not None
    ours = {"csrf": found[1], "intent": "cancel"}

    refused = [
        asking.post("/pop/c-4/intent", data={"intent": "cancel"}),
        asking.post("/pop/c-4/intent", data=ours, headers={"Sec-Fetch-Site": "cross-site"}),
        asking.post("/pop/c-4/intent", data=ours, headers={"Origin": "https://elsewhere.example"}),
        asking.post("/look", data={"theme": "dark"}, headers={"Sec-Fetch-Site": "cross-site"}),
        asking.post("/session/end", headers={"Sec-Fetch-Site": "cross-site"}),
        asking.post("/pop/c-4/intent", data={**ours, "rest": "x" * 70_000}),
    ]
    taken = asking.post("/pop/c-4/intent", data=ours, headers={"Sec-Fetch-Site": "same-origin"})

    assert [reply.status_code for reply in refused] == [403, 403, 403, 403, 403, 413]
    assert (taken.status_code, taken.headers["location"]) == (303, "/pop/c-4")
    assert '<option value="cancel" selected>' in asking.get("/pop/c-4").text


def test_plain_link_of_telephony_opens_the_call_of_who_is_signed_in(asking: TestClient) -> None:
    """Also with a plus that the link lost; the address that is left names nobody."""
    asking.post("/session", headers=bearing("agent-1"))

    plain = asking.get("/pop?identity=phone:+41791000133&call=c-5")
    bad = asking.get("/pop?identity=phone:+41791000133&call=..")
    shown = asking.get("/pop/c-5")

    assert (plain.status_code, plain.headers["location"]) == (303, "/pop/c-5")
    assert "C0133" in shown.text
    assert bad.status_code == 400


def test_nobody_gets_in_without_a_session(asking: TestClient) -> None:
    """Each page says it calmly, events are refused, and a bad token begins nothing."""
    pages = ["/", "/pop", "/pop/waiting", "/pop/c-1", "/pop?identity=phone:1&call=x", "/pop?link=made-up"]

    assert {asking.get(path).status_code for path in pages} == {401}
    assert asking.get("/pop/events").status_code == 204
    assert asking.get("/pop/c-1/events").status_code == 404
    assert asking.post("/session", headers={"Authorization": "Bearer x"}).status_code == 401


def test_role_that_is_no_agents_sees_no_calls(asking: TestClient) -> None:
    """Somebody who may only decide has no page at all."""
    asking.post("/session", headers=bearing("shop", scope=""))

    assert asking.get("/pop/waiting").status_code == 403
    assert asking.get("/pop").status_code == 403
    assert "No page is open to your role" in asking.get("/").text


def test_who_signs_out_is_out(asking: TestClient) -> None:
    """The cookie is worth nothing afterwards, even if it were kept."""
    asking.post("/session", headers=bearing("agent-1"))
    assert asking.get("/pop/waiting").status_code == 200
    kept = dict(asking.cookies)

    out = asking.post("/session/end", headers={"Sec-Fetch-Site": "same-origin"})
    asking.cookies.update(kept)

    assert out.status_code == 303
    assert asking.get("/pop/waiting").status_code == 401


@pytest.mark.parametrize("back", ["https://elsewhere.example", "//elsewhere.example", "/\\elsewhere", "x"])
def test_choice_leads_back_to_our_own_pages_only(asking: TestClient, back: str) -> None:
    """Nobody is led elsewhere by a form of ours."""
    reply = asking.post("/look", data={"language": "fr", "back": back})

    assert reply.headers["location"] == "/"
    assert "arbiter_language=fr" in reply.headers["set-cookie"]


def test_link_is_refused_over_http_like_any_other(guarded: Site) -> None:
    """Telephony without a token gets a status it can read."""
    with pytest.raises(HTTPError) as refused:
        guarded.post("/cti/calls", b"{}")
    with refused.value:
        assert refused.value.code == 401
