"""Counts decisions for drift: a decision puts its record on a short list, a thread counts many at once.

Counted is what models read and said of customers who consented to profiling, and which action was returned
on each channel. What a record says of a person is gone as soon as it is counted, within a second.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, compress, repeat
from math import nan
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, overload

import numpy as np
import numpy.typing as npt
import structlog

from engine.core.inputs import requested_value
from engine.core.snapshot import Snapshot
from engine.decisionlog.record import DecisionRecord
from engine.domain import ContextValue, PropensitySource, Versions
from engine.models.scorer import CHURN, PROPENSITY
from engine.monitor.drift.alarms import DriftWatch
from engine.monitor.drift.binning import InputBinning, ModelReference, count_scores, read_reference
from engine.monitor.drift.counts import (
    BUCKETS,
    ChannelCounts,
    Flags,
    ModelCounts,
    Places,
    ScoreTally,
    Values,
    WindowCounts,
    buckets_of,
)
from engine.monitor.drift.examining import References
from engine.monitor.drift.windows import DAY_MS, WindowFolder, read_baseline
from engine.service.decisions import Clock
from engine.service.live import LiveSnapshot
from feature_store.schema import FeatureSchema
from feature_store.state import FeatureVector
from model_registry import Root, open_version
from model_registry.errors import RegistryError

_log = structlog.get_logger("engine.service.drifting")

BATCH: Final = 1024
"""Decisions counted at once: enough to share the cost of an array operation, few enough to hold."""
WAITING: Final = 16 * BATCH
"""Decisions that may wait; more are not counted, and the window says how many."""
_LOOK_S: Final = 1.0
"""How long a record waits at most before it is counted."""
_KEEP_S: Final = 5.0
"""How old a window's file is at most: what a killed process loses."""
_LAYOUTS: Final = 16
"""Sets of versions that are remembered: those that serve, with the shares of challengers."""
_LATE_MS: Final = 60_000
"""How long after its end a window may still get decisions: of threads that lag, and clocks that step."""

_MODEL = PropensitySource.MODEL
_TRUTHS: Final = ("no", "yes")
_VERSION, _TIMES, _UNREAD = map(attrgetter, ("schema_version", "view_times_ms", "unread"))


def reference_of(registry: Root, name: str, version: int) -> ModelReference | None:
    """The reference of a published version; None with a warning where it has none that can be read."""
    try:
        return read_reference(open_version(registry, name, version).read("histograms.json"))
    except (RegistryError, OSError, ValueError) as error:
        _log.warning("drift.reference_unreadable", model=f"{name}/{version}", cause=str(error))
        return None


class Seen(NamedTuple):
    """What of a decision is counted; of many decisions, a column of each."""

    now_ms: int
    versions: Versions
    customer_id: str
    channel: str
    action: str  # returned first, "" for none
    churn: float  # NaN where it was not scored
    features: FeatureVector | None  # of a customer who is profiled
    values: bytes  # its values: looked up later they would come from memory, not from a cache
    context: Mapping[str, ContextValue]
    scored: Sequence[str]  # returned actions that the propensity model scored
    scores: Sequence[float]  # their probabilities


