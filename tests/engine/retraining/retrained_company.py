"""A company that has decided and been answered, in logs and a store: what tests of retraining share."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from arbiter_at_work import copied_registry

from engine.bench.drift_replay import Company as Shop
from engine.bench.drift_replay import company as shop_of
from engine.bench.drift_replay import decided
from engine.bootstrap import wall_clock_ms
from engine.decisionlog.ledger import OutcomeEntry, outcome_log
from engine.decisionlog.log import DecisionLog
from engine.decisionlog.record import DecisionRecord
from engine.logfiles import DECISIONS, DRIFT, OUTCOMES, log_directory
from engine.monitor.drift.binning import InputBinning
from engine.monitor.drift.counts import BUCKETS, ModelCounts, WindowCounts, buckets_of
from engine.monitor.drift.windows import WindowFolder
from engine.retraining.company import open_company
from engine.retraining.plan import RetrainingPlan
from engine.retraining.running import Result, Told, asked, retrain
from engine.settings import Settings
from engine.stores import open_store
from feature_store.state import ANY_CHANNEL, ConsentRecord, ConsentState, OutcomeType

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
DECIDED_MS = 20_000 * DAY_MS  # in 2024: every horizon is over
UNTIL_MS = DECIDED_MS + 30 * DAY_MS
MODEL = "propensity"
LENIENT = """
auc_loss = 1.0
log_loss_gain = 1.0
ece = 1.0
latency_ratio = 1000.0
resamples = 200
off = ["fairness"]
"""


@dataclass(frozen=True)
class Place:
    """A data directory, a registry, and what was logged."""

    settings: Settings
    records: tuple[DecisionRecord, ...]

    @property
    def runs(self) -> Path:
        """The folder of the runs."""
        return self.settings.data_dir / "retraining"

    @property
    def registry(self) -> Path:
        """The registry."""
        return Path(self.settings.registry)

    def at(self, folder: Path) -> Place:
        """The same place moved to a folder that was copied from its own."""
        settings = Settings(data_dir=folder / "data", registry=folder / "registry")
        return replace(self, settings=settings)


def make_place(folder: Path, count: int = 900) -> Place:
    """Customers who all consent, a decision for each in the first ten days, and their answers."""
    settings = Settings(data_dir=folder / "data", registry=copied_registry(folder))
    (folder / "registry" / MODEL / "gates.toml").write_text(LENIENT)
    shop = shop_of(settings, now_ms=DECIDED_MS)
    records = tuple(_logged(settings, shop, count))
    consents = ("marketing", "profiling", "personalization")
    with ExitStack() as stack:
        store = open_store(settings)
        stack.callback(store.close)
        store.put_customers(shop.customers[:count])
        store.put_consents(
            (customer, granted(purpose)) for customer, _ in shop.customers[:count] for purpose in consents
        )
    rng = np.random.default_rng(5)
    answered = [
        outcome(record, place, _answer(record, place, rng))
        for record in records
        for place in range(len(record.decision.actions))
    ]
    tell(settings, answered)
    return Place(settings, records)


def granted(purpose: str, state: ConsentState = ConsentState.GRANTED) -> ConsentRecord:
    """A will on every channel, as of just before the decisions."""
    return ConsentRecord(purpose, ANY_CHANNEL, state, DECIDED_MS - DAY_MS)


def _logged(settings: Settings, shop: Shop, count: int) -> list[DecisionRecord]:
    logged = []
    with DecisionLog(log_directory(settings, DECISIONS)) as log:
        for number in range(count):
            at_ms = DECIDED_MS + number * (10 * DAY_MS // count)
            (record,) = decided(shop, [number], now_ms=at_ms)
            with log.next(now_ms=at_ms) as slot:
                named = replace(record, decision_id=slot.decision_id)
                slot.write(named)
            logged.append(named)
    return logged


def _answer(record: DecisionRecord, place: int, rng: np.random.Generator) -> OutcomeType:
    """Customers take what is first, and what is dear to keep."""
    assert record.state.features is not None
    tenure = float(np.nan_to_num(record.state.features.values[:3]).sum()) % 7
    likely = 0.25 + 0.08 * tenure - 0.1 * place
    return OutcomeType.ACCEPTED if rng.random() < likely else OutcomeType.DECLINED


def outcome(
    record: DecisionRecord, place: int, kind: OutcomeType, *, after_ms: int = 60_000, late_ms: int = 0
) -> OutcomeEntry:
    """What became of an action so long after its decision, and when it was reported."""
    at_ms = record.now_ms + after_ms
    return OutcomeEntry(
        outcome_id=f"{record.decision_id}-{place}-{kind}-{after_ms}",
        decision_id=record.decision_id,
        action_id=record.decision.actions[place].action_id,
        type=kind,
        at_ms=at_ms,
        received_at_ms=at_ms + late_ms,
    )


def tell(settings: Settings, outcomes: list[OutcomeEntry]) -> None:
    """Logs outcomes."""
    with outcome_log(log_directory(settings, OUTCOMES)) as log:
        for each in outcomes:
            log.append(each)


def plan_document(**changed: Any) -> dict[str, Any]:
    """A plan that any model passes; keyword arguments replace parts."""
    return {
        "apiVersion": "arbiter/v1",
        "kind": "RetrainingPlan",
        "metadata": {"name": MODEL, "owner": "tests", "intended_use": "Ranking. Not for prices."},
        "task": {"kind": "propensity", "horizon_days": 7},
        "decisions": {"window_days": 60, "min_outcomes": 100},
        "split": {"by": "stratified"},
        "model": {"max_trees": 8, "min_data_in_leaf": 20},
        "evaluation": {"folds": 0},
        "gates": {"auc_at_least": 0.0, "ece_at_most": 1.0, "behind_baseline_at_most": 1.0},
        **changed,
    }


def plan(**changed: Any) -> RetrainingPlan:
    """The same, typed."""
    return RetrainingPlan.model_validate(plan_document(**changed))


def write_plan(folder: Path, document: Mapping[str, Any]) -> Path:
    """A plan as a file."""
    path = folder / "retrain.yaml"
    path.write_text(yaml.safe_dump(dict(document), sort_keys=False), encoding="utf-8")
    return path


def run(place: Place, told: Told = lambda _step: None, *, until_ms: int = UNTIL_MS, **changed: Any) -> Result:
    """A run in this process."""
    part = asked(
        plan(**changed),
        folder=place.settings.data_dir,
        since_ms=None,
        until_ms=until_ms,
        now_ms=until_ms + DAY_MS,
    )
    with open_company(place.settings) as company:
        return retrain(company, part, now_ms=until_ms + DAY_MS, told=told)


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file of a version by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def count_hour(place: Place, *, drifted: bool) -> None:
    """Counts an hour of churn scores until now; drifted, all customers are of one feature value."""
    model, now_ms = "churn/1", wall_clock_ms()
    shop = shop_of(place.settings, now_ms=now_ms)
    reference = shop.reference_of("churn", 1)
    assert reference is not None
    chosen = np.random.default_rng(1).integers(0, len(shop.customers), 3_000)
    rows = np.stack([shop.customers[i][1].values for i in chosen])
    schema = shop.snapshot.schema
    if drifted:
        rows[:, schema.index["paperless_billing"]] = 1.0
    inputs = InputBinning({model: reference}, schema).count(rows, {model: np.ones(len(rows), dtype=bool)})
    buckets = buckets_of([shop.customers[i][0] for i in chosen])
    counts = ModelCounts(len(rows), np.bincount(buckets, minlength=BUCKETS), inputs[model])
    begins_ms = now_ms // HOUR_MS * HOUR_MS - HOUR_MS
    window = WindowCounts(begins_ms, begins_ms + HOUR_MS, {model: counts})
    WindowFolder(log_directory(place.settings, DRIFT)).keep(window, writer="1-a")


def churn_document(place: Place, **changed: Any) -> dict[str, Any]:
    """A plan for churn, with the file that says who left."""
    rng = np.random.default_rng(7)
    left = [
        f"{record.request.customer_id},{record.now_ms + DAY_MS * int(rng.integers(1, 30))}"
        for record in place.records
        if rng.random() < 0.4
    ]
    folder = place.settings.data_dir.parent
    (folder / "left.csv").write_text("\n".join(["customer_id,churned_at", *left]) + "\n")
    return plan_document(
        metadata={"name": "churn", "owner": "tests", "intended_use": "Whom to call. Not for prices."},
        task={"kind": "churn", "horizon_days": 14, "left": {"path": "left.csv"}},
        **changed,
    )
