"""The demo company: IBM's Telco customers, with consents, contacts, signals and identities from a seed.

The customers and their contracts are real data. What the data does not have is made here from a fixed
seed, the same for everybody: who consented to what, who was contacted, what happened and so which signals
stand.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from engine.bootstrap import open_application, wall_clock_ms
from engine.decisionlog.errors import LogError
from engine.decisionlog.ledger import ConsentEntry, consent_ledger
from engine.demo.cast import CAST, TOLD_APART
from engine.demo.happenings import events_of
from engine.errors import ArbiterError, SetupInvalid
from engine.events.applying import Verdict
from engine.events.raw import RawEvent
from engine.settings import EMBEDDED, Settings
from engine.stores import open_store, store_place
from feature_store.differing import refuse_taken_version
from feature_store.errors import FeatureStoreError
from feature_store.loading import load_customers
from feature_store.schema import FeatureSchema, load_schema
from feature_store.state import (
    ANY_CHANNEL,
    ConsentRecord,
    ConsentState,
    FeatureVector,
    Identity,
    OutcomeType,
)
from feature_store.store import OnlineStore

_log = structlog.get_logger("engine.demo")

SEED = 20261121
DAY_MS = 86_400_000
_TOLD_AT_ONCE = 2_000
REFRESH_MS = DAY_MS
"""Age from which the features are loaded anew, as a nightly job would."""

_MARKETING = {"granted": 0.58, "denied": 0.10, "withdrawn": 0.04, "objected": 0.04, "": 0.24}
_PROFILING = {"granted": 0.62, "denied": 0.12, "": 0.26}
_CONTACTED = 0.05
_SHOWN = ("online_security", "streaming_tv", "tech_support")

Customers = tuple[tuple[str, FeatureVector], ...]


def load_company(settings: Settings) -> None:
    """Loads the demo company into the store unless it is there and fresh. Raises SetupInvalid.

    What was loaded where is written in the data directory; in another store it is made up anew.
    """
    marker = settings.data_dir / "demo.json"
    now_ms = wall_clock_ms()
    loaded = _read_marker(marker)
    if loaded.get("store", EMBEDDED) != _name(settings):
        loaded = {}
    try:
        schema = load_schema(settings.feature_schema)
        same_schema = loaded.get("feature_schema") == schema.digest
        if same_schema and now_ms - int(loaded.get("loaded_at_ms", 0)) < REFRESH_MS:
            return
        path = settings.feature_schema.parent / "customers.csv.gz"
        store = open_store(settings, patient=True)
        try:
            if not loaded:
                _check_free(store, settings)
            customers = load_customers(path, schema=schema, as_of_ms=now_ms)
            refuse_taken_version(schema, store.schemas(), source=str(settings.feature_schema))
            store.put_schema(schema.digest, settings.feature_schema.read_text(encoding="utf-8"))
            count = store.put_customers(customers)
            if not loaded:
                _make_up(store, settings, customers, now_ms)
        finally:
            store.close()
        _tell(settings, customers, schema, now_ms)
        written = {
            "loaded_at_ms": now_ms,
            "seed": SEED,
            "feature_schema": schema.digest,
            "store": _name(settings),
        }
        marker.write_text(json.dumps(written))
    except SetupInvalid:
        raise
    except (FeatureStoreError, LogError, ArbiterError, OSError) as error:
        raise SetupInvalid(f"the demo company cannot be loaded: {error}") from error
    _log.info("demo.loaded", customers=count, data_dir=str(settings.data_dir), seed=SEED)


def _name(settings: Settings) -> str:
    """The store as the data directory remembers it: the embedded one moves with its folder."""
    return EMBEDDED if settings.store == EMBEDDED else store_place(settings)


def _check_free(store: OnlineStore, settings: Settings) -> None:
    """Raises SetupInvalid for a store that holds customers who are not the demo's."""
    if store.read(next(iter(CAST))) is None and store.stats().customers:
        raise SetupInvalid(
            f"{store_place(settings)}: holds customers that are not the demo's, and made-up consents do not "
            "belong there; give another --store or ARBITER_STORE_PREFIX"
        )


def _read_marker(marker: Path) -> dict[str, Any]:
    """What was loaded and when; empty where nothing was."""
    try:
        document = json.loads(marker.read_text())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _make_up(store: OnlineStore, settings: Settings, customers: Customers, now_ms: int) -> None:
    """Everything about the customers that the data does not have."""
    consents = [(name, record) for name, _ in customers for record in consents_of(name, now_ms)]
    with consent_ledger(settings.data_dir / "consents", fsync_interval_ms=1000) as ledger:
        positions = [
            ledger.append(ConsentEntry(customer_id=name, consent=record, received_at_ms=now_ms))
            for name, record in consents
        ]
        ledger.flush()
    store.put_consents(
        (name, replace(record, position=position))
        for (name, record), position in zip(consents, positions, strict=True)
    )
    store.link((identity, name) for name, _ in customers for identity in identities_of(name))


