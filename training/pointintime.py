"""What a decision at an instant would have read of a customer, from a history of events and snapshots.

Pure. Streaming features come from the code that ingestion runs (feature_store.streaming), fed with the events
in the order they were received. Half-open throughout:

- what was received, or known, *before* the instant is seen; what was at the very instant is not;
- a value whose age has reached the view's freshness is missing, and then no default stands for it;
- a repeated event id is one event, the one received first;
- of several snapshots the one known last stands, of those known at once the one of the latest view time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import nan
from operator import attrgetter
from typing import Final, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from feature_store.aggregates import Wanted
from feature_store.schema import FeatureSchema, FeatureValue
from feature_store.state import FeatureVector
from feature_store.streaming import StreamingFeatures, Tallies
from training.errors import DataUnexpected, Leak, LeakRefused
from training.instants import written_instant

Kept = TypeVar("Kept")
MAX_AHEAD_MS: Final = 5 * 60_000
"""How far the clock of a sender may be ahead; ingestion refuses events of faster ones."""


@dataclass(frozen=True, slots=True)
class Observation:
    """A prediction that could have been made at `at_ms`, and what came of it.

    The label tells of `[label_from_ms, label_known_ms)`; None is from the instant on. `context` are the
    features that the request would have brought.
    """

    customer_id: str
    at_ms: int
    label: float
    label_known_ms: int
    label_from_ms: int | None = None
    context: Mapping[str, FeatureValue | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a customer, as it was applied."""

    id: str
    type: str
    customer_id: str
    occurred_ms: int
    received_ms: int
    attributes: Mapping[str, Wanted] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Loaded features of one customer: of `view_time_ms`, in the store from `known_ms` on.

    `views` are places of the views it holds, `values` stored values by place of the feature.
    """

    customer_id: str
    view_time_ms: int
    known_ms: int
    views: tuple[int, ...]
    values: Mapping[int, float]


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What a model reads at an instant: float32 of shape (features,), NaN where missing.

    For each view its time and when the newest of what it was made of was known, 0 where there is nothing.
    """

    values: npt.NDArray[np.float32]
    view_times_ms: tuple[int, ...]
    known_ms: tuple[int, ...]


class History:
    """All that was ever received, by customer. Immutable."""

    def __init__(
        self, schema: FeatureSchema, *, events: Iterable[Event], snapshots: Iterable[Snapshot]
    ) -> None:
        """Raises LeakRefused for what claims to be known before it was, DataUnexpected for contradictions."""
        self.schema = schema
        self.streaming = StreamingFeatures(schema)
        self._snapshots = _snapshots_by_customer(schema, snapshots)
        self._events = _events_by_customer(events)
        if self.loaded and not self._snapshots:
            names = ", ".join(schema.feature[place].name for place in self.loaded[:5])
            raise DataUnexpected(
                f"no snapshots, and schema {schema.name} has features that are loaded ({names}): a decision "
                "knows only customers that were; give the snapshots"
            )

    @cached_property
    def loaded(self) -> tuple[int, ...]:
        """Places of the features that snapshots bring."""
        return loaded_places(self.schema)

    def seen(self, observations: Sequence[Observation]) -> list[Seen]:
        """What each would have read, in the order given."""
        order = sorted(range(len(observations)), key=lambda i: observations[i].at_ms)
        replays: dict[str, _Replay] = {}
        found: dict[int, Seen] = {}
        for i in order:
            asked = observations[i]
            replay = replays.get(asked.customer_id)
            if replay is None:
                replay = replays[asked.customer_id] = self._replay(asked.customer_id)
            found[i] = replay.seen(asked)
        return [found[i] for i in range(len(observations))]

    def end_ms(self, customer_id: str) -> int:
        """The first instant at which everything of a customer is known."""
        events = [event.received_ms for event in self._events.get(customer_id, ())]
        return 1 + max(events + [s.known_ms for s in self._snapshots.get(customer_id, ())], default=0)

    def _replay(self, customer_id: str) -> _Replay:
        events, snapshots = self._events.get(customer_id, ()), self._snapshots.get(customer_id, ())
        return _Replay(self, events, snapshots)


