"""Consents: what a customer said and when, that nothing was changed, what is held, and its erasure."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from engine.bootstrap import wall_clock_ms
from engine.decisionlog.ledger import ConsentEntry, outcome_log
from engine.decisionlog.verifying import Verification, verify
from engine.domain import ConsentUsed
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
    """A customer's consents, their ledger, and what rested on them; else the question for a customer."""
    customer = asked(request, "customer")
    if not customer:
        return put(request, session, "consents", customer="", held=None, entries=(), uses=(), person=None)
    application = house.application
    held = application.consents.get(customer)
    outcomes = outcome_log(log_directory(application.settings, OUTCOMES))
    uses = list(uses_of(outcomes, application.log, held.customer_id))
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


def _effective(
    effective: tuple[tuple[str, ConsentUsed], ...],
) -> tuple[tuple[ConsentUsed, tuple[str, ...]], ...]:
    """What holds now, with the channels where it is alike."""
    channels: dict[tuple[str, bool, str, str], list[str]] = {}
    first: dict[tuple[str, bool, str, str], ConsentUsed] = {}
    for channel, used in effective:
        key = (used.purpose, used.permitted, str(used.state), str(used.legal_basis))
        first.setdefault(key, used)
        channels.setdefault(key, []).append(channel)
    return tuple((first[key], tuple(names)) for key, names in sorted(channels.items()))


def _entries(house: House, customer_id: str) -> tuple[tuple[int, ConsentEntry], ...]:
    """Everything a customer said as it was received, the latest first, with its place in the ledger."""
    cipher = consent_cipher(house.application.settings)
    found = [
        (position, replace(entry, consent=shown_texts(entry.consent, cipher)))
        for position, entry in house.application.ledger.replay_places()
        if entry.customer_id == customer_id
    ]
    return tuple(reversed(found))


def _holdings(house: House) -> Holdings:
    application = house.application
    return holdings_of(application.settings, store=application.store, letters=application.letters)


def verified(house: House, request: Request, session: Session) -> Response:
    """Whether the ledger and the proofs of use are whole, checked now from their first entry."""
    settings = house.application.settings
    checked: dict[str, Verification] = {
        log: verify(log_directory(settings, log), checkpoints_of(settings, log))
        for log in (CONSENTS, OUTCOMES)
    }
    return put(request, session, "verified", checked=checked)


def export(house: House, request: Request, session: Session) -> Response:
    """All that is held of a customer, as a file. Raises SetupInvalid without a reason."""
    customer, reason = _checked(request)
    document = export_person(
        house.application.settings,
        _holdings(house),
        customer,
        schema=house.application.live.current.schema,
        who=session.who,
        reason=reason,
    )
    return Response(
        json.dumps(document, indent=2, ensure_ascii=False),
        media_type="application/json",
        headers={"Content-Disposition": 'attachment; filename="export.json"'},
    )


def confirm(house: House, request: Request, session: Session) -> Response:
    """What there is of a customer before it is erased, and that this cannot be undone."""
    customer = form_of(request).get("customer", "")
    return _confirmation(house, request, session, customer, lacking=False)


def _confirmation(
    house: House, request: Request, session: Session, customer: str, *, lacking: bool
) -> Response:
    holdings = _holdings(house)
    whole = person(holdings, customer)
    if whole.into:
        raise SetupInvalid(said(request)("console.consents.merged_into", into=whole.into))
    held = held_of_person(holdings, whole)
    return put(
        request,
        session,
        "erase_confirm",
        customer=customer,
        held=held,
        lacking=lacking,
        status=422 if lacking else 200,
    )


def erase(house: House, request: Request, session: Session) -> Response:
    """Erases a customer everywhere, and says what there was. Raises LogError, StoreError."""
    fields = form_of(request)
    customer, reason = fields.get("customer", ""), reason_in(request)
    if not names_nobody(customer, reason) or fields.get("typed", "").strip() != customer:
        return _confirmation(house, request, session, customer, lacking=True)
    settings, holdings = house.application.settings, _holdings(house)
    whole = person(holdings, customer)
    held = erase_person(settings, holdings, whole, who=session.who, reason=reason, by=CONSOLE)
    return put(request, session, "erased", customer=customer, held=held, at_ms=wall_clock_ms())


def _checked(request: Request) -> tuple[str, str]:
    """The customer of a form and why; the reason is kept for good. Raises SetupInvalid."""
    customer, reason = form_of(request).get("customer", ""), reason_in(request)
    if not customer or not names_nobody(customer, reason):
        raise SetupInvalid(said(request)("console.consents.nameless"))
    return customer, reason
