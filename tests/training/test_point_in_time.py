"""What a training table holds is what a decision at the instant would have read, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shop_history import BILLING, DAY_MS, HOUR_MS, NOW_MS, SCHEMA, bought, loaded, row

from engine.core.inputs import current_vector
from engine.domain import DecisionRequest
from engine.events.applying import EventRules, apply_events, look_again
from engine.events.checking import CheckedEvent
from engine.events.relevance import Relevance
from engine.events.types import EventType, EventTypes
from engine.signals.patterns import SignalPatterns
from feature_store.state import CustomerRecord, CustomerState, FeatureVector
from feature_store.streaming import StreamingFeatures
from feature_store.versions import write_one
from training.errors import DataUnexpected, LeakRefused
from training.pointintime import Event, History, Observation, Snapshot

TYPES = EventTypes({name: EventType(name, "", {}, 90 * DAY_MS) for name in ("bought", "viewed")})
NO_SIGNALS = SignalPatterns("none", frozenset(), ())
RULES = EventRules(
    version="1",
    types=TYPES,
    check=None,  # type: ignore[arg-type]  # judges what is sent; here is what was applied
    patterns=NO_SIGNALS,
    relevance=Relevance(NO_SIGNALS),
    streaming=StreamingFeatures(SCHEMA),
)


def values_of(history: History, asked: Observation) -> Mapping[str, object]:
    """The row's features by name, None where missing."""
    seen = history.seen([asked])[0]
    return dict(zip(SCHEMA.index, SCHEMA.decode_all(seen.values), strict=True))


def history_of(events: Sequence[Event] = (), snapshots: Sequence[Snapshot] | None = None) -> History:
    """A history; C1 was loaded a day ago unless told otherwise."""
    return History(SCHEMA, events=events, snapshots=[loaded(DAY_MS)] if snapshots is None else snapshots)


def served(events: Sequence[Event], snapshots: Sequence[Snapshot], asked: Observation) -> np.ndarray:
    """What the server reads at an instant: ingestion and loads one by one, and the decision's own reading."""
    arrivals: list[tuple[int, int, Event | Snapshot]] = [(e.received_ms, 0, e) for e in events]
    arrivals += [(s.known_ms, s.view_time_ms, s) for s in snapshots]
    record = CustomerRecord()
    for arrived_ms, _, one in sorted(arrivals, key=lambda a: a[:2]):
        if arrived_ms < asked.at_ms and one.customer_id == asked.customer_id:
            record = _with_snapshot(record, one) if isinstance(one, Snapshot) else _with_event(record, one)
    change = look_again(RULES, record, now_ms=asked.at_ms).change
    assert change is not None
    state = CustomerState(asked.customer_id, features=change.features)
    request = DecisionRequest(asked.customer_id, "web", context=dict(asked.context))  # type: ignore[arg-type]
    return current_vector(SCHEMA, request, state, now_ms=asked.at_ms)


def _with_event(record: CustomerRecord, event: Event) -> CustomerRecord:
    digest = blake2b(event.id.encode(), digest_size=8).digest()
    checked = CheckedEvent(
        event.id,
        digest,
        event.customer_id,
        TYPES.by_name[event.type],
        min(event.occurred_ms, event.received_ms),
        event.received_ms,
        event.attributes,
    )
    change = apply_events(RULES, record, [checked], now_ms=event.received_ms).change
    if change is None:
        return record
    return replace(record, features=change.features or record.features, stream=change.stream or b"")


def _with_snapshot(record: CustomerRecord, snapshot: Snapshot) -> CustomerRecord:
    values = np.full(len(SCHEMA.feature), np.nan, dtype=np.float32)
    for place, stored in snapshot.values.items():
        values[place] = stored
    offered = FeatureVector(SCHEMA.digest, (snapshot.view_time_ms,) * len(SCHEMA.view), values)
    kept = write_one(record.features, SCHEMA, offered, SCHEMA, snapshot.views)
    return replace(record, features=kept)


_ages = st.integers(0, 6 * DAY_MS) | st.integers(0, 144).map(lambda hours: hours * HOUR_MS)
_events = st.builds(
    lambda number, kind, age, late, amount: bought(
        age, id=f"e{number}", late_ms=late, type=kind, amount=amount
    ),
    st.integers(0, 30),
    st.sampled_from(["bought", "viewed"]),
    _ages,
    st.integers(-60_000, 2 * DAY_MS) | st.just(0),
    st.integers(-500, 5_000).map(lambda cents: cents / 100),
)
_snapshots = st.builds(
    lambda age, delay, charges, plan, whole: loaded(age, delay, charges=charges, plan=plan, whole=whole),
    _ages,
    st.integers(0, 2 * DAY_MS),
    st.none() | st.integers(0, 500).map(float),
    st.none() | st.sampled_from(["basic", "plus"]),
    st.booleans(),
)


