"""What is remembered of customers to whom nothing happens any more goes when its time is over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from eventful_company import CUSTOMERS
from redis_at_work import RedisServer

from engine.bootstrap import Application, wall_clock_ms
from engine.events.applying import Application as Applied
from engine.events.applying import apply_events, look_again, settle_signals, tidied
from engine.events.checking import CheckedEvent
from engine.events.memory import LONGEST_WAIT_MS, read_memory
from engine.events.raw import RawEvent
from engine.events.types import Reason
from engine.service.retention import tidy
from engine.signals.patterns import Value
from feature_store.embedded import open_embedded
from feature_store.redis.store import open_redis
from feature_store.state import CustomerChange, CustomerRecord, FeatureVector, Signal
from feature_store.store import OnlineStore

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
NOW_MS = wall_clock_ms()
YEAR_MS = 366 * DAY_MS


@pytest.fixture(params=["embedded", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OnlineStore]:
    """Both stores, empty."""
    if request.param == "embedded":
        opened: OnlineStore = open_embedded(tmp_path / "store")
    else:
        redis: RedisServer = request.getfixturevalue("redis_server")
        opened = open_redis(redis.url, timeout_ms=5_000)
    yield opened
    opened.close()


@pytest.fixture
def vector(company: Application) -> FeatureVector:
    """Features of somebody of whom nothing is known."""
    state = company.store.read(CUSTOMERS[0])
    assert state is not None
    assert state.features is not None
    return state.features


def checked(company: Application, name: str, kind: str, **attributes: Value) -> CheckedEvent:
    """An event of now that passed the checks."""
    raw = RawEvent(f"quiet-{name}-{kind}", kind, name, None, NOW_MS, attributes, NOW_MS)
    return company.events.rules.check.check(raw, name)


def applied(company: Application, record: CustomerRecord, name: str, *, now_ms: int = NOW_MS) -> Applied:
    """A search and a failed payment, applied at an instant."""
    events = [
        checked(company, name, "search_made", topic="notice_period"),
        checked(company, name, "payment_failed", amount=12.0),
    ]
    return apply_events(company.events.rules, record, events, now_ms=now_ms)


def stored(store: OnlineStore, name: str) -> CustomerRecord:
    """Everything under an id."""
    seen: list[CustomerRecord] = []
    store.update([name], lambda _, record: seen.append(record))
    return seen[-1]


def remember(company: Application, store: OnlineStore, name: str) -> None:
    """Applies two events and stores what is remembered of them, and a signal."""

    def change(_: str, record: CustomerRecord) -> CustomerChange | None:
        made = applied(company, record, name).change
        assert made is not None
        signal = Signal("cancel_intent", True, NOW_MS, NOW_MS + 30 * DAY_MS)
        return replace(made, signals=(signal,), due_at_ms=NOW_MS + DAY_MS)

    store.update([name], change)


def test_what_is_beyond_its_time_goes_and_the_customer_stays(
    company: Application, store: OnlineStore, vector: FeatureVector
) -> None:
    """A run counts what it drops; a dry run only counts; a second run finds nothing."""
    store.put_customers([("q1", vector), ("q2", vector)])
    remember(company, store, "q1")
    rules = company.events.rules

    soon = tidy(store, rules, now_ms=NOW_MS + DAY_MS, write=True)
    counted = tidy(store, rules, now_ms=NOW_MS + YEAR_MS, write=False)
    gone, again = (tidy(store, rules, now_ms=NOW_MS + YEAR_MS, write=True) for _ in range(2))

    after = stored(store, "q1")
    memory = read_memory(after.stream)
    assert (soon, again) == (0, 0)
    assert counted == gone > 4
    assert after.features is not None
    assert after.signals == ()
    assert (memory.held, memory.watermark_ms) == (0, 0)
    assert store.read("q2") is not None


def test_nothing_is_left_of_who_never_was_a_customer(company: Application, store: OnlineStore) -> None:
    """Events of an id that nobody loads: the value and the due mark go, so nobody looks again."""
    remember(company, store, "nobody")

    gone = tidy(store, company.events.rules, now_ms=NOW_MS + YEAR_MS, write=True)

    after = stored(store, "nobody")
    assert gone > 4
    assert (after.stream, after.signals) == (b"", ())
    assert store.due(now_ms=NOW_MS + 3 * YEAR_MS, limit=10) == []


@pytest.mark.parametrize("exists", [True, False])
def test_looking_when_due_is_enough(company: Application, vector: FeatureVector, exists: bool) -> None:
    """Whoever looks at due customers needs no job: the marks lead to the end in a bounded number of looks."""
    rules = company.events.rules
    made = applied(company, CustomerRecord(features=vector if exists else None), "w1")
    record, looks = CustomerRecord(), 0
    while made.change is not None:
        change = made.change
        if made.unsettled is not None:
            record = replace(record, features=change.features, stream=change.stream or b"")
            settled = settle_signals(rules, record, made.unsettled, ())
            assert settled is not None
            change = replace(settled, features=change.features)
        record = replace(record, features=change.features, stream=change.stream or b"")
        due_ms = change.due_at_ms or 0
        if not record.stream or read_memory(record.stream).held == 0:
            break
        assert due_ms > 0
        looks += 1
        assert looks < 3_000
        made = look_again(rules, record, now_ms=due_ms)

    assert (record.stream == b"") is not exists
    assert tidied(rules, record, now_ms=NOW_MS + YEAR_MS)[1] == 0


def test_a_copy_that_comes_after_its_id_went_is_refused(company: Application) -> None:
    """What is older than anything remembered is refused for its age, and a replay is not."""
    rules = company.events.rules
    wait_ms = rules.types.horizon_ms + LONGEST_WAIT_MS
    late = replace(checked(company, "c1", "payment_failed", amount=1.0), late=True)

    in_time = applied(company, CustomerRecord(), "c1", now_ms=NOW_MS + wait_ms)
    too_old = applied(company, CustomerRecord(), "c1", now_ms=NOW_MS + wait_ms + 1)
    replayed = apply_events(rules, CustomerRecord(), [late], now_ms=NOW_MS + wait_ms + 1)

    assert {fate.verdict for fate in in_time.fates} == {"applied"}
    assert {fate.reason for fate in too_old.fates} == {Reason.TOO_LATE}
    assert {fate.verdict for fate in replayed.fates} == {"applied"}


def test_ids_stay_while_a_copy_could_still_be_applied(company: Application, vector: FeatureVector) -> None:
    """At the last instant at which an event would be taken, its id is known; whatever looked meanwhile."""
    rules = company.events.rules
    first = applied(company, CustomerRecord(features=vector), "d1").change
    assert first is not None
    record = CustomerRecord(features=first.features, stream=first.stream or b"")
    last_ms = NOW_MS + rules.types.horizon_ms + LONGEST_WAIT_MS
    tidy_change, _ = tidied(rules, record, now_ms=last_ms)
    assert tidy_change is not None
    record = replace(record, stream=tidy_change.stream or b"")

    again = applied(company, record, "d1", now_ms=last_ms)

    assert {fate.verdict for fate in again.fates} == {"duplicate"}
