"""Whatever happens in whatever order: what is returned is exactly what a simple count of promises allows."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from contact_company import (
    DAY_MS,
    GIFT,
    HOUR_MS,
    MINUTE_MS,
    NOW_MS,
    REBATE,
    Service,
    company,
    open_store,
    returned,
    service,
    vector,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.decisionlog.record import DecisionRecord
from feature_store.state import OutcomeType

RESERVE_MS, WINDOW_MS, BUDGET_MS = 30 * MINUTE_MS, 3 * HOUR_MS, 5 * HOUR_MS
CAP, UNITS = 2, 5
PACK = f"""
reserve_for: 30m
policies:
  - {{id: cap.retention, kind: cap, applies_to: {{groups: [retention]}}, per: group,
     counts: [reserved, shown], limit: {CAP}, window: 3h, reason: TOO_OFTEN}}
  - {{id: budget.gift, kind: budget, applies_to: {{actions: [gift]}}, per: overall,
     counts: [reserved, accepted], limit: {UNITS}, window: 5h, reason: SPENT}}
"""


@dataclass
class Promise:
    """One action one decision returned to one customer, and what became of it."""

    customer: str
    action: str
    at_ms: int
    shown_ms: int | None = None
    accepted_ms: int | None = None
    declined_ms: int | None = None

    def counts_for_cap(self, now_ms: int) -> bool:
        """Reserved and not shown for half an hour, shown for three hours."""
        if self.shown_ms is not None:
            return now_ms < self.shown_ms + WINDOW_MS
        return now_ms < self.at_ms + RESERVE_MS

    def counts_for_budget(self, now_ms: int) -> bool:
        """Held for half an hour unless refused, spent for five hours."""
        if self.accepted_ms is not None:
            return now_ms < self.accepted_ms + BUDGET_MS
        return self.declined_ms is None and now_ms < self.at_ms + RESERVE_MS


@dataclass
class Ledger:
    """The reference: a list of promises, counted through each time."""

    promises: list[Promise] = field(default_factory=list)

    def allowed(self, customer: str, now_ms: int) -> list[str]:
        """The retention actions a decision should return now, best first."""
        capped = sum(p.customer == customer and p.counts_for_cap(now_ms) for p in self.promises)
        found = [GIFT] if self.gifts(now_ms) < UNITS else []
        return [*found, REBATE][: max(0, CAP - capped)]

    def gifts(self, now_ms: int) -> int:
        """Units of the budget taken now."""
        return sum(p.action == GIFT and p.counts_for_budget(now_ms) for p in self.promises)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("decide"), st.integers(0, 2)),
        st.tuples(
            st.just("wait"), st.sampled_from([1, MINUTE_MS, RESERVE_MS - 1, RESERVE_MS, HOUR_MS, WINDOW_MS])
        ),
        st.tuples(st.just("shown"), st.integers(0, 30)),
        st.tuples(st.just("accepted"), st.integers(0, 30)),
        st.tuples(st.just("declined"), st.integers(0, 30)),
    ),
    max_size=40,
)


def test_caps_and_budgets_are_met_to_the_unit_in_any_order(tmp_path: Path) -> None:
    """Neither over nor under what the promises so far allow; hints of budgets are a second old at most."""
    store, runs = open_store(str(tmp_path / "store")), itertools.count(1)

    with service(store, company(PACK), tmp_path / "logs") as opened:

        @settings(max_examples=40, deadline=None)
        @given(STEPS)
        def follows(steps: Sequence[tuple[str, int]]) -> None:
            run = next(runs)
            opened.clock.now_ms = NOW_MS + run * 30 * DAY_MS  # what earlier runs did has left every window
            _play(opened, run, steps)

        follows()
    store.close()


def _play(opened: Service, run: int, steps: Sequence[tuple[str, int]]) -> None:
    ledger, made = Ledger(), list[tuple[DecisionRecord, Promise]]()
    customers = [f"R{run}-{i}" for i in range(3)]
    opened.store.put_customers((name, vector()) for name in customers)
    for step, number in steps:
        now_ms = opened.clock.now_ms
        if step == "wait":
            opened.clock.now_ms += max(number, 1_000)
        elif step == "decide":
            opened.clock.now_ms += 1_000  # a hint of what was left has grown old
            now_ms, name = opened.clock.now_ms, customers[number]
            record = opened.decide(name)
            offered = [action for action in returned(record) if action in (GIFT, REBATE)]
            assert offered == ledger.allowed(name, now_ms)
            promises = [Promise(name, action, now_ms) for action in offered]
            ledger.promises += promises
            made += [(record, promise) for promise in promises]
        elif made:
            _happen(opened, ledger, *made[number % len(made)], OutcomeType(step))


def _happen(
    opened: Service, ledger: Ledger, record: DecisionRecord, promise: Promise, outcome: OutcomeType
) -> None:
    """One outcome, at most one of a kind, and one answer only; answers come while the offer stands, or is
    still remembered. A yes after the hold has ended is counted where there is a unit.
    """
    now_ms = opened.clock.now_ms
    standing = now_ms < promise.at_ms + RESERVE_MS or promise.shown_ms is not None
    answered = promise.accepted_ms is not None or promise.declined_ms is not None
    if outcome is not OutcomeType.SHOWN and (answered or not standing):
        return
    first = opened.record(record, promise.action, outcome)
    if outcome is OutcomeType.SHOWN:
        promise.shown_ms = now_ms if first else promise.shown_ms
    elif outcome is OutcomeType.ACCEPTED:
        if promise.counts_for_budget(now_ms) or ledger.gifts(now_ms) < UNITS:
            promise.accepted_ms = now_ms
        else:
            promise.declined_ms = now_ms  # no unit is taken for it
    else:
        promise.declined_ms = now_ms
    promise.shown_ms = now_ms if promise.shown_ms is None else promise.shown_ms
