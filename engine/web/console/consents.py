"""Consents: what a customer said and when, that nothing was changed, what is held of them, and its erasure."""

from __future__ import annotations

import json
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from engine.bootstrap import wall_clock_ms
from engine.decisionlog.ledger import ConsentEntry
from engine.decisionlog.verifying import Verification, verify
from engine.errors import SetupInvalid
from engine.logfiles import CONSENTS, OUTCOMES, checkpoints_of, log_directory
from engine.personal import erase_person, export_person, holdings_of, names_nobody
from engine.service.audit import CONSOLE
from engine.service.consent_texts import shown_texts
from engine.service.persons import held_of_person, person
from engine.service.privacy import Holdings
from engine.service.uses import uses_of
from engine.stores import consent_cipher
from engine.web.console.pages import House, asked, put, reason_in, said
from engine.web.look.pages import form_of
from engine.web.sessions import Session

_USES: Final = 50
"""Contacts that are shown, the latest; the command lists all."""


def found(house: House, request: Request, session: Session) -> Response:
    """A customer's consents, their ledger, and what rested on them; without a customer the question for one."""
    customer = asked(request, "customer")
    if not customer:
        return put(request, session, "consents", customer="", held=None, entries=(), uses=(), person=None)
    application = house.application
    held = application.consents.get(customer)
    uses = list(uses_of(application.outcomes_log, application.log, held.customer_id))
    return put(
        request,
        session,
        "consents",
        customer=held.customer_id,
        asked_for=customer,
        held=held,
        effective=_effective(held.effective),
        entries=_entries(house, held.customer_id),
        uses=tuple(reversed(uses[-_USES:])),
        more=max(0, len(uses) - _USES),
        person=person(_holdings(house), held.customer_id),
    )
