"""Random events of made-up customers, and the exact state they must leave, computed without any ingestion."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from engine.events.compile import event_types
from engine.events.raw import RawEvent
from engine.ruleset.sources import RuleSources
from engine.signals.compile import signal_patterns
from engine.signals.patterns import Event, SignalPatterns
from engine.signals.reference import evaluate
from feature_store.schema import FeatureSchema
from feature_store.state import CustomerState, FeatureVector
from feature_store.store import OnlineStore

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
CUSTOMERS = tuple(f"E{number:03}" for number in range(40))
REFUSED = "refused"
"""Begins the ids of events that cannot be applied."""


@dataclass(frozen=True)
class Whole:
    """What must be known of one customer in the end."""

    counted: Mapping[str, float]
    contacts: tuple[tuple[int, str, str], ...]
    consents: tuple[tuple[str, str, str, int], ...]
    signals: tuple[str, ...]


def create_customers(store: OnlineStore, schema: FeatureSchema, now_ms: int) -> None:
    """The customers, of whom nothing is known."""
    nothing = np.full(len(schema.feature), np.nan, dtype=np.float32)
    vector = FeatureVector(schema.digest, (now_ms - 30 * DAY_MS,) * len(schema.view), nothing)
    store.put_customers([(name, vector) for name in CUSTOMERS])


def random_events(count: int, *, seed: int, now_ms: int) -> list[RawEvent]:
    """Events of the last two days, in no order, each once; of every kind there is, some of them wrong."""
    dice = random.Random(seed)
    return [_event(dice, number, seed, now_ms) for number in range(count)]


def delivered(events: Sequence[RawEvent], *, seed: int) -> list[RawEvent]:
    """The events in a random order, one in seven twice."""
    dice = random.Random(seed)
    twice = [
        *events,
        *(event for event in events if dice.random() < 0.15 and not event.id.startswith(REFUSED)),
    ]
    dice.shuffle(twice)
    return twice


def _event(dice: random.Random, number: int, seed: int, now_ms: int) -> RawEvent:
    kind, attributes = dice.choice(_KINDS)(dice)
    name = f"{seed}-{number}"
    if dice.random() < 0.02:
        name, kind, attributes = dice.choice(
            [
                (f"{REFUSED}-{name}", "never_declared", {}),
                (f"{REFUSED}-{name}", "data_used", {"gigabytes": "many"}),
                (f"{REFUSED}-{name}", "data_used", {}),
                (
                    f"{REFUSED}-{name}",
                    "offer_contacted",
                    {"action": "no", "channel": "web", "outcome": "shown"},
                ),
                (
                    f"{REFUSED}-{name}",
                    "consent_changed",
                    {"purpose": "x", "channel": "any", "state": "denied"},
                ),
            ]
        )
    at_ms = now_ms - dice.randrange(HOUR_MS, 2 * DAY_MS)
    return RawEvent(name, kind, dice.choice(CUSTOMERS), None, at_ms, attributes, now_ms)


_KINDS = [
    lambda dice: ("page_viewed", {"path": dice.choice(["/cancel", "/home"]), "day": str(dice.randrange(5))}),
    lambda dice: ("search_made", {"topic": dice.choice(["notice_period", "roaming"])}),
    lambda dice: ("login", {"sessions": dice.randrange(1, 4)}),
    lambda dice: ("data_used", {"gigabytes": dice.randrange(1, 999) / 100}),
    lambda dice: ("payment_failed", {"amount": 20.0}),
    lambda dice: ("call_received", {"reason": "technical"}),
    lambda dice: ("complaint_opened", {"topic": "bill"}),
    lambda dice: ("roaming_session", {"country": dice.choice(["CH", "IT"])}),
    lambda dice: (
        "offer_contacted",
        {"action": "streaming_tv", "channel": dice.choice(["web", "app"]), "outcome": "shown"},
    ),
    lambda dice: (
        "consent_changed",
        {
            "purpose": dice.choice(["marketing", "profiling"]),
            "channel": dice.choice(["any", "email"]),
            "state": dice.choice(["granted", "denied", "withdrawn"]),
        },
    ),
]


def expected(events: Iterable[RawEvent], *, rules: Path, now_ms: int) -> dict[str, Whole]:
    """What must be known of every customer after these events, whatever way they came."""
    once = {event.id: event for event in events if not event.id.startswith(REFUSED)}
    patterns = signal_patterns(RuleSources.from_directory(rules))
    return {
        name: _whole([e for e in once.values() if e.customer_id == name], patterns, now_ms)
        for name in CUSTOMERS
    }


def _whole(events: list[RawEvent], patterns: SignalPatterns, now_ms: int) -> Whole:
    told = [Event(e.id, e.type, e.at_ms or 0, e.attributes) for e in events]
    return Whole(
        counted={
            "support_calls_30d": sum(e.type == "call_received" for e in events),
            "failed_payments_90d": sum(e.type == "payment_failed" for e in events),
            "app_sessions_30d": sum(int(e.attributes["sessions"]) for e in events if e.type == "login"),
            "cancel_page_visits_7d": sum(e.attributes.get("path") == "/cancel" for e in events),
            "data_usage_gb_30d": sum(
                round(float(e.attributes["gigabytes"]) * 100) for e in events if e.type == "data_used"
            )
            / 100,
            "visits_30d": sum(e.type in ("page_viewed", "search_made") for e in events),
            "help_topics_30d": len({e.attributes["topic"] for e in events if e.type == "search_made"}),
        },
        contacts=tuple(
            sorted(
                (e.at_ms or 0, str(e.attributes["channel"]), str(e.attributes["outcome"]))
                for e in events
                if e.type == "offer_contacted"
            )
        ),
        consents=_consents(events),
        signals=tuple(s.name for s in evaluate(patterns, told, now_ms) if s.value),
    )


def _consents(events: list[RawEvent]) -> tuple[tuple[str, str, str, int], ...]:
    """Per purpose and channel the latest; of two at one instant the stricter."""
    strictness = ["granted", "denied", "withdrawn"]
    latest: dict[tuple[str, str], tuple[int, int]] = {}
    for e in events:
        if e.type == "consent_changed":
            place = str(e.attributes["purpose"]), str(e.attributes["channel"])
            said = e.at_ms or 0, strictness.index(str(e.attributes["state"]))
            latest[place] = max(latest.get(place, said), said)
    return tuple(sorted((p, c, strictness[s], at) for (p, c), (at, s) in latest.items()))


def found(store: OnlineStore, schema: FeatureSchema) -> dict[str, Whole]:
    """What the store knows of every customer."""
    return {name: _known(store.read(name), schema) for name in CUSTOMERS}


def _known(state: CustomerState | None, schema: FeatureSchema) -> Whole:
    assert state is not None
    assert state.features is not None
    values = state.features.values
    return Whole(
        counted={
            f.name: round(float(values[schema.index[f.name]]), 2)
            for f in schema.feature
            if f.name in _COUNTED
        },
        contacts=tuple(sorted((c.at_ms, c.channel, c.outcome.value) for c in state.contacts)),
        consents=tuple(
            sorted((r.purpose, r.channel, r.state.value, r.recorded_at_ms) for r in state.consents)
        ),
        signals=tuple(s.name for s in state.signals if s.value),
    )


_COUNTED = (
    "support_calls_30d",
    "failed_payments_90d",
    "app_sessions_30d",
    "cancel_page_visits_7d",
    "data_usage_gb_30d",
    "visits_30d",
    "help_topics_30d",
)


def comparable(whole: Mapping[str, Whole]) -> dict[str, Whole]:
    """In one form: rounded as the store holds it, signals sorted."""
    return {
        name: replace(
            one,
            counted={k: round(float(np.float32(v)), 2) for k, v in sorted(one.counted.items())},
            signals=tuple(sorted(one.signals)),
        )
        for name, one in whole.items()
    }


def declared_types(rules: Path) -> set[str]:
    """Every type there is."""
    return set(event_types(RuleSources.from_directory(rules)).by_name)