def _dice(customer_id: str, what: str) -> random.Random:
    return random.Random(f"{SEED}:{what}:{customer_id}")  # noqa: S311  # reproducible, not secret


def consents_of(customer_id: str, now_ms: int) -> list[ConsentRecord]:
    """What a demo customer said, from the seed; the cast's is written down."""
    dice = _dice(customer_id, "consents")
    said = CAST[customer_id].consents if customer_id in CAST else _drawn(dice)
    return [
        ConsentRecord(
            purpose=purpose,
            channel=channel,
            state=state,
            recorded_at_ms=now_ms - dice.randint(5, 700) * DAY_MS,
            source="demo:seed",
            notice_version="2026-01",
            actor="customer",
        )
        for (purpose, channel), state in said.items()
    ]


def _drawn(dice: random.Random) -> Mapping[tuple[str, str], ConsentState]:
    said: dict[tuple[str, str], ConsentState] = {}
    for purpose, shares in (("marketing", _MARKETING), ("profiling", _PROFILING)):
        (state,) = dice.choices(list(shares), list(shares.values()))
        if state:
            said[purpose, ANY_CHANNEL] = ConsentState(state)
    if said.get(("marketing", ANY_CHANNEL)) is ConsentState.GRANTED and dice.random() < 0.15:
        said["marketing", dice.choice(["email", "sms", "call_center"])] = ConsentState.WITHDRAWN
    return said


def identities_of(customer_id: str) -> list[Identity]:
    """Ways to name a demo customer. One number is shared by a household of two, to show what happens."""
    number = int(customer_id.removeprefix("C"))
    phone = TOLD_APART.phone if customer_id in TOLD_APART.customers else f"+4179{1_000_000 + number}"
    mail = hashlib.sha256(f"{customer_id.lower()}@example.com".encode()).hexdigest()
    return [
        Identity("phone", phone),
        Identity("email_sha256", mail),
        Identity("loyalty_number", f"L{700_000 + number}"),
    ]


def _tell(settings: Settings, customers: Customers, schema: FeatureSchema, now_ms: int) -> None:
    """What happened, through the same door as every event; features and signals then follow from it.

    Customers to whom nothing new happened are looked at too: of most it is known that nothing did.
    """
    told = [event for name, vector in customers for event in _events(name, vector, schema, now_ms)]
    changed: set[str] = set()
    with open_application(settings) as application:
        for start in range(0, len(told), _TOLD_AT_ONCE):
            page = told[start : start + _TOLD_AT_ONCE]
            for event, fate in zip(page, application.events.ingest(page), strict=True):
                if fate.verdict is Verdict.REFUSED:
                    raise SetupInvalid(f"the demo's event {event.id} is refused: {fate.words}")
                if fate.verdict is Verdict.APPLIED:
                    changed.add(event.customer_id)
        application.events.refresh_all(name for name, _ in customers if name not in changed)


def _events(name: str, vector: FeatureVector, schema: FeatureSchema, now_ms: int) -> Iterator[RawEvent]:
    """What happened to one customer; the cast's days were quiet."""
    dice = _dice(name, "events")
    yield from events_of(name, vector, schema, now_ms, dice=dice, quiet=name in CAST)
    yield from _contacts(name, now_ms)


def _contacts(customer_id: str, now_ms: int) -> Iterator[RawEvent]:
    """What a few customers were shown, and what some of them did then."""
    dice = _dice(customer_id, "contacts")
    if customer_id in CAST or dice.random() >= _CONTACTED:
        return
    action_id = dice.choice(_SHOWN)
    at_ms = now_ms - dice.randint(1, 20) * DAY_MS
    outcomes = [OutcomeType.SHOWN]
    if dice.random() < 0.3:
        outcomes.append(dice.choice([OutcomeType.CLICKED, OutcomeType.DECLINED, OutcomeType.SNOOZED]))
    for number, outcome in enumerate(outcomes):
        said = {"action": action_id, "channel": "web", "outcome": outcome.value}
        name, then_ms = f"demo-{number}", at_ms + number * 60_000
        yield RawEvent(name, "offer_contacted", customer_id, None, then_ms, said, now_ms, late=True)
