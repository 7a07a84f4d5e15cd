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
from pathlib import Path
from typing import Any

import structlog

from engine.bootstrap import wall_clock_ms
from engine.decisionlog.errors import LogError
from engine.decisionlog.ledger import ConsentEntry, consent_ledger
from engine.demo.cast import CAST, TOLD_APART
from engine.demo.happenings import events_of
from engine.errors import SetupInvalid
from engine.ruleset.diagnostics import RuleSetInvalid
from engine.ruleset.sources import RuleSources
from engine.settings import Settings
from engine.signals.compile import signal_patterns
from engine.signals.errors import SignalError
from engine.signals.evaluator import SignalEvaluator
from feature_store.embedded import EmbeddedStore, open_embedded
from feature_store.errors import FeatureStoreError
from feature_store.loading import load_customers
from feature_store.schema import FeatureSchema, load_schema
from feature_store.state import (
    ANY_CHANNEL,
    ConsentRecord,
    ConsentState,
    ContactEvent,
    FeatureVector,
    Identity,
    OutcomeType,
    Signal,
)

_log = structlog.get_logger("engine.demo")

SEED = 20261121
DAY_MS = 86_400_000
REFRESH_MS = DAY_MS
"""Age from which the features are loaded anew, as a nightly job would."""

_MARKETING = {"granted": 0.58, "denied": 0.10, "withdrawn": 0.04, "objected": 0.04, "": 0.24}
_PROFILING = {"granted": 0.62, "denied": 0.12, "": 0.26}
_CONTACTED = 0.05
_SHOWN = ("online_security", "streaming_tv", "tech_support")

Customers = tuple[tuple[str, FeatureVector], ...]


def load_company(settings: Settings) -> None:
    """Loads the demo company into the data directory unless it is there and fresh. Raises SetupInvalid."""
    marker = settings.data_dir / "demo.json"
    now_ms = wall_clock_ms()
    loaded = _read_marker(marker)
    try:
        schema = load_schema(settings.feature_schema)
        same_schema = loaded.get("feature_schema") == schema.digest
        if same_schema and now_ms - int(loaded.get("loaded_at_ms", 0)) < REFRESH_MS:
            return
        path = settings.feature_schema.parent / "customers.csv.gz"
        customers = load_customers(path, schema=schema, as_of_ms=now_ms)
        store = open_embedded(settings.data_dir / "store")
        try:
            count = store.put_customers(customers)
            if not loaded:
                _make_up(store, settings, customers, schema, now_ms)
        finally:
            store.close()
        written = {"loaded_at_ms": now_ms, "seed": SEED, "feature_schema": schema.digest}
        marker.write_text(json.dumps(written))
    except (FeatureStoreError, LogError, RuleSetInvalid, SignalError, OSError) as error:
        raise SetupInvalid(f"the demo company cannot be loaded: {error}") from error
    _log.info("demo.loaded", customers=count, data_dir=str(settings.data_dir), seed=SEED)


def _read_marker(marker: Path) -> dict[str, Any]:
    """What was loaded and when; empty where nothing was."""
    try:
        document = json.loads(marker.read_text())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _make_up(
    store: EmbeddedStore, settings: Settings, customers: Customers, schema: FeatureSchema, now_ms: int
) -> None:
    """Everything about the customers that the data does not have."""
    consents = [(name, record) for name, _ in customers for record in consents_of(name, now_ms)]
    with consent_ledger(settings.data_dir / "consents", fsync_interval_ms=1000) as ledger:
        for name, record in consents:
            ledger.append(ConsentEntry(customer_id=name, consent=record, received_at_ms=now_ms))
        ledger.flush()
    store.put_consents(consents)
    store.link((identity, name) for name, _ in customers for identity in identities_of(name))
    for name, signals in _signals(settings.rules, customers, schema, now_ms):
        store.put_signals(name, signals)
    for name, _ in customers:
        for number, event in enumerate(_contacts(name, now_ms)):
            store.record_contact(name, event, key=f"demo-{number}")


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


def _signals(
    rules: Path, customers: Customers, schema: FeatureSchema, now_ms: int
) -> Iterator[tuple[str, list[Signal]]]:
    """The signals that stand, of every customer to whom something happened; the cast's days were quiet."""
    happened = [
        (name, events_of(name, vector, schema, now_ms, dice=_dice(name, "events")))
        for name, vector in customers
        if name not in CAST
    ]
    eventful = [(name, events) for name, events in happened if events]
    with SignalEvaluator(signal_patterns(RuleSources.from_directory(rules))) as evaluator:
        found = evaluator.evaluate_many(eventful, now_ms)
    for (name, _), signals in zip(eventful, found, strict=True):
        yield name, [signal for signal in signals if signal.value]


def _contacts(customer_id: str, now_ms: int) -> Iterator[ContactEvent]:
    dice = _dice(customer_id, "contacts")
    if customer_id in CAST or dice.random() >= _CONTACTED:
        return
    action_id, group = dice.choice(_SHOWN), "cross_sell"
    at_ms = now_ms - dice.randint(1, 20) * DAY_MS
    yield ContactEvent(at_ms, action_id, group, "web", "marketing", OutcomeType.SHOWN)
    if dice.random() < 0.3:
        outcome = dice.choice([OutcomeType.CLICKED, OutcomeType.DECLINED, OutcomeType.SNOOZED])
        yield ContactEvent(at_ms + 60_000, action_id, group, "web", "marketing", outcome)
