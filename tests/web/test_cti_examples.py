"""The telephone system and the desktop of docs/examples/cti: a call rings through to an agent's panel."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import ThreadingHTTPServer
from types import ModuleType

import pytest
from arbiter_at_work import REPOSITORY
from pages_at_work import Complaints, Site
from playwright.sync_api import Page, expect

from engine.bootstrap import Application
from engine.web.app import create_app
from engine.web.serving import http_served

FOLDER = REPOSITORY / "docs" / "examples" / "cti"
THIS_MACHINE = ("127.0.0.1", 0)


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """An example as a module."""
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module


@contextmanager
def at_work(server: ThreadingHTTPServer) -> Iterator[str]:
    """Serves while the block runs; the address."""
    work = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    work.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        work.join()
        server.server_close()


@contextmanager
def framed(application: Application, *origins: str) -> Iterator[Site]:
    """The pages where desktops of these origins may frame them."""
    settings = application.settings.model_copy(update={"web_frame_ancestors": origins})
    app = create_app(replace(application, settings=settings))
    with http_served(app, THIS_MACHINE, drain_seconds=1, ending=app.state.calls.close) as port:
        yield Site(f"http://127.0.0.1:{port}", app)


def test_a_ring_gives_a_link_and_the_call_ends(
    example: Callable[[str], ModuleType], site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """As its user starts it; by name, number or identity."""
    ring = example("ring")

    code = ring.main(["at-risk", "+41791000133", "--to", site.address, "--talk", "0", "--pause", "0"])

    told = capsys.readouterr().out
    assert code == 0
    assert told.count(f"{site.address}/pop?link=") == 2
    assert told.count("has hung up") == 2
    assert "phone:+41791000131 rings: wants to cancel" in told


def test_what_went_wrong_is_told_with_what_to_do(
    example: Callable[[str], ModuleType], site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where nobody answers, or Arbiter refuses the call."""
    ring = example("ring")

    codes = [
        ring.main(["loyal", "--to", "http://127.0.0.1:9"]),
        ring.main(["phone:", "--to", site.address]),
        ring.main(["loyal", "--token-file", "/nowhere"]),
    ]

    told = capsys.readouterr().err.splitlines()
    assert codes == [1, 1, 1]
    assert told[0].startswith("error: nobody answers at http://127.0.0.1:9")
    assert "make serve" in told[0]
    assert "400" in told[1]
    assert "identity is TYPE:VALUE" in told[1]
    assert "/nowhere" in told[2]


def test_help_names_the_callers(
    example: Callable[[str], ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    """One need not know the demo company's numbers."""
    with pytest.raises(SystemExit):
        example("ring").main(["--help"])

    told = capsys.readouterr().out
    assert "household" in told
    assert "+41790000000" in told


def test_a_desktop_shows_the_call_in_its_panel(
    example: Callable[[str], ModuleType],
    application: Application,
    desk: Callable[..., Page],
    complaints: Complaints,
) -> None:
    """At the ring, without a name or number in any address, and hidden when the call ends."""
    complaints.expect("Blocked autofocusing")  # of a frame, by the browser, for other sites' sake
    desktop = example("host").Desktop(THIS_MACHINE, "")
    with at_work(desktop) as origin, framed(application, origin) as site:
        desktop.telephony = example("ring").Telephony(site.address, "agent-7")
        page = desk()
        page.goto(origin)

        page.get_by_role("button", name="at-risk").click()
        expect(page.get_by_text("at-risk is on the line.")).to_be_visible()
        panel = page.locator("iframe").element_handle().content_frame()
        assert panel is not None
        panel.wait_for_url("**/pop/desk-*")

        assert "41791000131" not in panel.url
        assert panel.evaluate("document.documentElement.scrollWidth <= 400")
        expect(page.frame_locator("iframe").get_by_role("heading", name="C0131")).to_be_visible()
        page.get_by_role("button", name="Hang up").click()
        expect(page.frame_locator("iframe").get_by_text("The call has ended")).to_be_visible()
        expect(page.frame_locator("iframe").get_by_text("C0131")).to_have_count(0)


def test_a_stranger_shows_no_panel_and_rings_nobody(
    example: Callable[[str], ModuleType],
    application: Application,
    desk: Callable[..., Page],
    complaints: Complaints,
) -> None:
    """The browser obeys the setting; the desktop says which one it is, and who may ring."""
    host = example("host")
    desktop = host.Desktop(THIS_MACHINE, "")
    complaints.expect("frame-ancestors", "Refused to frame", "Framing")
    with at_work(desktop) as origin, framed(application, "https://desk.example.com") as site:
        desktop.telephony = example("ring").Telephony(site.address, "agent-7")
        page = desk()
        page.goto(origin)
        page.get_by_role("button", name="loyal").click()
        expect(page.get_by_text("loyal is on the line.")).to_be_visible()
        page.wait_for_function("document.querySelector('iframe').contentDocument === null")

        shown = page.locator("iframe").element_handle().content_frame()
        refused = page.request.post(f"{origin}/ring", data='{"caller": "loyal"}')
        told = host.trouble_with(site.address, origin)

    assert shown is None or not shown.url.startswith(site.address)
    assert refused.status == 403
    assert told.endswith(f"start it with ARBITER_WEB_FRAME_ANCESTORS={origin}")
