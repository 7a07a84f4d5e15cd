"""Telephone calls for tests: customers with numbers of their own, and what became of proposals."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable
from dataclasses import dataclass

from pages_at_work import Site
from playwright.sync_api import Page

from engine.bootstrap import Application
from feature_store.state import Identity

_numbers = itertools.count(1)
AGENT = "agent-7"


@dataclass(frozen=True, slots=True)
class Ringing:
    """A call that rings: its id, who calls, by what, and the link that telephony got."""

    call: str
    customers: tuple[str, ...]
    phone: str
    link: str


@dataclass(slots=True)
class Telephony:
    """Rings and hangs up as a telephone system does."""

    application: Application
    site: Site
    like: Callable[[str], str]

    def ring(
        self, *models: str, name: str = "", phone: str = "", agent: str = AGENT, **headers: str
    ) -> Ringing:
        """A call from a fresh number that one customer like each model carries."""
        number = next(_numbers)
        phone = phone or f"+4178{os.getpid() % 1000:03d}{number:04d}"
        customers = tuple(self.like(model) for model in models)
        self.application.store.link((Identity("phone", phone), customer) for customer in customers)
        call = f"c-{os.getpid()}-{number}"
        said = {"call": call, "identity": f"phone:{phone}", "agent": agent, "name": name}
        _, body = self.site.post("/cti/calls", json.dumps(said).encode(), **headers)
        return Ringing(call, customers, phone, json.loads(body)["link"])

    def hang_up(self, ringing: Ringing, **headers: str) -> None:
        """The call ends."""
        status, _ = self.site.post(f"/cti/calls/{ringing.call}/ended", b"", **headers)
        assert status == 204

    def heard(self, customer: str) -> list[tuple[str, str]]:
        """Actions and outcomes that count for a customer, in their order."""
        state = self.application.store.read(customer)
        assert state is not None
        return [(event.action_id, event.outcome.value) for event in state.contacts]


def first_action(page: Page) -> str:
    """The id of the action that is proposed first."""
    named = page.locator(".primary > h2").get_attribute("id")
    assert named is not None
    return named.removeprefix("action-")


def proposed(page: Page) -> list[str]:
    """Ids of the actions that are proposed, first to last."""
    found = page.locator(".proposals h2[id]").evaluate_all("all => all.map(each => each.id)")
    return [name.removeprefix("action-") for name in found]
