"""The agent's desk in a browser: it waits, follows the reader's choices, and is for everybody to use."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pages_at_work import PANEL, Site, accessibility
from playwright.sync_api import Page, expect


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_waiting_page_is_for_everybody(site: Site, desk: Callable[..., Page], scheme: str) -> None:
    """No barrier in either theme, nor in a narrow panel, and nothing to scroll sideways."""
    page = desk(color_scheme=scheme, viewport=PANEL)

    page.goto(site.at("/pop"))

    expect(page.get_by_role("heading", name="Waiting for a call")).to_be_visible()
    assert accessibility(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_reader_chooses_language_and_colours(site: Site, desk: Callable[..., Page]) -> None:
    """A click each, kept by a cookie; the page comes back to where it was."""
    page = desk()
    page.goto(site.at("/pop/waiting"))

    page.get_by_role("button", name="FR").click()
    expect(page.get_by_role("heading", name="En attente d’un appel")).to_be_visible()
    page.get_by_role("button", name="Couleurs sombres").click()

    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert page.url == site.at("/pop/waiting")
    assert page.evaluate("localStorage.length") == 0


def test_open_access_is_told_and_its_role_can_be_chosen(site: Site, desk: Callable[..., Page]) -> None:
    """Whoever tries Arbiter out sees what a role sees, and that access is open."""
    page = desk()
    page.goto(site.at("/"))

    expect(page.get_by_text("Open access")).to_be_visible()
    page.get_by_label("You are").select_option("marketer")

    expect(page.get_by_role("link", name="Calls")).to_have_count(0)
