"""Decisions to count for drift: the demo's customers, who all consent, decided for by the pipeline."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from engine.core.pipeline import decide
from engine.core.snapshot import Snapshot
from engine.decisionlog.record import DecisionRecord
from engine.domain import DecisionRequest
from engine.monitor.drift.binning import ModelReference
from engine.service.drifting import reference_of
from engine.settings import Settings
from engine.snapshots import load_snapshot
from feature_store.loading import load_customers
from feature_store.state import (
    ANY_CHANNEL,
    ConsentRecord,
    ConsentState,
    CustomerState,
    FeatureVector,
)

CHANNELS: Final = ("web", "app", "call_center")
_BEFORE_MS: Final = 86_400_000
_CONSENTED: Final = ("marketing", "profiling", "personalization")


@dataclass(frozen=True, slots=True)
class Company:
    """The demo company as a server has it."""

    settings: Settings
    snapshot: Snapshot
    customers: tuple[tuple[str, FeatureVector], ...]

    def reference_of(self, name: str, version: int) -> ModelReference | None:
        """The reference of a published model version."""
        return reference_of(self.settings.registry, name, version)


def company(settings: Settings, *, now_ms: int) -> Company:
    """The company with features as of a day before `now_ms`; `settings` name a data directory of its own."""
    snapshot = load_snapshot(settings)
    path = settings.feature_schema.parent / "customers.csv.gz"
    customers = load_customers(path, schema=snapshot.schema, as_of_ms=now_ms - _BEFORE_MS)
    return Company(settings, snapshot, tuple(customers))


def decided(place: Company, names: Sequence[int], *, now_ms: int) -> Iterator[DecisionRecord]:
    """The records of decisions for customers by number, on the channels in turn."""
    consents = tuple(
        ConsentRecord(purpose, ANY_CHANNEL, ConsentState.GRANTED, now_ms - _BEFORE_MS)
        for purpose in _CONSENTED
    )
    for count, (number, channel) in enumerate(zip(names, itertools.cycle(CHANNELS), strict=False)):
        customer_id, features = place.customers[number]
        request = DecisionRequest(customer_id=customer_id, channel=channel)
        state = CustomerState(customer_id, features=features, consents=consents)
        decision = decide(place.snapshot, request, state, now_ms=now_ms)
        yield DecisionRecord(
            decision_id=f"{count:026}", now_ms=now_ms, request=request, state=state, decision=decision
        )


def drawn(count: int, *, of: int, seed: int) -> list[int]:
    """Numbers of customers, each as likely as the other."""
    found: list[int] = np.random.default_rng(seed).integers(0, of, count).tolist()
    return found
