"""Every place of a data directory that holds something of customers, for those who tell and erase it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from engine.bootstrap import wall_clock_ms
from engine.events.deadletters import DeadLetterBox, DiskDeadLetters
from engine.logfiles import (
    CONSENTS,
    DECISIONS,
    ERASED,
    IDENTITIES,
    MODEL_SHADOW,
    OUTCOMES,
    SHADOW,
    audit_log,
    checkpoints_of,
    identity_key,
    log_directory,
)
from engine.pseudonyms import Pseudonyms
from engine.service import privacy
from engine.service.audit import CONSOLE, Act
from engine.service.erased import ErasedCustomers
from engine.service.persons import Person, forget_person, person
from engine.service.privacy import Held, Holdings
from engine.settings import Settings
from engine.stores import consent_cipher, identity_cipher
from feature_store.identities import opened_identity
from feature_store.schema import FeatureSchema
from feature_store.store import OnlineStore


def holdings_of(
    settings: Settings,
    *,
    store: OnlineStore,
    letters: DiskDeadLetters,
    streams: Sequence[DeadLetterBox] = (),
) -> Holdings:
    """The places that the settings name. Raises SetupInvalid where a key cannot be read."""
    return Holdings(
        store=store,
        log_directories={
            log: log_directory(settings, log)
            for log in (DECISIONS, CONSENTS, OUTCOMES, SHADOW, MODEL_SHADOW, IDENTITIES)
        },
        checkpoints_of=lambda log: checkpoints_of(settings, log),
        letters=letters,
        streams=streams,
        erased=ErasedCustomers(log_directory(settings, ERASED)),
        texts=consent_cipher(settings),
        identity=partial(opened_identity, cipher=identity_cipher(settings)),
    )


def names_nobody(customer_id: str, text: str) -> bool:
    """Whether a text that is kept for good says something, and not who the customer is."""
    return bool(text.strip()) and customer_id not in text


def erase_person(
    settings: Settings, holdings: Holdings, whole: Person, *, who: str, reason: str, by: str
) -> Mapping[str, Held]:
    """Erases a customer and all merged into it, and notes it; what there was under each id.

    The audit log names the entry in the register of the erased, never the customer. Raises what
    `forget_person` raises, SetupInvalid, and LogError where the audit log cannot be written: nothing is
    erased then.
    """
    with audit_log(settings).change(Act.CUSTOMER_ERASE, who=who, by=by, reason=reason) as told:
        found = forget_person(holdings, whole, actor=who, reason=reason, now_ms=wall_clock_ms())
        noted = holdings.erased.entry(whole.customer_id)
        told.before["entries"] = str(sum(sum(each.entries.values()) for each in found.values()))
        told.after["register"] = "" if noted is None else noted.subject
        return found


def export_person(
    settings: Settings, holdings: Holdings, customer_id: str, *, schema: FeatureSchema, who: str, reason: str
) -> dict[str, Any]:
    """All that is held of a customer, and notes that it was taken out, by a mark that only the key of
    identities makes.

    Of who is merged into another, the document is of that one. Raises what `privacy.export` raises, and
    LogError where the audit log cannot be written.
    """
    while into := person(holdings, customer_id).into:
        customer_id = into
    key = identity_key(settings)
    mark = {"customer": Pseudonyms(key).of(customer_id)} if key else {}
    with audit_log(settings).change(Act.CUSTOMER_EXPORT, who=who, by=CONSOLE, reason=reason, before=mark):
        return privacy.export(holdings, customer_id, schema=schema, now_ms=wall_clock_ms())
