"""The pages in a real browser: a server in this process, Debian's Chromium, and what both complained of."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from callers import Telephony
from pages_at_work import DESK, Complaints, Site
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from engine.bootstrap import Application
from engine.web.app import create_app
from engine.web.serving import http_served

THIS_MACHINE = ("127.0.0.1", 0)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser for the tests of a module: its event loop must not outlive them in this thread."""
    found = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("there is no chromium on the PATH, and CI must look at the pages")
        pytest.skip("there is no chromium on the PATH; CHROMIUM names one that is elsewhere")
    as_root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=as_root)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def site(application: Application) -> Iterator[Site]:
    """The pages over the shared application, open to all as in the demo."""
    app = create_app(application)
    with http_served(app, THIS_MACHINE, drain_seconds=1, ending=app.state.calls.close) as port:
        yield Site(f"http://127.0.0.1:{port}", app)


@pytest.fixture
def complaints() -> Iterator[Complaints]:
    """Fails the test where a page complains of anything that the test does not expect."""
    kept = Complaints([])
    yield kept
    assert kept.unexpected() == []


@pytest.fixture
def desk(chromium: Browser, complaints: Complaints) -> Iterator[Callable[..., Page]]:
    """Opens a fresh page with cookies of its own; `options` are those of a browser context."""
    opened: list[BrowserContext] = []

    def open_page(**options: Any) -> Page:
        context = chromium.new_context(**{"viewport": DESK, "locale": "en-GB", **options})
        context.set_default_timeout(5_000)
        opened.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints(message))
        page.on("pageerror", lambda error: complaints.found.append(str(error)))
        return page

    yield open_page
    for context in opened:
        context.close()


@pytest.fixture
def telephony(application: Application, site: Site, like: Callable[[str], str]) -> Telephony:
    """Rings at the shared site."""
    return Telephony(application, site, like)
