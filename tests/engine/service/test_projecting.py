"""Rebuilding what decisions see of consents from the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine.decisionlog.ledger import ConsentEntry, ConsentLedger, consent_ledger
from engine.service.projecting import project, rebuild
from feature_store.embedded import open_embedded
from feature_store.redis.store import open_redis
from feature_store.state import ConsentRecord, ConsentState, CustomerChange
from feature_store.store import OnlineStore

GRANTED, WITHDRAWN, OBJECTED = ConsentState.GRANTED, ConsentState.WITHDRAWN, ConsentState.OBJECTED


def said(state: ConsentState = GRANTED, at_ms: int = 10, **fields: object) -> ConsentRecord:
    given = {"purpose": "marketing", "channel": "any", "state": state, "recorded_at_ms": at_ms} | fields
    return ConsentRecord(**given)  # type: ignore[arg-type]  # fields of the record


@pytest.fixture(params=["embedded", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OnlineStore]:
    """Either store, empty."""
    opened: OnlineStore
    if request.param == "redis":
        opened = open_redis(request.getfixturevalue("redis_server").url, timeout_ms=5_000)
    else:
        opened = open_embedded(tmp_path / "store", map_size_bytes=1 << 24)
    yield opened
    opened.close()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[ConsentLedger]:
    with consent_ledger(tmp_path / "consents") as opened:
        yield opened


def record(ledger: ConsentLedger, store: OnlineStore | None, customer: str, will: ConsentRecord) -> None:
    """Records as the service does; without a store only the ledger hears of it."""
    entry = ConsentEntry(customer_id=customer, consent=will, received_at_ms=will.recorded_at_ms)
    position = ledger.append(entry)
    if store is not None:
        store.put_consents([(customer, replace(will, position=position))])


def stored(store: OnlineStore, customer: str) -> tuple[ConsentRecord, ...]:
    found: list[tuple[ConsentRecord, ...]] = []
    store.update([customer], lambda _c, held: found.append(held.consents))
    return found[0]


def states(store: OnlineStore, customer: str) -> list[tuple[str, str, ConsentState]]:
    return [(r.purpose, r.channel, r.state) for r in stored(store, customer)]


def test_a_projection_that_follows_from_the_ledger_is_left_alone(
    ledger: ConsentLedger, store: OnlineStore
) -> None:
    """Nothing differs and nothing is written where every change went the usual way."""
    for n in range(20):
        record(ledger, store, f"c-{n % 4}", said(WITHDRAWN if n % 3 else GRANTED, at_ms=n))

    found = rebuild(store, ledger, write=True)

    assert (found.customers, found.differences, found.replaced) == (4, [], 0)


def test_a_lost_projection_is_made_anew(ledger: ConsentLedger, store: OnlineStore, tmp_path: Path) -> None:
    """From the ledger alone come the same records, with their places, as were online before."""
    for n in range(30):
        state = (GRANTED, WITHDRAWN, GRANTED, OBJECTED)[n % 4]
        record(ledger, store, f"c-{n % 3}", said(state, at_ms=n, channel=("any", "email")[n % 2]))
    before = {c: stored(store, c) for c in ("c-0", "c-1", "c-2")}
    empty = open_embedded(tmp_path / "empty", map_size_bytes=1 << 24)

    found = rebuild(empty, ledger, write=True)

    assert {d.kind for d in found.differences} == {"missing"}
    assert found.replaced == 3
    assert {c: stored(empty, c) for c in before} == before
    empty.close()


def test_each_difference_is_named(ledger: ConsentLedger, store: OnlineStore) -> None:
    """Missing, extra, other, and right but without a place in the ledger."""
    record(ledger, None, "missing", said())
    store.put_consents([("extra", replace(said(), position=5))])
    record(ledger, store, "differs", said(at_ms=10))
    record(ledger, None, "differs", said(WITHDRAWN, at_ms=20))
    record(ledger, None, "unplaced", said())
    store.put_consents([("unplaced", said())])
    record(ledger, store, "fine", said())
    make_known(store, "extra")

    found = rebuild(store, ledger, write=False)

    assert {d.customer_id: d.kind for d in found.differences} == {
        "missing": "missing",
        "extra": "extra",
        "differs": "differ",
        "unplaced": "unplaced",
    }
    assert found.replaced == 0
    assert states(store, "differs") == [("marketing", "any", GRANTED)]


def make_known(store: OnlineStore, customer: str) -> None:
    """A customer that exists, so that the store lists it."""
    import numpy as np

    from feature_store.state import FeatureVector

    store.put_customers([(customer, FeatureVector("sha256:" + "0" * 64, (), np.zeros(1, dtype=np.float32)))])


def test_rebuilding_makes_it_right(ledger: ConsentLedger, store: OnlineStore) -> None:
    """What the ledger does not hold goes, what it holds comes, and a second look finds nothing."""
    record(ledger, None, "c-1", said(OBJECTED))
    store.put_consents([("c-2", replace(said(), position=5))])
    make_known(store, "c-2")

    found = rebuild(store, ledger, write=True)

    assert found.replaced == 2
    assert states(store, "c-1") == [("marketing", "any", OBJECTED)]
    assert states(store, "c-2") == []
    assert rebuild(store, ledger, write=False).differences == []


class Meddling:
    """A store in which somebody withdraws just before a replacement is written."""

    def __init__(self, store: OnlineStore, ledger: ConsentLedger, *, times: int) -> None:
        self._store = store
        self._ledger = ledger
        self._left = times
        self._at_ms = 100

    def __getattr__(self, name: str):
        return getattr(self._store, name)

    def update(self, customers, change) -> None:
        if "_Swap" in type(getattr(change, "__self__", None)).__name__ and self._left:
            self._left -= 1
            self._at_ms += 1
            record(self._ledger, self._store, "c-1", said(WITHDRAWN, at_ms=self._at_ms))
        self._store.update(customers, change)


def test_a_withdrawal_meanwhile_is_never_undone(ledger: ConsentLedger, store: OnlineStore) -> None:
    """A replacement that was compared before a withdrawal is compared again, not written over it."""
    record(ledger, None, "c-1", said(GRANTED, at_ms=10))
    meddling = Meddling(store, ledger, times=3)

    found = rebuild(meddling, ledger, write=True)

    assert found.unsettled == ()
    assert states(store, "c-1") == [("marketing", "any", WITHDRAWN)]
    assert rebuild(store, ledger, write=False).differences == []


def test_a_customer_who_changes_all_the_time_is_told(ledger: ConsentLedger, store: OnlineStore) -> None:
    """After some rounds the customer is named instead of the rebuild going on for ever."""
    record(ledger, None, "c-1", said(GRANTED, at_ms=10))

    found = rebuild(Meddling(store, ledger, times=99), ledger, write=True)

    assert found.unsettled == ("c-1",)


def test_only_the_customers_asked_for_are_projected(ledger: ConsentLedger) -> None:
    """A second look reads the whole ledger and keeps what it needs."""
    for customer in ("c-1", "c-2"):
        record(ledger, None, customer, said())

    assert set(project(ledger, {"c-2": ()})) == {"c-2"}


def test_an_update_may_replace_consents(store: OnlineStore) -> None:
    """Consents are replaced whole, and an empty replacement leaves none."""
    store.put_consents([("c-1", said(channel="email")), ("c-1", said())])

    store.update(["c-1"], lambda _c, _r: CustomerChange(consents=(said(WITHDRAWN),)))
    replaced = states(store, "c-1")
    store.update(["c-1"], lambda _c, _r: CustomerChange(consents=()))

    assert replaced == [("marketing", "any", WITHDRAWN)]
    assert states(store, "c-1") == []
