"""The page of a call while parts of the engine are away: it says so, proposes less, and recovers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from arbiter_at_work import AT_RISK
from callers import Telephony, proposed
from pages_at_work import Complaints, Desk, Site, accessibility
from playwright.sync_api import expect

from engine.bootstrap import Application
from engine.service.consents import Consents
from engine.service.decisions import Decisions
from engine.service.late_writes import NOBODY_ERASED
from engine.stores import consent_cipher
from engine.web.app import create_app
from engine.web.serving import http_served
from feature_store.errors import StoreError


class Faltering:
    """A store that is there or away, as the test says; all else is the real one's."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.away: Sequence[str] = ()

    def __getattr__(self, name: str) -> Any:
        if name in self.away:
            raise StoreError("away")
        return getattr(self._store, name)


@pytest.fixture
def faltering(application: Application) -> Faltering:
    """A store to take away."""
    return Faltering(application.store)


@pytest.fixture
def shaky(application: Application, faltering: Faltering) -> Iterator[Site]:
    """Pages of the shared application over that store."""
    store: Any = faltering
    own = replace(
        application,
        store=store,
        decisions=Decisions(
            live=application.live,
            store=store,
            log=application.log,
            clock=lambda: time.time_ns() // 1_000_000,
            request_id_ttl_ms=1000,
        ),
        consents=Consents(
            live=application.live,
            store=store,
            ledger=application.ledger,
            clock=lambda: time.time_ns() // 1_000_000,
            cipher=consent_cipher(application.settings),
            late=NOBODY_ERASED,
        ),
    )
    app = create_app(own)
    with http_served(app, ("127.0.0.1", 0), drain_seconds=1, ending=app.state.calls.close) as port:
        yield Site(f"http://127.0.0.1:{port}", app)


def test_degraded_decision_says_what_it_lacks(
    shaky: Site, faltering: Faltering, desk: Desk, telephony: Telephony, application: Application
) -> None:
    """Consents that cannot be read are taken as refused; once they can, the page offers what is new."""
    telephony.site = shaky
    ringing = telephony.ring(AT_RISK)
    page = desk()
    faltering.away = ("read",)

    page.goto(shaky.at(f"/pop/{ringing.call}"))

    expect(page.get_by_text("Made with less than usual.")).to_be_visible()
    expect(page.get_by_text("only what the contract needs is proposed")).to_be_visible()
    expect(page.get_by_text("They cannot be read now. Take them as refused.")).to_be_visible()
    known = {action.id: action.purpose for action in application.live.current.rulebook.actions}
    assert {known[each] for each in proposed(page)} == {"service"}
    assert accessibility(page) == []
    faltering.away = ()
    page.get_by_role("button", name="Show it").click()
    expect(page.get_by_text("Made with less than usual.")).to_have_count(0)
    expect(page.locator(".consents")).to_contain_text("Marketing")


def test_page_recovers_by_itself_when_the_store_is_back(
    shaky: Site, faltering: Faltering, desk: Desk, telephony: Telephony, complaints: Complaints
) -> None:
    """Nobody can be looked for: a calm page that tries again, until the customer is there."""
    telephony.site = shaky
    complaints.expect("503")
    ringing = telephony.ring(AT_RISK)
    page = desk()
    faltering.away = ("resolve", "read")

    page.goto(shaky.at(f"/pop/{ringing.call}"))
    expect(page.get_by_text("This page tries again by itself.")).to_be_visible()
    faltering.away = ()

    expect(page.locator(".primary")).to_be_visible()


def test_answer_that_cannot_be_decided_shows_nothing_to_propose(
    shaky: Site, faltering: Faltering, desk: Desk, telephony: Telephony, application: Application
) -> None:
    """A customer who is gone meanwhile: what was proposed before is not left on the page."""
    telephony.site = shaky
    ringing = telephony.ring(AT_RISK)
    page = desk()
    page.goto(shaky.at(f"/pop/{ringing.call}"))
    expect(page.locator(".primary")).to_be_visible()
    application.store.erase(ringing.customers[0])

    page.get_by_label("Reason of the call").select_option("billing")

    expect(page.get_by_role("heading", name="There is no such customer")).to_be_visible()
    expect(page.locator(".primary")).to_have_count(0)


def test_page_says_when_the_server_is_away_and_when_it_is_back(
    shaky: Site, desk: Desk, telephony: Telephony, complaints: Complaints
) -> None:
    """A note over the page, which stays readable; a click that went nowhere changed nothing."""
    telephony.site = shaky
    complaints.expect("ERR_INTERNET_DISCONNECTED", "ERR_NETWORK", "Failed to load", "htmx:")
    page = desk()
    page.goto(shaky.at(f"/pop/{telephony.ring(AT_RISK).call}"))
    page.context.set_offline(True)

    page.locator(".primary").get_by_role("button", name="Accepted").click()
    expect(page.get_by_text("No connection to Arbiter")).to_be_visible()
    page.context.set_offline(False)

    page.locator(".primary").get_by_role("button", name="Accepted").click()
    expect(page.locator(".primary .said")).to_contain_text("Accepted")
    expect(page.get_by_text("No connection to Arbiter")).to_have_count(0)
