"""`arbiter rules diff`: two rule sets compared in words, and on the customers of a data directory."""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from engine.bootstrap import wall_clock_ms
from engine.core.rulebook import Rulebook
from engine.core.snapshot import Snapshot
from engine.decisionlog.errors import LogError
from engine.decisionlog.log import DecisionLog
from engine.errors import SetupInvalid
from engine.publishing import NamedSet, named_set
from engine.ruleset.changes import Change, changes
from engine.ruleset.reading import files_read_once
from engine.ruleset.segments import named_segments
from engine.schemas_kept import archived_schemas, schema_versions
from engine.service.impact import Case, Impact, compare, demo_cases
from engine.settings import EMBEDDED, Settings
from engine.snapshots import compile_snapshot
from engine.stores import open_store
from feature_store.errors import StoreError
from feature_store.schema import FeatureSchema


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two rule sets: what it was called, and its content address."""

    name: str
    rules: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What to decide with both: customers on channels, or the last `logged` decisions instead."""

    channels: tuple[str, ...] = ()  # empty: all the channels there are
    logged: int = 0
    by: tuple[str, ...] = ("contract",)
    customers: int | None = None  # at most so many


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleDiff:
    """Everything the comparison found. `cases_are` says in words what was decided twice."""

    before: Side
    after: Side
    currency: str
    changes: tuple[Change, ...]
    cases_are: str
    impact: Impact
    compile_s: float
    read_s: float  # reading customers or the log
    decide_s: float

    @property
    def run_s(self) -> float:
        """The whole comparison."""
        return self.compile_s + self.read_s + self.decide_s


def diff(settings: Settings, before: str, after: str, *, asked: Asked) -> RuleDiff:
    """Compares the rule sets that two names mean. Raises SetupInvalid."""
    with _without_collection(), files_read_once():
        return _diff(settings, before, after, asked)


def _diff(settings: Settings, before: str, after: str, asked: Asked) -> RuleDiff:
    started = time.perf_counter()
    was, now = (named_set(settings, name) for name in (before, after))
    old = _compiled(settings, was)
    new = _compiled(settings, now, beside=old)
    found = changes(was.archived.sources, now.archived.sources)
    segments = named_segments(now.archived.sources, new.schema)
    compiled = time.perf_counter()
    cases, cases_are = _cases(settings, old.rulebook, new, asked)
    read = time.perf_counter()
    impact = compare(old, new, cases, by=asked.by, groups=segments)
    return RuleDiff(
        before=Side(was.label, old.versions.rules),
        after=Side(now.label, new.versions.rules),
        currency=new.rulebook.currency,
        changes=found,
        cases_are=cases_are,
        impact=impact,
        compile_s=compiled - started,
        read_s=read - compiled,
        decide_s=time.perf_counter() - read,
    )


@contextmanager
def _without_collection() -> Iterator[None]:
    """What is made here is needed to the end, and looking for cycles in it costs a tenth of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _compiled(settings: Settings, named: NamedSet, *, beside: Snapshot | None = None) -> Snapshot:
    try:
        return compile_snapshot(named.archived, settings.registry, beside=beside)
    except SetupInvalid as error:
        raise SetupInvalid(f"{named.label} cannot serve: {error}") from error


def _cases(settings: Settings, old: Rulebook, after: Snapshot, asked: Asked) -> tuple[Sequence[Case], str]:
    """What to decide twice, and what that is in words. Both rule sets read the same feature schema."""
    new, schema = after.rulebook, after.schema
    if asked.logged:
        cases, cases_are = _logged(settings, schema, asked.logged)
        return cases, cases_are + _unread(cases, schema)
    channels = asked.channels or tuple(c for c in new.vocabulary.channels if c in old.vocabulary.channels)
    unknown = sorted(set(channels) - new.vocabulary.channels.keys() - old.vocabulary.channels.keys())
    if unknown or not channels:
        known = ", ".join(new.vocabulary.channels)
        raise SetupInvalid(f"no rule set has a channel {', '.join(unknown)}; known: {known}")
    cases = _customers(settings, schema, channels, new.vocabulary.languages[0], asked.customers)
    where = f"on {channels[0]}" if len(channels) == 1 else f"each on one of {', '.join(channels)}"
    return (
        cases,
        f"customers, {where}, without context{_unread(cases, schema)}"
        if cases
        else "customers: the data directory has none",
    )


def _unread(cases: Sequence[Case], schema: FeatureSchema) -> str:
    """A remark on cases whose features nobody can read."""
    features = (case.state.features for case in cases)
    count = sum(vector is not None and vector.schema_version != schema.digest for vector in features)
    return f" (for {count:,} of them features of a schema that is not kept count as missing)" if count else ""


def _customers(
    settings: Settings,
    schema: FeatureSchema,
    channels: tuple[str, ...],
    language: str,
    limit: int | None,
) -> Sequence[Case]:
    """A case for each customer of the store, with features of whatever schema read in today's."""
    if settings.store == EMBEDDED and not (settings.data_dir / "store").is_dir():
        return ()
    try:
        store = open_store(settings, patient=True)
        try:
            read = (
                store.read(name) for i, name in enumerate(store.customers()) if limit is None or i < limit
            )
            versions, now_ms = schema_versions(settings, store), wall_clock_ms()
            states = (versions.state(state, schema, now_ms=now_ms) for state in read if state is not None)
            return list(demo_cases(states, channels=channels, language=language, now_ms=now_ms))
        finally:
            store.close()
    except StoreError as error:
        raise SetupInvalid(str(error)) from error


def _logged(settings: Settings, schema: FeatureSchema, count: int) -> tuple[Sequence[Case], str]:
    """The last decisions as they were asked, with features of whatever schema read in today's."""
    folder = settings.data_dir / "decisions"
    if not folder.is_dir():
        raise SetupInvalid(f"{folder}: there is no decision log; name its folder with --data-dir")
    try:
        last = deque(DecisionLog(folder).scan(), maxlen=count)
    except LogError as error:
        raise SetupInvalid(str(error)) from error
    versions = archived_schemas(settings)  # every schema that decisions were made with
    return [
        Case(r.request, versions.state(r.state, schema, now_ms=r.now_ms), r.now_ms, r.supplied) for r in last
    ], f"of the last {count:,} logged decisions"