class _Replay:
    """One customer's history, played forward."""

    def __init__(self, history: History, events: Sequence[Event], snapshots: Sequence[Snapshot]) -> None:
        schema = history.schema
        self._schema, self._streaming = schema, history.streaming
        self._events = _Waiting(events, attrgetter("received_ms"))
        self._snapshots = _Waiting(snapshots, attrgetter("known_ms"))
        self._tallies: Tallies = {}
        self._values = np.full(len(schema.feature), np.nan, dtype=np.float32)
        self._times = [0] * len(schema.view)
        self._known = [0] * len(schema.view)
        self._exists = not history.loaded

    def seen(self, asked: Observation) -> Seen:
        """What is read at an instant, which is none before the last one asked for."""
        self._receive(asked.at_ms)
        vector = FeatureVector(self._schema.digest, tuple(self._times), self._values)
        if self._exists:
            vector = self._streaming.written(vector, self._tallies, now_ms=asked.at_ms)
        values = _judged(self._schema, vector, asked.at_ms) if self._exists else self._values.copy()
        for place, feature in self._schema.requested:
            given = asked.context.get(feature.name)
            values[place] = feature.encode(feature.default if given is None else given)
        return Seen(values, vector.view_times_ms, tuple(self._known))

    def _receive(self, until_ms: int) -> None:
        for event in self._events.before(until_ms):
            at_ms = min(event.occurred_ms, event.received_ms)  # a fast clock moves nothing into the future
            counted = self._streaming.apply(
                self._tallies, event.type, at_ms, event.attributes, now_ms=event.received_ms
            )
            for view in self._streaming.views if counted else ():
                self._known[view] = max(self._known[view], event.received_ms)
        for snapshot in self._snapshots.before(until_ms):
            self._exists = True
            for place, stored in snapshot.values.items():
                self._values[place] = stored
            for view in snapshot.views:
                self._times[view] = snapshot.view_time_ms
                self._known[view] = max(self._known[view], snapshot.known_ms)


class _Waiting(Generic[Kept]):
    """What is not known yet, in the order it becomes known."""

    def __init__(self, kept: Sequence[Kept], when: Callable[[Kept], int]) -> None:
        self._kept, self._when, self._taken = kept, when, 0

    def before(self, until_ms: int) -> Iterator[Kept]:
        """Takes what is known before an instant."""
        while self._taken < len(self._kept) and self._when(self._kept[self._taken]) < until_ms:
            yield self._kept[self._taken]
            self._taken += 1


def loaded_places(schema: FeatureSchema) -> tuple[int, ...]:
    """Places of the features that are neither computed from events nor brought by the request."""
    stored = {view.name for view in schema.view if view.kind != "request"}
    return tuple(i for i, f in enumerate(schema.feature) if f.view in stored and f.aggregate is None)


def _judged(schema: FeatureSchema, vector: FeatureVector, now_ms: int) -> npt.NDArray[np.float32]:
    """The values with defaults filled and stale views blanked."""
    values = np.where(np.isnan(vector.values), schema.defaults, vector.values)
    stale = [
        now_ms - at_ms >= view.freshness_ms
        for view, at_ms in zip(schema.view, vector.view_times_ms, strict=True)
    ]
    values[np.array(stale)[schema.view_index]] = nan
    return values


def _events_by_customer(events: Iterable[Event]) -> Mapping[str, Sequence[Event]]:
    """Each event once, in the order received."""
    first: dict[tuple[str, str], Event] = {}
    for event in events:
        if event.occurred_ms > event.received_ms + MAX_AHEAD_MS:
            raise LeakRefused((_from_the_future(event),))
        key = (event.customer_id, event.id)
        other = first.get(key)
        if other is not None and other.received_ms == event.received_ms and other != event:
            raise DataUnexpected(
                f"event {event.id} of customer {event.customer_id} was received twice at "
                f"{written_instant(event.received_ms)} and says different things; keep the one applied"
            )
        if other is None or event.received_ms < other.received_ms:
            first[key] = event
    grouped: dict[str, list[Event]] = {}
    for event in sorted(first.values(), key=lambda e: e.received_ms):
        grouped.setdefault(event.customer_id, []).append(event)
    return grouped


def _from_the_future(event: Event) -> Leak:
    return Leak(
        "received_time",
        event.customer_id,
        written_instant(event.received_ms),
        f"event {event.id} is said to be received then and happened at "
        f"{written_instant(event.occurred_ms)}: write when it was really received",
    )


def _snapshots_by_customer(
    schema: FeatureSchema, snapshots: Iterable[Snapshot]
) -> Mapping[str, Sequence[Snapshot]]:
    """In the order they became known."""
    grouped: dict[str, list[Snapshot]] = {}
    taken: set[tuple[str, int, int, int]] = set()
    for one in snapshots:
        if one.view_time_ms > one.known_ms:
            raise LeakRefused((_backdated(one),))
        keys = {(one.customer_id, one.view_time_ms, one.known_ms, view) for view in one.views}
        for *_, view in sorted(keys & taken):
            raise DataUnexpected(
                f"view {schema.view[view].name} of customer {one.customer_id} has two snapshots known at "
                f"{written_instant(one.known_ms)} with one view time; keep one of them"
            )
        taken |= keys
        grouped.setdefault(one.customer_id, []).append(one)
    for of_customer in grouped.values():
        of_customer.sort(key=lambda s: (s.known_ms, s.view_time_ms))
    return grouped


def _backdated(snapshot: Snapshot) -> Leak:
    return Leak(
        "known_time",
        snapshot.customer_id,
        written_instant(snapshot.known_ms),
        f"a snapshot is said to be known then and describes {written_instant(snapshot.view_time_ms)}, "
        "which is later: write when it was really loaded",
    )