def seen(record: DecisionRecord) -> Seen:
    """What is counted of a record. This is what a decision pays: a plain tuple is half as dear to make."""
    decision, request = record.decision, record.request
    features = record.state.features if decision.profiled else None
    actions, churn = decision.actions, decision.churn
    scored: list[str] = []
    scores: list[float] = []
    for action in actions:
        priority = action.priority
        if priority.propensity_source is _MODEL:
            scored.append(action.action_id)
            scores.append(priority.propensity)
    return (  # type: ignore[return-value]  # by place it is the same
        record.now_ms,
        decision.versions,
        request.customer_id,
        request.channel,
        actions[0].action_id if actions else "",
        nan if churn is None else churn.probability,
        features,
        b"" if features is None else features.values.tobytes(),
        request.context,
        scored,
        scores,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Columns:
    """What was seen of many decisions of one window and one set of versions, a sequence of each fact."""

    now_ms: Sequence[int]
    versions: Sequence[Versions]
    customer_ids: Sequence[str]
    channels: Sequence[str]
    actions: Sequence[str]
    churn: Sequence[float]
    features: Sequence[FeatureVector | None]
    values: Sequence[bytes]
    contexts: Sequence[Mapping[str, ContextValue]]
    scored: Sequence[Sequence[str]]
    scores: Sequence[Sequence[float]]


def _alike(batch: Sequence[Seen], window_ms: int) -> Iterator[tuple[int, _Columns]]:
    """A batch by the number of its window and by versions, which are one of each for nearly all."""
    columns = _Columns(*zip(*batch, strict=True))
    first, last = min(columns.now_ms) // window_ms, max(columns.now_ms) // window_ms
    if first == last and len(set(map(id, columns.versions))) == 1:
        yield first, columns
        return
    groups: dict[tuple[int, int], list[Seen]] = {}
    for each, now_ms, versions in zip(batch, columns.now_ms, columns.versions, strict=True):
        groups.setdefault((now_ms // window_ms, id(versions)), []).append(each)
    for (number, _), same in groups.items():
        yield number, _Columns(*zip(*same, strict=True))


def drift_references(registry: Root, schema: FeatureSchema, folder: Path) -> References:
    """What windows are compared with: an activated baseline, and what models were trained on."""

    @cache
    def training(model: str) -> ModelReference | None:
        name, _, version = model.rpartition("/")
        return reference_of(registry, name, int(version))

    numeric = frozenset(f.name for f in schema.feature if f.type in ("int", "double"))
    baseline = read_baseline(folder)
    labels = {f.name: f.categories or _TRUTHS for f in schema.feature if f.name not in numeric}
    return References(training, numeric, None if baseline is None else baseline.window, labels)


@dataclass(frozen=True, slots=True, eq=False)
class _Layout:
    """What is needed to count the decisions of one schema, catalogue and set of model versions."""

    schema: FeatureSchema
    target_of: Mapping[str, int]  # place in `targets` by action id
    targets: tuple[str, ...]
    models: Mapping[str, str]  # name and version, such as churn/1, by name
    binning: InputBinning


class DriftCounts:
    """Counts what was seen into the windows of one process. Not safe for threads: one counts."""

    def __init__(
        self, *, live: LiveSnapshot, reference_of: Callable[[str, int], ModelReference | None], window_ms: int
    ) -> None:
        self._live = live
        self._reference_of = reference_of
        self._window_ms = window_ms
        self._layouts: dict[tuple[object, ...], _Layout] = {}
        self._changed: set[int] = set()
        self._left_out = 0
        self._first = 0  # number of the first window that is not forgotten
        self.windows: dict[int, WindowCounts] = {}

    def count(self, batch: Sequence[Seen], *, left_out: int = 0) -> None:
        """Counts a batch, and `left_out` that there was no time for, in the last window there is or will be.

        What comes after its window was forgotten is left out too.
        """
        self._left_out += left_out
        for number, columns in _alike(batch, self._window_ms) if batch else ():
            if number < self._first:
                self._left_out += len(columns.now_ms)
                continue
            window = self._window(number)
            buckets = buckets_of(columns.customer_ids)
            _count_actions(window, columns, buckets)
            self._count_models(window, columns, buckets)
        if self._left_out and self.windows:
            self._window(max(self.windows)).uncounted += self._left_out
            self._left_out = 0

    def take_changed(self) -> list[WindowCounts]:
        """Windows in which something was counted since the last time this was asked."""
        changed, self._changed = self._changed, set()
        return [self.windows[number] for number in sorted(changed)]

    def forget_before(self, now_ms: int) -> bool:
        """Drops windows that had ended by then, which must be on disk; whether there were any."""
        ended = [number for number in self.windows if (number + 1) * self._window_ms <= now_ms]
        for number in ended:
            del self.windows[number]
            self._first = max(self._first, number + 1)
        return bool(ended)

    def _window(self, number: int) -> WindowCounts:
        self._changed.add(number)
        window = self.windows.get(number)
        if window is None:
            from_ms = number * self._window_ms
            window = self.windows[number] = WindowCounts(from_ms, from_ms + self._window_ms)
        return window

    def _count_models(self, window: WindowCounts, columns: _Columns, buckets: Places) -> None:
        """Counts what the models read and said of customers who are profiled."""
        size = len(columns.features)
        profiled = _profiled(columns)
        layout = self._layout(columns.versions[0])
        if layout is None:
            window.uncounted += int(profiled.sum())
        if layout is None or not profiled.any():
            return
        churn = np.fromiter(columns.churn, np.float64, size)
        reading: dict[str, Flags] = {}
        scores: dict[str, dict[str, ScoreTally]] = {}
        for name, model in layout.models.items():
            if name == CHURN:
                reading[model] = profiled & ~np.isnan(churn)
                scores[model] = _of_churn(churn[reading[model]])
            elif name == PROPENSITY:
                # Asked of every candidate. Only those in whose answer a score of it is would be a choice of
                # customers, by the very rules that make the answer, and look like drift.
                reading[model] = profiled & np.fromiter(map(bool, columns.actions), np.bool_, size)
                scores[model] = _of_targets(columns, layout)
        vectors, unread = _vectors(layout.schema, columns)
        inputs = layout.binning.count(vectors, reading, unread)
        for model, read in reading.items():
            count = int(np.count_nonzero(read))
            if count:
                customers = np.bincount(buckets[read], minlength=BUCKETS)
                counted = ModelCounts(count, customers, inputs[model], scores[model])
                before = window.models.get(model)
                window.models[model] = counted if before is None else before + counted

    def _layout(self, versions: Versions) -> _Layout | None:
        """The layout of a decision's versions; None for those that no longer serve and were not seen."""
        key = (versions.feature_schema, versions.catalogue, *sorted(versions.models.items()))
        layout = self._layouts.get(key)
        if layout is None:
            snapshot = self._live.current
            serving = snapshot.versions
            if (serving.feature_schema, serving.catalogue) != key[:2]:
                return None
            if len(self._layouts) >= _LAYOUTS:
                self._layouts.clear()
            layout = self._layouts[key] = self._laid_out(snapshot, versions)
        return layout

    def _laid_out(self, snapshot: Snapshot, versions: Versions) -> _Layout:
        targets = tuple(sorted({action.target for action in snapshot.rulebook.actions if action.target}))
        place = {target: i for i, target in enumerate(targets)}
        models = {name: f"{name}/{version}" for name, version in versions.models.items()}
        found = {models[name]: self._reference_of(name, version) for name, version in versions.models.items()}
        references = {model: reference for model, reference in found.items() if reference is not None}
        return _Layout(
            snapshot.schema,
            {action.id: place[action.target] for action in snapshot.rulebook.actions if action.target},
            targets,
            models,
            InputBinning(references, snapshot.schema),
        )


def _count_actions(window: WindowCounts, columns: _Columns, buckets: Places) -> None:
    """Which action was returned first, by channel; also of customers who are not profiled."""
    for (channel, action), times in Counter(zip(columns.channels, columns.actions, strict=True)).items():
        counts = window.channels.setdefault(channel, ChannelCounts())
        counts.decisions += times
        counts.actions[action] = counts.actions.get(action, 0) + times
    channels = sorted(set(columns.channels))
    start = {channel: i * BUCKETS for i, channel in enumerate(channels)}
    places = buckets + list(map(start.__getitem__, columns.channels))
    found = np.bincount(places, minlength=len(channels) * BUCKETS).reshape(-1, BUCKETS)
    for channel, customers in zip(channels, found, strict=True):
        counts = window.channels[channel]
        counts.customers = counts.customers + customers


def _profiled(columns: _Columns) -> Flags:
    """Which decisions are of customers who consent to profiling."""
    if None not in columns.features:
        return np.ones(len(columns.features), dtype=np.bool_)
    return np.array([features is not None for features in columns.features])


def _of_churn(scores: Values) -> dict[str, ScoreTally]:
    return count_scores(np.zeros(len(scores), dtype=np.intp), scores, (CHURN,))


def _of_targets(columns: _Columns, layout: _Layout) -> dict[str, ScoreTally]:
    """Scores of the returned actions, by target."""
    no_target = len(layout.targets)
    scores = np.fromiter(chain.from_iterable(columns.scores), np.float64)
    actions = chain.from_iterable(columns.scored)
    places = np.fromiter(map(layout.target_of.get, actions, repeat(no_target)), np.intp, len(scores))
    found = count_scores(places, scores, (*layout.targets, ""))
    found.pop("", None)
    return found


def vectors_read(
    schema: FeatureSchema, batch: Sequence[Seen]
) -> tuple[npt.NDArray[np.float32], Flags | None]:
    """What models read of decisions, float32 (n, features), and what another schema could not tell."""
    return _vectors(schema, _Columns(*zip(*batch, strict=True)))


def _vectors(
    schema: FeatureSchema, columns: _Columns
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_] | None]:
    """What models read, as `engine.core.inputs.current_vector` has it but for all at once, (n, features).

    The second is what another schema could not tell, bool (n, features); None where all could be told. Rows
    of customers who are not profiled, and of vectors that do not fit the schema, are NaN.
    """
    size, views = len(schema.feature), len(schema.view)
    packed: Sequence[Any] = columns.features
    known, fit_rows = columns.values, np.arange(len(packed))
    if None in packed or set(map(_VERSION, packed)) != {schema.digest}:
        fits = [each is not None and each.schema_version == schema.digest for each in packed]
        packed, known = list(compress(packed, fits)), list(compress(known, fits))
        fit_rows = np.flatnonzero(fits)
    stored = np.frombuffer(b"".join(known), dtype=np.float32).reshape(-1, size)
    times_ms = np.fromiter(chain.from_iterable(map(_TIMES, packed)), np.int64, len(packed) * views)
    now_ms = np.array(columns.now_ms, dtype=np.int64)[fit_rows, None]
    fresh_ms = np.array([view.freshness_ms for view in schema.view], dtype=np.int64)
    values = np.where(np.isnan(stored), schema.defaults, stored)
    unread = _unread(packed, values)
    stale = now_ms - times_ms.reshape(-1, views) >= fresh_ms
    if stale.any():
        values[stale[:, schema.view_index]] = np.nan
    if len(packed) < len(columns.features):
        count = len(columns.features)
        values, unread = _spread(values, fit_rows, count), _spread(unread, fit_rows, count)
    for place, feature in schema.requested:
        values[:, place] = [requested_value(feature, facts.get(feature.name)) for facts in columns.contexts]
    return values, unread


def _unread(packed: Sequence[FeatureVector], values: npt.NDArray[np.float32]) -> Flags | None:
    """What another schema could not tell, which is blanked in `values`; None where there is none."""
    if not any(map(_UNREAD, packed)):
        return None
    unread = np.zeros(values.shape, dtype=np.bool_)
    for row, each in enumerate(packed):
        unread[row, list(each.unread)] = True
    values[unread] = np.nan
    return unread


@overload
def _spread(rows: npt.NDArray[np.float32], places: Places, count: int) -> npt.NDArray[np.float32]: ...
@overload
def _spread(rows: Flags | None, places: Places, count: int) -> Flags | None: ...


def _spread(rows: npt.NDArray[Any] | None, places: Places, count: int) -> npt.NDArray[Any] | None:
    """Rows at their places among `count`; the others are NaN, or false."""
    if rows is None:
        return None
    blank = np.nan if rows.dtype == np.float32 else False
    found = np.full((count, rows.shape[1]), blank, dtype=rows.dtype)
    found[places] = rows
    return found


class DriftCounting:
    """Counts decisions in a thread that runs inside the `with` block. Safe for threads."""

    def __init__(
        self,
        *,
        counts: DriftCounts,
        folder: WindowFolder,
        clock: Clock,
        keep_days: int,
        watch: DriftWatch | None = None,
    ) -> None:
        """`watch` looks for alarms in the same thread, once the counts are on disk."""
        self._counts = counts
        self._folder = folder
        self._clock = clock
        self._keep_days = keep_days
        self._watch = watch
        self._writer = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._waiting: deque[Seen] = deque()
        self._left_out = 0
        self._wake = threading.Event()
        self._counting = False
        self._stopping = False
        self._kept_s = 0.0
        self._thread = threading.Thread(target=self._run, name="drift-counts", daemon=True)

    def __enter__(self) -> Self:
        self._counting = True
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._counting, self._stopping = False, True
        self._wake.set()
        self._thread.join()

    def offer(self, record: DecisionRecord) -> None:
        """Takes a decision that was made; outside the block it is not counted. Never waits, never raises."""
        if not self._counting:
            return
        waiting = self._waiting
        if len(waiting) >= WAITING:
            self._left_out += 1
            return
        waiting.append(seen(record))
        if len(waiting) == BATCH:
            self._wake.set()

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(_LOOK_S)
            self._wake.clear()
            self._guarded(self._count_waiting)
            if time.monotonic() - self._kept_s >= _KEEP_S:
                self._guarded(self._keep)
        self._guarded(self._count_waiting)
        self._guarded(self._keep)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception:  # whatever is wrong with counting, replies go on
            _log.exception("drift.counting_failed")

    def _count_waiting(self) -> None:
        waiting = self._waiting
        while waiting or self._left_out:
            left_out, self._left_out = self._left_out, 0
            batch = [waiting.popleft() for _ in range(min(len(waiting), BATCH))]
            self._counts.count(batch, left_out=left_out)

    def _keep(self) -> None:
        self._kept_s = time.monotonic()
        changed = self._counts.take_changed()
        for window in changed:
            self._folder.keep(window, writer=self._writer)
        now_ms = self._clock()
        if self._counts.forget_before(now_ms - _LATE_MS):
            self._folder.remove_before(now_ms - self._keep_days * DAY_MS)
        if self._watch is not None:
            self._watch.look(now_ms)
