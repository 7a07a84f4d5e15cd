"""Streaming features: the same events give the same values, in whatever order and batches they come."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streaming_reference import Happened, same, value_of

from feature_store.errors import SchemaError
from feature_store.schema import FeatureSchema, parse_schema
from feature_store.streaming import MAX_DISTINCT, StreamingFeatures, Tallies

NOW_MS = 1_800_000_000_000
MINUTE_MS, DAY_MS = 60_000, 86_400_000
LATE_MS = 2 * DAY_MS

FEATURES = {
    "failed": 'function = "count", events = ["payment_failed"], window = "3d"',
    "exactly": 'function = "count", events = ["payment_failed", "bought"], window = "90m", step = "1ms"',
    "cancels": 'function = "count", events = ["viewed"], where = { path = "/cancel" }, window = "2d"',
    "either": 'function = "count", events = ["viewed"], where = { path = ["/cancel", "/home"] }, '
    'window = "1d"',
    "spent": 'function = "sum", events = ["bought"], attribute = "amount", window = "4d"',
    "paths": 'function = "distinct", events = ["viewed"], attribute = "path", window = "2d", step = "1h"',
    "since": 'function = "last_seen", events = ["bought"], unit = "1h", window = "3d"',
    "warmth": 'function = "decay", events = ["viewed"], half_life = "12h", window = "4d", step = "1h"',
    "weight": 'function = "decay", events = ["bought"], attribute = "amount", half_life = "1d", '
    'window = "5d"',
    "rfm": 'function = "rfm", events = ["bought"], attribute = "amount", window = "4d", '
    "cuts = { recency_days = [0.5, 2], frequency = [2, 4], monetary = [20, 100] }",
}
_TYPES = {"since": "int", "failed": "int", "exactly": "int", "paths": "int", "rfm": "int", "cancels": "bool"}


def schema_of(features: dict[str, str]) -> FeatureSchema:
    """A schema of one streaming view."""
    text = 'name = "s"\nversion = 1\n[[view]]\nname = "v"\nkind = "streaming"\nowner = "t"\n'
    text += 'freshness_hours = 48\ndescription = "d"\n'
    for name, aggregate in features.items():
        text += f'[[feature]]\nname = "{name}"\nview = "v"\ntype = "{_TYPES.get(name, "double")}"\n'
        text += f'data_class = "behavioural"\ndescription = "d"\naggregate = {{ {aggregate} }}\n'
    return parse_schema(text, source="test")


SCHEMA = schema_of(FEATURES)
STREAMING = StreamingFeatures(SCHEMA)

happenings = st.builds(
    lambda kind, age, path, amount: Happened(
        kind,
        NOW_MS - age,
        {"path": path} if kind == "viewed" else {"amount": amount} if kind == "bought" else {},
    ),
    st.sampled_from(["payment_failed", "viewed", "bought", "unknown"]),
    st.integers(0, 6 * DAY_MS) | st.integers(0, 72).map(lambda hours: hours * 3_600_000),
    st.sampled_from(["/cancel", "/home", "/help"]),
    st.integers(-500, 5_000).map(lambda cents: cents / 100) | st.integers(0, 50),
)


def applied(events: Sequence[Happened], now_ms: int, *, forgetting: bool = False) -> Tallies:
    """What is tallied of events in the order given."""
    tallies: Tallies = {}
    for event in events:
        STREAMING.apply(tallies, event.type, event.at_ms, event.attributes, now_ms=now_ms)
        if forgetting:
            STREAMING.forget(tallies, now_ms=now_ms)
    return tallies


def named(tallies: Tallies, now_ms: int) -> dict[str, float]:
    """Values by feature."""
    return {SCHEMA.feature[place].name: v for place, v in STREAMING.values(tallies, now_ms=now_ms).items()}


@settings(max_examples=50, deadline=None)
@given(st.lists(happenings, max_size=25), st.integers(0, 5 * DAY_MS))
def test_values_are_those_of_the_definition(events: list[Happened], later_ms: int) -> None:
    """Now, and at any later time without further events."""
    tallies = applied(events, NOW_MS)

    for now_ms in (NOW_MS, NOW_MS + later_ms):
        found = named(tallies, now_ms)
        for feature in SCHEMA.feature:
            assert feature.aggregate is not None
            expected = value_of(feature.aggregate, events, now_ms)
            if feature.type == "bool":
                expected = float(bool(expected))
            assert same(found[feature.name], expected), (feature.name, found[feature.name], expected)


@settings(max_examples=50, deadline=None)
@given(st.lists(happenings, max_size=25), st.randoms(use_true_random=False))
def test_order_does_not_matter_to_the_bit(events: list[Happened], dice: object) -> None:
    """Late, disordered, and whether or not old steps were forgotten in between."""
    shuffled = list(events)
    dice.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis' Random

    in_order = STREAMING.values(applied(sorted(events, key=lambda e: e.at_ms), NOW_MS), now_ms=NOW_MS)
    disordered = STREAMING.values(applied(shuffled, NOW_MS, forgetting=True), now_ms=NOW_MS)

    assert repr(in_order) == repr(disordered)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(happenings, st.integers(0, LATE_MS)), max_size=15), st.integers(0, 20), st.booleans()
)
def test_late_events_change_nothing_about_the_end(
    arrivals: list[tuple[Happened, int]], looks: int, often: bool
) -> None:
    """Applied at the instants they arrive, with looks and forgetting in between, the end is the same."""
    by_arrival = sorted(arrivals, key=lambda pair: pair[0].at_ms + pair[1])
    end_ms = NOW_MS + LATE_MS
    tallies: Tallies = {}

    for event, late_ms in by_arrival:
        now_ms = event.at_ms + late_ms
        STREAMING.apply(tallies, event.type, event.at_ms, event.attributes, now_ms=now_ms)
        if often or looks % 2:
            STREAMING.forget(tallies, now_ms=now_ms)

    at_once = applied([event for event, _ in arrivals], NOW_MS - 6 * DAY_MS)
    assert repr(named(tallies, end_ms)) == repr(named(at_once, end_ms))


@settings(max_examples=30, deadline=None)
@given(st.lists(happenings, min_size=1, max_size=8))
def test_values_change_only_when_said(events: list[Happened]) -> None:
    """Just before `next_change_ms` every value is what it is now; following the marks misses no change."""
    tallies = applied(events, NOW_MS)
    now_ms = NOW_MS

    for _ in range(12):
        change = STREAMING.next_change_ms(tallies, now_ms=now_ms)
        until = NOW_MS + 7 * DAY_MS if change is None else change - 1
        before = repr(STREAMING.values(tallies, now_ms=now_ms))
        for instant in (now_ms + 1, (now_ms + until) // 2, until):
            if now_ms < instant <= until:
                assert repr(STREAMING.values(tallies, now_ms=instant)) == before
        if change is None:
            break
        assert change > now_ms
        now_ms = change


def test_without_events_nothing_was_counted() -> None:
    """Counts are zero, and what has no last event is absent."""
    found = named({}, NOW_MS)

    absent = {name for name, value in found.items() if math.isnan(value)}
    assert absent == {"since", "rfm"}
    assert {value for name, value in found.items() if name not in absent} == {0.0}


def test_sums_do_not_depend_on_rounding() -> None:
    """A tenth added ten times is one."""
    events = [Happened("bought", NOW_MS - i * MINUTE_MS, {"amount": 0.1}) for i in range(10)]

    assert named(applied(events, NOW_MS), NOW_MS)["spent"] == 1.0


def test_another_definition_starts_anew() -> None:
    """What was tallied for a window of three days says nothing about one of ten."""
    tallies = applied([Happened("payment_failed", NOW_MS, {})], NOW_MS)
    wider = StreamingFeatures(schema_of(FEATURES | {"failed": FEATURES["failed"].replace("3d", "10d")}))

    assert wider.values(tallies, now_ms=NOW_MS)[0] == 0.0
    wider.forget(tallies, now_ms=NOW_MS)
    assert "failed" not in tallies


def test_distinct_values_are_bounded() -> None:
    """The newest are told apart, whatever the order, and the count ends there."""
    events = [Happened("viewed", NOW_MS - i * MINUTE_MS, {"path": f"/{i}"}) for i in range(MAX_DISTINCT + 50)]

    forward, backward = applied(events, NOW_MS), applied(events[::-1], NOW_MS)

    assert named(forward, NOW_MS)["paths"] == MAX_DISTINCT
    assert forward["paths"].newest == backward["paths"].newest


def test_true_is_not_one() -> None:
    """Conditions compare values of the same kind only."""
    streaming = StreamingFeatures(
        schema_of({"failed": 'function = "count", events = ["a"], where = { x = 1 }, window = "1d"'})
    )

    counted = [streaming.apply({}, "a", NOW_MS, {"x": value}, now_ms=NOW_MS) for value in (True, 1, 1.0, 2)]

    assert counted == [False, True, True, False]


@pytest.mark.parametrize(
    ("aggregate", "words"),
    [
        ('function = "sum", events = ["a"], window = "1d"', "`attribute` is missing"),
        (
            'function = "count", events = ["a"], window = "1d", half_life = "1h"',
            "`half_life` is not for count",
        ),
        ('function = "decay", events = ["a"], window = "1d"', "`half_life` is missing"),
        ('function = "last_seen", events = ["a"], window = "1d"', "`unit` is missing"),
        ('function = "count", events = ["a"], window = "soon"', "not a duration"),
        ('function = "count", events = ["a"], window = "1h", step = "2h"', "longer than `window`"),
        ('function = "count", events = ["a"], window = "3650d", step = "1m"', "more than 5000 steps"),
        ('function = "count", events = [], window = "1d"', "at least 1 item"),
        (
            'function = "rfm", events = ["a"], attribute = "x", window = "1d", '
            "cuts = { recency_days = [3, 2], frequency = [1], monetary = [1] }",
            "`recency_days` must be positive and ascend",
        ),
    ],
)
def test_a_wrong_aggregate_is_refused(aggregate: str, words: str) -> None:
    """With the feature and what to do."""
    with pytest.raises(SchemaError, match=words):
        schema_of({"some": aggregate})


def test_an_aggregate_belongs_in_a_streaming_view() -> None:
    """A batch view is loaded, not counted."""
    text = """
        name = "s"
        version = 1
        view = [{name = "v", kind = "batch", owner = "o", freshness_hours = 1, description = "d"}]
        [[feature]]
        name = "n"
        view = "v"
        type = "int"
        data_class = "billing"
        description = "d"
        aggregate = { function = "count", events = ["a"], window = "1d" }
    """

    with pytest.raises(SchemaError, match="belong in a streaming view: n"):
        parse_schema(text, source="test")
