"""What a run reads of a data directory: its logs, who may be learnt from, the rules and schema of today."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from engine.core.consent import judge_request
from engine.core.rulebook import ConsentPolicy, Rulebook
from engine.decisionlog.erasure import erasures
from engine.decisionlog.ledger import OutcomeEntry, outcome_log
from engine.decisionlog.log import DecisionLog
from engine.domain import DecisionRequest
from engine.logfiles import DECISIONS, ERASED, OUTCOMES, log_directory
from engine.retraining.observing import Admission
from engine.service.erased import ErasedCustomers
from engine.settings import Settings
from engine.snapshots import load_snapshot
from engine.stores import open_store
from feature_store.schema import FeatureSchema
from feature_store.state import CustomerState
from feature_store.store import OnlineStore
from feature_store.versions import SchemaVersions
from model_registry import Root

_REMEMBERED = 100_000
"""Customers whose consents are kept while their rows are made: rows of one stand apart in the log."""


@dataclass(frozen=True, slots=True)
class Company:
    """A data directory, open for a run. Nothing of it is changed but the folder of the runs."""

    registry: Root
    runs: Path
    decisions_directory: Path
    decisions: DecisionLog
    outcomes: Callable[[], Iterator[OutcomeEntry]]
    erased: ErasedCustomers
    store: OnlineStore
    rulebook: Rulebook
    schema: FeatureSchema
    schema_text: str

    def admission(self, *, channels: tuple[str, ...], now_ms: int) -> Admission:
        """Who may be learnt from, as of now. Raises LogError where the register cannot be read."""
        erased = self.erased.now()
        return Admission(
            schema=self.schema,
            versions=SchemaVersions(self.store.schemas),
            erased=lambda customer_id: erased(customer_id) is not None,
            permitted=_permitted(self.store, self.rulebook.consent, now_ms),
            channels=frozenset(channels),
        )

    def erased_records(self) -> int:
        """How many decisions were erased so far: a table that was made before holds some of them."""
        return len(erasures(self.decisions_directory))


def _permitted(store: OnlineStore, policy: ConsentPolicy, now_ms: int) -> Callable[[str, str], bool]:
    """Whether a customer may be profiled now. Whom the store no longer knows has not said otherwise."""

    @lru_cache(maxsize=_REMEMBERED)
    def will(customer_id: str) -> CustomerState | None:
        state = store.read(customer_id)
        return None if state is None else replace(state, features=None, contacts=(), signals=())

    def permitted(customer_id: str, channel: str) -> bool:
        state = will(customer_id)
        if state is None:
            return True
        judged = judge_request(policy, DecisionRequest(customer_id, channel), state, now_ms=now_ms)
        return judged[policy.profiling_purpose].permitted

    return permitted


@contextmanager
def open_company(settings: Settings) -> Iterator[Company]:
    """Raises SetupInvalid, StoreError and LogError."""
    snapshot = load_snapshot(settings, {})
    store = open_store(settings, patient=True)
    outcomes = log_directory(settings, OUTCOMES)
    try:
        yield Company(
            registry=settings.registry,
            runs=settings.data_dir / "retraining",
            decisions_directory=log_directory(settings, DECISIONS),
            decisions=DecisionLog(log_directory(settings, DECISIONS)),
            outcomes=lambda: outcome_log(outcomes).replay() if outcomes.is_dir() else iter(()),
            erased=ErasedCustomers(log_directory(settings, ERASED)),
            store=store,
            rulebook=snapshot.rulebook,
            schema=snapshot.schema,
            schema_text=settings.feature_schema.read_text(encoding="utf-8"),
        )
    finally:
        store.close()
