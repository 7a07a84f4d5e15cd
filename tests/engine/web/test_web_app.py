"""The app around what it serves: probes, headers, hosts, other origins."""

from __future__ import annotations

import urllib.error
import urllib.request
from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from engine.bootstrap import Application
from engine.errors import SetupInvalid
from engine.settings import load_settings
from engine.web.app import create_app
from engine.web.serving import http_served

DESK = "https://desk.example.com"


def asking(application: Application, **changed: object) -> TestClient:
    """A client of the app with other settings."""
    settings = application.settings.model_copy(update=changed)
    return TestClient(create_app(replace(application, settings=settings)), base_url="http://localhost")


def test_probes_say_that_it_lives_and_what_serves(application: Application, browser: TestClient) -> None:
    """One says that the process answers, the other that it can decide, and by which rules."""
    alive, ready = browser.get("/healthz"), browser.get("/readyz")

    assert (alive.status_code, alive.text) == (200, "alive\n")
    assert (ready.status_code, ready.text) == (200, f"serving {application.live.current.versions.rules}\n")


@pytest.mark.parametrize("path", ["/healthz", "/nowhere"])
def test_every_reply_tells_browsers_what_it_may_do(browser: TestClient, path: str) -> None:
    """Found or not: nothing inline, nothing sniffed, kept, framed or told to others."""
    headers = browser.get(path).headers

    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"


def test_desktop_that_is_allowed_may_frame_the_pages(application: Application) -> None:
    """The allow-list reaches the policy; the header that cannot carry one is left out."""
    with asking(application, web_frame_ancestors=(DESK,)) as client:
        headers = client.get("/healthz").headers

    assert f"frame-ancestors {DESK}" in headers["content-security-policy"]
    assert "x-frame-options" not in headers


def test_strange_name_for_this_machine_is_refused(browser: TestClient) -> None:
    """A page whose host was made to point here gets nothing."""
    refused = browser.get("/readyz", headers={"Host": "rebound.example.com"})

    assert refused.status_code == 400
    assert "serving" not in refused.text


def test_any_name_will_do_where_others_are_to_reach_it(application: Application) -> None:
    """Listening for other machines, it cannot know by which name they ask."""
    with asking(application, web="0.0.0.0:8080") as client:
        reply = client.get("/readyz", headers={"Host": "arbiter.internal:8080"})

    assert reply.status_code == 200


@pytest.mark.parametrize(("allowed", "told"), [((), None), ((DESK,), DESK)])
def test_pages_of_other_origins_may_ask_only_where_allowed(
    application: Application, allowed: tuple[str, ...], told: str | None
) -> None:
    """No origin is allowed by default."""
    with asking(application, web_origins=allowed) as client:
        reply = client.get("/readyz", headers={"Origin": DESK})

    assert reply.headers.get("access-control-allow-origin") == told


@pytest.mark.parametrize("wrong", ["desk.example.com", "https://desk.example.com/pop", "*"])
def test_origin_of_another_form_is_refused(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    """The environment says which, and how to write it."""
    monkeypatch.setenv("ARBITER_WEB_ORIGINS", f"{DESK},{wrong}")

    with pytest.raises(SetupInvalid, match=r"ARBITER_WEB_ORIGINS: .*write origins such as"):
        load_settings({})


def test_origins_are_parted_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one writes several into an environment variable."""
    monkeypatch.setenv("ARBITER_WEB_FRAME_ANCESTORS", f"{DESK}, http://localhost:3000")

    settings = load_settings({})

    assert settings.web_frame_ancestors == (DESK, "http://localhost:3000")


def test_app_is_served_on_a_port_until_the_block_ends(application: Application) -> None:
    """With headers of its own, and none that says by what."""
    with (
        http_served(create_app(application), ("127.0.0.1", 0), drain_seconds=1) as port,
        urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=30) as reply,
    ):
        told, headers = reply.read(), reply.headers

    with pytest.raises(urllib.error.URLError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=30)
    assert told == b"alive\n"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["server"] is None