@settings(max_examples=120, deadline=None)
@given(
    st.lists(_events, max_size=20, unique_by=lambda e: (e.id, e.received_ms)),
    st.lists(_snapshots, min_size=1, max_size=4, unique_by=lambda s: (s.view_time_ms, s.known_ms)),
    st.lists(_ages, min_size=1, max_size=5, unique=True),
)
def test_rows_are_what_the_server_would_have_read(
    events: list[Event], snapshots: list[Snapshot], ages: list[int]
) -> None:
    """For random histories every value is, to the bit, that of ingestion and decision up to the instant."""
    asked = [row(age, context={"basket": 3}) for age in ages]

    seen = history_of(events, snapshots).seen(asked)

    for one, found in zip(asked, seen, strict=True):
        np.testing.assert_array_equal(found.values, served(events, snapshots, one))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(_events, max_size=20, unique_by=lambda e: (e.id, e.received_ms)),
    st.lists(_snapshots, min_size=1, max_size=4, unique_by=lambda s: (s.view_time_ms, s.known_ms)),
    _ages,
)
def test_what_comes_later_changes_nothing(events: list[Event], snapshots: list[Snapshot], age: int) -> None:
    """The row is the same whether or not the history goes on after its instant."""
    asked = row(age)
    before = [e for e in events if e.received_ms < asked.at_ms]
    known = [s for s in snapshots if s.known_ms < asked.at_ms] or [loaded(DAY_MS, customer_id="C9")]

    whole, cut = history_of(events, snapshots).seen([asked])[0], history_of(before, known).seen([asked])[0]

    np.testing.assert_array_equal(whole.values, cut.values)
    assert whole.known_ms == cut.known_ms


def test_a_late_event_is_not_seen_before_it_arrives() -> None:
    """It happened two days ago and arrived an hour ago: a row of yesterday does not have it."""
    history = history_of([bought(2 * DAY_MS, late_ms=2 * DAY_MS - HOUR_MS)], [loaded(3 * DAY_MS)])

    counts = [values_of(history, row(age))["purchases"] for age in (DAY_MS, 0)]

    assert counts == [0, 1]


def test_what_arrives_at_the_instant_is_not_seen() -> None:
    """Intervals are half-open: received before the instant counts, received at it does not."""
    history = history_of([bought(HOUR_MS)])

    counts = [values_of(history, row(HOUR_MS - later))["purchases"] for later in (0, 1)]

    assert counts == [0, 1]


def test_a_snapshot_counts_from_when_it_was_known() -> None:
    """Of yesterday's view time and loaded an hour ago: two hours ago the one before stood."""
    snapshots = [
        loaded(2 * DAY_MS, charges=10.0),
        loaded(DAY_MS, DAY_MS - HOUR_MS, charges=20.0),
    ]

    charges = [values_of(history_of((), snapshots), row(age))["charges"] for age in (2 * HOUR_MS, HOUR_MS, 0)]

    assert charges == [10.0, 10.0, 20.0]


def test_a_stale_view_is_missing_and_has_no_default() -> None:
    """At three days of age the value is missing, a millisecond before not; nor does the default stand."""
    history = history_of((), [loaded(3 * DAY_MS, plan=None)])

    stale, fresh = values_of(history, row(0)), values_of(history, row(1))

    assert (stale["charges"], fresh["charges"]) == (None, 10.0)
    assert (stale["plan"], fresh["plan"]) == (None, "basic")


def test_a_customer_who_was_not_loaded_yet_is_unknown() -> None:
    """Events alone do not make a customer: a decision then reads nothing of one."""
    history = history_of([bought(2 * DAY_MS)], [loaded(DAY_MS)])

    before, after = (values_of(history, row(age, context={"basket": 2})) for age in (DAY_MS, 0))

    assert {name for name, value in before.items() if value is not None} == {"basket"}
    assert after["purchases"] == 1


def test_a_repeated_event_is_one() -> None:
    """At-least-once delivery: the copy received first counts, the others do not."""
    history = history_of([bought(HOUR_MS, id="a", late_ms=60_000), bought(HOUR_MS, id="a")])

    assert values_of(history, row(0))["purchases"] == 1


def test_a_row_says_how_new_its_sources_are() -> None:
    """For each view: of when it is and when the newest of it was known."""
    history = history_of([bought(HOUR_MS, late_ms=5)], [loaded(2 * DAY_MS, HOUR_MS)])

    seen = history.seen([row(0)])[0]

    assert seen.view_times_ms[BILLING] == NOW_MS - 2 * DAY_MS
    assert seen.known_ms[BILLING] == NOW_MS - 2 * DAY_MS + HOUR_MS
    assert max(seen.known_ms) == NOW_MS - HOUR_MS + 5


def test_contradicting_histories_are_refused() -> None:
    """Two snapshots at once, two events of one id at once, and no snapshot at all."""
    twice = [loaded(DAY_MS, charges=1.0), loaded(DAY_MS, charges=2.0)]

    with pytest.raises(DataUnexpected, match="view billing of customer C1 has two snapshots"):
        history_of((), twice)
    with pytest.raises(DataUnexpected, match="event a of customer C1 was received twice"):
        history_of([bought(5, id="a", amount=1.0), bought(5, id="a", amount=2.0)])
    with pytest.raises(DataUnexpected, match=r"no snapshots, .*\(charges, plan, contacts\)"):
        history_of((), ())


def test_a_history_known_before_it_happened_is_refused() -> None:
    """Backdated snapshots and events say so, with both instants."""
    with pytest.raises(LeakRefused, match=r"known_time: customer C1 .*describes 2027-01-14T08:00:00\.000Z"):
        history_of((), [loaded(DAY_MS, -HOUR_MS)])
    with pytest.raises(LeakRefused, match="event e is said to be received then and happened at 2027-01-15"):
        history_of([bought(0, late_ms=-HOUR_MS)])
