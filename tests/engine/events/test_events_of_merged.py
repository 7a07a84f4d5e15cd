"""Events of two customers who are one person: counted together, once, and apart again."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from eventful_company import CUSTOMERS

from engine.bootstrap import Application, wall_clock_ms
from engine.events.applying import Verdict
from engine.events.raw import RawEvent
from engine.service.identities import identity_log
from engine.service.merging import Merging
from feature_store.merged import MergingStore
from feature_store.state import CustomerState, Identity

DAY_MS = 86_400_000
PHONE = Identity("phone", "+41790008888")
_numbers = itertools.count(1)


@pytest.fixture
def pair(company: Application) -> tuple[str, str]:
    """Two customers of the test's own, of whom it is known that nothing happened."""
    names = f"M{next(_numbers):03}", f"M{next(_numbers):03}"
    state = company.store.read(CUSTOMERS[0])
    assert state is not None
    assert state.features is not None
    company.store.put_customers((name, state.features) for name in names)
    company.events.refresh_all(names)
    return names


@pytest.fixture
def merging(company: Application, tmp_path: Path) -> Iterator[Merging]:
    """What merges, with a log of its own."""
    with identity_log(tmp_path / "identities") as log:
        yield Merging(
            store=cast(MergingStore, company.store),
            log=log,
            ledger=company.ledger,
            is_erased=lambda _name: None,
            refreshed=company.events.refresh_all,
        )


def failed(customer: str, age_days: int, *, name: str = "", identity: Identity | None = None) -> RawEvent:
    """A payment that failed."""
    now_ms = wall_clock_ms()
    event_id = name or f"merged-{next(_numbers)}"
    at_ms = now_ms - age_days * DAY_MS
    return RawEvent(event_id, "payment_failed", customer, identity, at_ms, {"amount": 50.0}, now_ms)


def known(company: Application, customer: str) -> tuple[CustomerState, float]:
    """The state that answers for an id, and how many payments failed."""
    state = company.store.read(customer)
    assert state is not None
    assert state.features is not None
    place = company.live.current.schema.index["failed_payments_90d"]
    return state, float(state.features.values[place])


def test_what_happened_to_two_happened_to_one(
    company: Application, merging: Merging, pair: tuple[str, str]
) -> None:
    """Two failed payments of one and one of the other are trouble, in counts and signals, by either id."""
    old, new = pair
    company.events.ingest([failed(old, 1), failed(old, 2), failed(new, 3)])

    merging.merge(old, new, actor="crm:1", reason="test", now_ms=wall_clock_ms())

    for name in pair:
        state, count = known(company, name)
        assert (state.customer_id, count) == (new, 3.0)
        assert {signal.name for signal in state.signals} == {"payment_trouble"}


def test_no_event_counts_for_both(company: Application, merging: Merging, pair: tuple[str, str]) -> None:
    """One that came in under either id is a repetition; new ones of both ids in one batch all count."""
    old, new = pair
    company.store.link([(PHONE, old), (PHONE, new)])
    company.events.ingest([failed(old, 1, name="seen-a"), failed(new, 2, name="seen-b")])
    merging.merge(old, new, actor="crm:1", reason="test", now_ms=wall_clock_ms())

    fates = company.events.ingest(
        [
            failed(new, 1, name="seen-a"),
            failed(old, 2, name="seen-b"),
            failed(old, 3),
            failed(new, 4),
            failed("", 5, identity=PHONE),
        ]
    )

    assert [fate.verdict for fate in fates] == [Verdict.DUPLICATE] * 2 + [Verdict.APPLIED] * 3
    assert known(company, old)[1] == 5.0


def test_parted_each_has_its_own_events(
    company: Application, merging: Merging, pair: tuple[str, str]
) -> None:
    """What came in meanwhile is with who answered, and trouble that was of both is nobody's."""
    old, new = pair
    company.events.ingest([failed(old, 1), failed(new, 2)])
    merging.merge(old, new, actor="crm:1", reason="test", now_ms=wall_clock_ms())
    company.events.ingest([failed(old, 3)])

    merging.unmerge(old, actor="crm:1", reason="test", now_ms=wall_clock_ms())

    told = [known(company, name) for name in pair]
    assert [count for _, count in told] == [1.0, 2.0]
    assert [state.signals for state, _ in told] == [(), ()]
